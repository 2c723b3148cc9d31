"""No patient on both sides."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from resmtnet.config import TrainingConfig
from resmtnet.data.splits import (
    Splits,
    check_leakage,
    check_patients,
    folds_by_patient,
    split_by_fold,
)
from resmtnet.errors import ArchiveError


def test_parts_share_no_patient_and_val_takes_part_in_nothing(small_archive):
    nodules = small_archive.nodules
    config = TrainingConfig(
        calibration_folds=(0, 3), reference_folds=(2,), stopping_folds=(1,), patience=1
    )
    split = split_by_fold(nodules, config)
    parts = [split.train, split.calibration, split.reference, split.stopping]
    patients = [{nodules[n].patient_id for n in part} for part in parts]
    assert len(set.union(*patients)) == sum(map(len, patients)) == 12
    assert [{nodules[n].fold for n in part if n < 20} for part in parts] == [{4}, {0, 3}, {2}, {1}]
    val = [n for n, nodule in enumerate(nodules) if nodule.split == "val"]
    assert set(val) <= set(split.reference)


def test_folds_that_are_not_there_are_refused(small_archive):
    with pytest.raises(ArchiveError, match=r"folds \[0, 1, 2, 3, 4\]"):
        split_by_fold(small_archive.nodules, TrainingConfig(calibration_folds=(9,)))


def test_a_leaking_patient_is_named(small_archive):
    with pytest.raises(ArchiveError, match="P0"):
        check_patients(small_archive.nodules, [0, 4], [1, 6])


@pytest.mark.parametrize("leak", [{"split": "val"}, {"fold": 3}])
def test_a_patient_in_two_places_is_a_leak(small_archive, leak):
    nodules = list(small_archive.nodules)
    check_leakage(nodules)
    nodules[1] = replace(nodules[1], **leak)
    with pytest.raises(ArchiveError, match=r"patient P0 leaks: in split 'train' fold 0 and in"):
        check_leakage(nodules)


def test_splits_are_the_same_after_they_were_saved(small_archive, tmp_path):
    splits = Splits.of(small_archive.nodules)
    splits.save(tmp_path / "splits.json")
    assert Splits.read(tmp_path / "splits.json") == splits
    document = json.loads((tmp_path / "splits.json").read_text())
    assert document["schema"] == "resmtnet.splits/1"
    assert document["patients"] == {"train": 10, "val": 2}
    assert document["parts"]["train"]["0"] == ["P0", "P5"]


def test_splits_that_were_changed_by_hand_are_refused(small_archive, tmp_path):
    path = tmp_path / "splits.json"
    Splits.of(small_archive.nodules).save(path)
    path.write_text(path.read_text().replace("P11", "P3"))
    with pytest.raises(ArchiveError, match="checksum"):
        Splits.read(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "other/1", "parts": {}}'])
def test_another_file_is_no_splits(tmp_path, text):
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(ArchiveError, match=r"resmtnet\.splits/1"):
        Splits.read(tmp_path / "splits.json")


def test_splits_place_nodules_by_their_patient(small_archive):
    splits = Splits({f"P{n}": ("val", 8) if n < 3 else ("train", 1) for n in range(12)})
    placed = splits.apply(small_archive.nodules)
    assert [(n.split, n.fold) for n in placed[:7]] == [("val", 8)] * 6 + [("train", 1)]
    check_leakage(placed)


def test_a_patient_that_the_splits_lack_is_named(small_archive):
    with pytest.raises(ArchiveError, match=r"11 patients .* P1 for example"):
        Splits({"P0": ("train", 0)}).apply(small_archive.nodules)


def test_folds_are_by_patient_and_even(small_archive):
    nodules = [
        replace(n, id=f"{n.id}-{copy}", patient_id=f"{n.patient_id}-{copy}")
        for copy in range(5)
        for n in small_archive.nodules
    ]
    splits = folds_by_patient(nodules, seed=0, folds=5)
    placed = splits.apply(nodules)
    check_leakage(placed)
    assert sorted(Counter(n.fold for n in placed).values()) == [24] * 5
    malignant = Counter(n.fold for n in placed if n.malignancy[0] > 3)
    assert sorted(malignant.values()) == [12] * 5


def test_folds_follow_the_seed(small_archive):
    one, same, other = (
        folds_by_patient(small_archive.nodules, seed, 4).places for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


def test_more_folds_than_patients_are_refused(small_archive):
    with pytest.raises(ArchiveError, match="13 folds of 12 patients"):
        folds_by_patient(small_archive.nodules, 0, 13)
