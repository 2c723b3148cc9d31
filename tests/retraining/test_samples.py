"""What trains of a site's readings, and what of it is a target."""

from __future__ import annotations

import numpy as np
import pytest

from resmtnet.errors import InputError
from resmtnet.readings.record import Reading
from resmtnet.retraining.samples import (
    gather,
    gather_rejected,
    is_held_out,
    sample_of,
    split_by_patient,
    targets_of_samples,
)


def read(reader: str = "A", nodule: str = "1", **said) -> Reading:
    values = {"image": "ct", "nodule": nodule, "reader": reader, "centre_lps_mm": (1.0, 2.0, 3.0)}
    return Reading(**{**values, **said})


def targets(world, *readings: Reading, **asked):
    (said,) = gather(readings, **asked)
    return {k: v.numpy() for k, v in targets_of_samples([sample_of(said, world.site[0])]).items()}


@pytest.mark.parametrize(
    "said",
    [
        {"class_name": "not_a_nodule"},
        {"class_name": "malignant", "excluded": True},
        {"class_name": "malignant", "acceptance": "bulk"},
        {"class_name": "malignant", "evidence": "histology"},
        {"comment": "looked at it"},
    ],
    ids=["not a nodule", "excluded", "bulk", "histology unasked", "nothing said"],
)
def test_reading_that_does_not_train_makes_no_sample(said):
    assert gather([read(**said)]) == []


def test_reader_who_says_not_a_nodule_leaves_the_others_their_word(world):
    found = targets(world, read("A", malignancy=5), read("B", class_name="not_a_nodule"))
    assert found["class"][0].tolist() == [0.0, 1.0]
    assert found["malignancy"][0].tolist() == [0, 0, 0, 0, 1]


def test_a_place_that_all_its_readers_reject_is_gathered_as_such():
    said = [read("A", class_name="not_a_nodule"), read("B", class_name="not_a_nodule")]
    (place,) = gather_rejected(said)
    assert set(place.reading_ids) == {r.id for r in said}
    assert place.votes == ()


@pytest.mark.parametrize(
    "others",
    [
        [{"reader": "B", "malignancy": 2}],
        [{"reader": "B", "sizes": {"long_axis_mm": 7.0}}],
        [{"reader": "A", "malignancy": 3}],
    ],
    ids=["another rates it", "another measures it", "its reader thinks again"],
)
def test_a_place_that_somebody_calls_a_nodule_is_not_rejected(others):
    said = [read("A", class_name="not_a_nodule"), *(read(**one) for one in others)]
    assert gather_rejected(said) == []


@pytest.mark.parametrize("left_out", [{"excluded": True}, {"acceptance": "bulk"}])
def test_a_rejection_that_does_not_train_is_not_gathered(left_out):
    assert gather_rejected([read(class_name="not_a_nodule", **left_out)]) == []


def test_class_alone_trains_nothing_but_the_class(world):
    found = targets(world, read(class_name="malignant"))
    assert found["class"][0].tolist() == [0.0, 1.0]
    weights = {k: float(v[0]) for k, v in found.items() if k.endswith("_weight")}
    assert {k for k, v in weights.items() if v} == {"class_weight"}


def test_size_alone_trains_nothing_but_the_sizes(world):
    found = targets(world, read(sizes={"equivalent_diameter_mm": 10.0}))
    weights = {k: float(v[0]) for k, v in found.items() if k.endswith("_weight")}
    assert {k for k, v in weights.items() if v} == {"equivalent_diameter_mm_weight"}
    assert found["equivalent_diameter_mm"][0] == pytest.approx(np.log(10))


def test_readers_of_one_nodule_train_as_a_distribution_with_spread(world):
    found = targets(
        world,
        read("A", malignancy=2, sizes={"long_axis_mm": 10.0}),
        read("B", malignancy=4, sizes={"long_axis_mm": 12.0}),
    )
    assert found["malignancy"][0].tolist() == [0, 0.5, 0, 0.5, 0]
    assert found["class"][0].tolist() == [0.5, 0.5]
    assert found["long_axis_mm"][0] == pytest.approx(np.log(11))
    assert found["long_axis_mm_variance"][0] == pytest.approx(np.var(np.log([10, 12]), ddof=1))


