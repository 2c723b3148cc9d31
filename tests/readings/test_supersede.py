"""What stands of the readings of one reader: corrections in part, and their limits."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from resmtnet.readings.record import Answered, MaskReference, Reading
from resmtnet.readings.supersede import by_reader, effective, merge, standing_parts

MASK = MaskReference("a.nrrd", "a")
SIZED = {"long_axis_mm": 8.0, "volume_mm3": 200.0, "solid_component_mm": 4.0}


def made(**fields: Any) -> Reading:
    """A reading of Ann's of one nodule."""
    given = {"centre_lps_mm": (0.0, 0.0, 0.0), "nodule": "n", **fields}
    return Reading("ct", "ann", **given)


def answer(seen: bool) -> Answered:
    return Answered("2", "ab", {"id": "N1"}, seen)


def test_fields_that_the_later_reading_leaves_out_hold() -> None:
    earlier = made(
        class_name="malignant",
        malignancy=5,
        sizes=SIZED,
        characteristics={"texture": 3, "margin": 2},
        comment="seen before",
        mask=MASK,
        answered=answer(False),
        study_patient="P",
    )
    later = made(characteristics={"margin": 4}, source="markups")
    merged = merge(earlier, later)
    assert (merged.class_name, merged.malignancy) == ("malignant", 5)
    assert merged.sizes == SIZED
    assert merged.characteristics == {"texture": 3, "margin": 4}
    assert (merged.comment, merged.study_patient) == ("seen before", "P")
    assert (merged.mask, merged.answered) == (MASK, earlier.answered)
    assert (merged.id, merged.made_at, merged.source) == (later.id, later.made_at, "markups")


def test_fields_of_the_later_reading_win() -> None:
    earlier = made(class_name="benign", malignancy=1, comment="a", answered=answer(False))
    later = made(class_name="malignant", malignancy=5, comment="b", answered=answer(True))
    assert merge(earlier, later) == later


APART = (
    (made(sizes=SIZED), made(class_name="benign", excluded=True)),
    (made(sizes=SIZED, excluded=True), made(class_name="benign")),
    (made(sizes=SIZED, acceptance="bulk"), made(class_name="benign")),
    (made(sizes=SIZED), made(class_name="not_a_nodule")),
    (made(class_name="not_a_nodule"), made(malignancy=3)),
)


@pytest.mark.parametrize(("earlier", "later"), APART)
def test_nothing_holds_where_the_two_cannot_be_of_one_mind(
    earlier: Reading, later: Reading
) -> None:
    assert merge(earlier, later) == later
    assert standing_parts([earlier, later]) == [later]


def test_what_is_accepted_in_bulk_does_not_replace_a_word_of_ones_own() -> None:
    own, bulk = (
        made(class_name="malignant", sizes=SIZED),
        made(class_name="benign", acceptance="bulk"),
    )
    later = made(malignancy=4)
    assert effective([own, bulk]) == own
    assert standing_parts([own, bulk]) == [own]
    assert effective([bulk, own, bulk, later]).sizes == SIZED
    taken_back = made(excluded=True)
    assert effective([own, taken_back, bulk]) == bulk


def test_a_remark_does_not_make_a_nodule_of_what_is_none() -> None:
    earlier, later = made(class_name="not_a_nodule"), made(comment="a vessel")
    assert merge(earlier, later).class_name == "not_a_nodule"


@pytest.mark.parametrize("class_name", ["benign", "indeterminate", "malignant"])
@pytest.mark.parametrize("rating", range(1, 6))
def test_a_class_and_a_rating_that_contradict_one_another_do_not_both_hold(
    class_name: str, rating: int
) -> None:
    means = {1: "benign", 2: "benign", 3: "indeterminate", 4: "malignant", 5: "malignant"}
    agree = means[rating] == class_name
    merged = merge(made(class_name=class_name), made(malignancy=rating))
    assert (merged.class_name, merged.malignancy) == (class_name if agree else None, rating)
    merged = merge(made(malignancy=rating), made(class_name=class_name))
    assert (merged.class_name, merged.malignancy) == (class_name, rating if agree else None)


