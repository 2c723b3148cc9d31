"""Which of several scored studies is read next."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from resmtnet.active.choice import diverse, informative, leading, worth
from resmtnet.active.study_scores import ScoredStudy


def scored(
    *nodules: dict[str, float],
    image: str = "study",
    patient: str | None = None,
    embedding: Sequence[float] = (0.0, 0.0),
) -> ScoredStudy:
    """A study with candidates; what is not said of one is of a clear, solid nodule of 7 mm."""
    plain = {
        "candidate_score": 1.0,
        "probability_malignant": 0.0,
        "score": 2.0,
        "score_width": 1.0,
        "diameter_mm": 7.0,
        "diameter_width": 0.2,
        "texture": 5.0,
        "texture_entropy": 0.1,
        "out_of_distribution": 0.5,
    }
    rows = [plain | nodule for nodule in nodules]
    return ScoredStudy(
        image=image,
        patient=patient,
        centres_lps_mm=np.arange(3.0 * len(rows)).reshape(-1, 3),
        embeddings=np.array([embedding] * len(rows), float).reshape(len(rows), len(embedding)),
        **{name: np.array([row[name] for row in rows]) for name in plain},
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def first(free: Sequence[ScoredStudy], done: Sequence[ScoredStudy] = ()) -> str:
    return informative(free, done, rng()).order[0]


def test_what_is_unlike_the_read_ones_is_wanted_next() -> None:
    free = [
        scored({"probability_malignant": 0.5}, image=f"{x:g}", embedding=(x, 1.0))
        for x in (1.0, 4.0, 9.0)
    ]
    done = [scored({}, embedding=(1.0, 1.0))] * 3
    chosen = informative(free, done, rng())
    assert chosen.order == ("9", "4", "1")
    assert first(free, [scored({}, embedding=(9.0, 1.0))] * 3) == "1"
    assert (chosen.score or 0) > 0
    assert re.search(
        r"\. Expected information \d\.\d\d \(median study \d\.\d\d\)\. Small nodules .* The",
        chosen.why,
    )


def test_an_undecided_class_is_wanted_more() -> None:
    clear = scored({}, image="clear")
    undecided = scored({"probability_malignant": 0.5}, image="undecided")
    assert first([clear, undecided]) == first([undecided, clear]) == "undecided"


def test_a_small_nodule_that_may_be_malignant_is_wanted_more() -> None:
    undecided = {"probability_malignant": 0.4}
    large = scored(undecided | {"diameter_mm": 14.0}, image="large")
    small = scored(undecided | {"diameter_mm": 8.0}, image="small")
    assert first([large, small]) == first([small, large]) == "small"
    assert "Small nodules that may be malignant" in informative([large, small], (), rng()).why
    assert "Small nodules" not in informative([large], (), rng()).why
    benign = scored({"probability_malignant": 0.1, "diameter_mm": 8.0}, image="benign")
    assert first([benign, large]) == "large"


def test_what_looks_like_no_nodule_is_wanted_less() -> None:
    undecided = {"probability_malignant": 0.5}
    free = [
        scored(undecided | {"candidate_score": 0.1}, image="vessel"),
        scored(undecided | {"out_of_distribution": 4.0}, image="unlike all"),
        scored(undecided, image="nodule"),
    ]
    assert first(free) == "nodule"


def test_another_study_of_a_patient_who_was_read_is_wanted_less() -> None:
    def study(image: str, x: float, patient: str | None) -> ScoredStudy:
        return scored({}, image=image, patient=patient, embedding=(x, 0.0))

    free = [study("same", 8.0, "ann"), study("other", 7.0, "bob")]
    assert first(free, [study("read", 1.0, "ann")] * 3) == "other"
    assert first(free, [study("read", 1.0, "eve")] * 3) == "same"
    unknown = [study("same", 8.0, None), study("other", 7.0, None)]
    assert first(unknown, [study("read", 1.0, None)] * 3) == "same"


def test_what_the_model_doubts_leads_its_study() -> None:
    for name, value in (
        ("probability_malignant", 0.5),
        ("score_width", 3.5),
        ("diameter_width", 1.2),
        ("texture_entropy", 1.5),
    ):
        assert leading(scored({}, {name: value}, {})) == 1, name


def test_a_study_without_candidates_is_wanted_last_but_can_be_chosen() -> None:
    nothing = scored(image="nothing")
    full = [scored({"probability_malignant": 0.4}, image=f"full {n}") for n in range(3)]
    chosen = informative([nothing, *full], [], rng(1))
    assert sorted(chosen.order) == ["full 0", "full 1", "full 2", "nothing"]
    assert chosen.order[-1] == "nothing"
    alone = informative([nothing], [], rng())
    assert alone.order == ("nothing",)
    assert "No nodule candidate" in alone.why
    assert alone.nodules == ()


def test_the_leading_candidate_speaks_for_its_study() -> None:
    study = scored({}, {"probability_malignant": 0.5}, {"candidate_score": 0.2})
    assert leading(study) == 1
    assert worth(study).argmax() == 1
    (first, *_) = informative([study], [], rng()).nodules
    assert first["centre_lps_mm"] == [3.0, 4.0, 5.0]


def test_an_unmeasured_size_is_no_number_in_the_reply() -> None:
    study = scored({"diameter_mm": np.nan, "diameter_width": np.nan})
    chosen = informative([study], [], rng())
    assert chosen.nodules[0]["equivalent_diameter_mm"] is None
    assert "nan" not in chosen.why.replace("malignant", "")


def test_diverse_wants_what_is_least_like_the_read_ones() -> None:
    free = [scored({}, image=str(x), embedding=(x, 0.0)) for x in (1.0, 5.0, 9.0)]
    done = [scored({}, embedding=(0.0, 0.0))]
    assert diverse(free, done, rng()).order == ("9.0", "5.0", "1.0")
    done.append(scored({}, embedding=(8.0, 0.0)))
    assert diverse(free, done, rng()).order[0] == "5.0"


def test_diverse_can_do_without_embeddings() -> None:
    chosen = diverse([scored(image="empty")], [], rng())
    assert chosen.order == ("empty",)