def test_class_that_was_named_outweighs_a_rating_that_contradicts_it(world):
    assert targets(world, read(class_name="benign", malignancy=4))["class"][0].tolist() == [1, 0]


def test_histology_replaces_the_class_where_it_is_asked_for_and_nothing_else(world):
    both = read("A", malignancy=2), read("A", class_name="malignant", evidence="histology")
    plain = targets(world, *both)
    asked = targets(world, *both, evidence=("impression", "histology"))
    assert plain["class"][0].tolist() == [1, 0]
    assert asked["class"][0].tolist() == [0, 1]
    assert asked["malignancy"][0].tolist() == plain["malignancy"][0].tolist() == [0, 1, 0, 0, 0]


def test_histology_is_never_mixed_with_impressions(world):
    votes = [read(name, malignancy=1) for name in "ABC"]
    proven = read("D", class_name="malignant", evidence="histology")
    found = targets(world, *votes, proven, evidence=("impression", "histology"))
    assert found["class"][0].tolist() == [0, 1]


def test_unknown_evidence_is_refused_with_what_is_allowed():
    with pytest.raises(InputError, match=r"got 'rumour'.*impression, histology"):
        gather([read()], ("rumour",))


def test_sample_says_what_its_readers_say_of_what_the_model_saw(world):
    (said,) = gather([read("A", malignancy=4, sizes={"volume_mm3": 500.0})])
    sample = sample_of(said, world.site[0])
    assert sample.held.case.malignancy == (4,)
    assert sample.held.truth == pytest.approx(
        {"volume_mm3": 500.0, "equivalent_diameter_mm": 9.847}, rel=1e-3
    )
    assert sample.held.observation is world.site[0].observation


def test_image_without_a_pseudonym_is_its_own_patient():
    (nameless,) = gather([read(malignancy=1)])
    assert nameless.patient_id == "ct"


def patients(readings) -> dict[str, str]:
    return {one.id: one.patient_id for one in gather(readings)}


def test_all_nodules_of_an_image_are_of_one_patient_whoever_named_it():
    posted = read(malignancy=1, study_patient="P1")
    drawn = read("A", "2", malignancy=1)
    assert patients([posted, drawn]) == patients([drawn, posted]) == {"ct/1": "P1", "ct/2": "P1"}


def test_images_that_share_a_pseudonym_are_of_one_patient_in_any_order():
    readings = [
        read(image=image, malignancy=1, study_patient=patient)
        for image, patient in (("a", "Q"), ("b", "P"), ("c", "P"), ("d", "R"))
    ]
    readings.append(read("B", image="b", malignancy=1, study_patient="Q"))
    expected = {"a/1": "P", "b/1": "P", "c/1": "P", "d/1": "R"}
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(readings))
        assert patients(readings[n] for n in order) == expected


def test_a_pseudonym_that_only_a_reading_that_does_not_train_gives_counts_too():
    readings = read("A", malignancy=1), read("B", excluded=True, study_patient="P")
    assert patients(readings) == {"ct/1": "P"}


def test_every_reading_of_which_something_stands_is_named():
    sized, wrong, rated, remark = (
        read(sizes={"long_axis_mm": 8.0}),
        read(malignancy=1),
        read(malignancy=4),
        read(comment="seen twice"),
    )
    (said,) = gather([sized, wrong, rated, remark, read("B", class_name="not_a_nodule")])
    assert set(said.reading_ids) == {sized.id, rated.id}
    assert (said.record.long_axis_mm, said.votes) == (8.0, (4,))


def test_patients_stay_whole_and_held_out_whatever_else_is_read(world):
    few, many = world.samples(count=40), world.samples()
    _, out_of_few = split_by_patient(few)
    train, out = split_by_patient(many)
    assert {s.patient_id for s in train}.isdisjoint(s.patient_id for s in out)
    assert {s.patient_id for s in out_of_few} <= {s.patient_id for s in out}
    assert len(train) + len(out) == len(many)


def test_share_and_seed_decide_who_is_held_out():
    names = [f"patient {n}" for n in range(2000)]
    out = [is_held_out(name, 0.2) for name in names]
    assert np.mean(out) == pytest.approx(0.2, abs=0.03)
    assert out != [is_held_out(name, 0.2, seed=1) for name in names]