def test_a_size_of_another_kind_is_added() -> None:
    merged = merge(made(sizes={"long_axis_mm": 8.0}), made(sizes={"short_axis_mm": 6.0}))
    assert merged.sizes == {"long_axis_mm": 8.0, "short_axis_mm": 6.0}


def test_a_size_that_is_measured_anew_takes_the_others_and_the_mask_with_it() -> None:
    merged = merge(made(sizes=SIZED, mask=MASK), made(sizes={"long_axis_mm": 20.0}))
    assert (merged.sizes, merged.mask) == ({"long_axis_mm": 20.0}, None)


def test_a_new_solid_component_leaves_the_size_of_the_whole() -> None:
    merged = merge(made(sizes=SIZED, mask=MASK), made(sizes={"solid_component_mm": 5.0}))
    assert merged.sizes == SIZED | {"solid_component_mm": 5.0}
    assert merged.mask == MASK


def test_each_word_stays_with_the_answer_that_it_was_given_to() -> None:
    blinded = made(malignancy=4, sizes={"long_axis_mm": 8.0}, answered=answer(False))
    unblinded = made(malignancy=5, answered=answer(True))
    first, second = standing_parts([blinded, unblinded])
    assert (first.malignancy, first.sizes, first.answered) == (None, blinded.sizes, answer(False))
    assert (second.malignancy, second.sizes, second.answered) == (5, {}, answer(True))


def test_readings_of_which_nothing_stands_are_left_out() -> None:
    chain = [made(malignancy=1), made(malignancy=2), made(malignancy=3)]
    assert standing_parts(chain) == chain[-1:]


def test_readings_of_another_nodule_reader_or_evidence_are_chains_of_their_own() -> None:
    readings = [
        made(malignancy=1),
        made(nodule="m"),
        made(evidence="histology"),
        Reading("ct", "bob", nodule="n"),
        Reading("other", "ann", nodule="n"),
        made(malignancy=2),
    ]
    assert [len(chain) for chain in by_reader(readings)] == [1, 1, 1, 1, 2]
    assert by_reader(readings)[-1] == [readings[0], readings[5]]


def said(reading: Reading) -> dict[str, Any]:
    """What it says of the nodule, by field."""
    flat = {"class": reading.class_name, "malignancy": reading.malignancy}
    flat |= {**reading.sizes, **reading.characteristics}
    return {name: value for name, value in flat.items() if value is not None}


@pytest.mark.parametrize("seed", range(30))
def test_the_parts_together_say_what_stands_and_each_thing_once(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some(**choices: Any) -> Any:
        return {n: rng.choice(of).item() for n, of in choices.items() if rng.random() < 0.4}

    for _ in range(20):
        chain = [
            made(
                **some(
                    class_name=["benign", "malignant", "indeterminate", "not_a_nodule"],
                    malignancy=[1, 2, 3, 4, 5],
                ),
                sizes=some(long_axis_mm=[8.0, 9.0], short_axis_mm=[5.0, 6.0]),
                characteristics=some(texture=[1, 5], margin=[2, 3]),
                excluded=bool(rng.random() < 0.1),
            )
            for _ in range(rng.integers(1, 6))
        ]
        parts = [said(part) for part in standing_parts(chain)]
        assert not any(set(a) & set(b) for (m, a), (n, b) in _pairs(parts) if m < n)
        together = {name: value for part in parts for name, value in part.items()}
        assert together == said(effective(chain))


def _pairs(parts: list[dict[str, Any]]) -> Any:
    return product(enumerate(parts), repeat=2)


def test_a_repeat_corrects_nothing_and_trains_nothing() -> None:
    first, again = made(malignancy=2), made(malignancy=5, purpose="repeat")
    later = made(malignancy=3)
    chains = by_reader([first, again, later])
    assert sorted([r.malignancy for r in chain] for chain in chains) == [[2, 3], [5]]
    assert [effective(chain).trains for chain in chains] == [chain[0] is first for chain in chains]
