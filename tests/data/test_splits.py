"""No patient on both sides."""

import pytest

from resmtnet.data.splits import check_patients, split_by_fold
from resmtnet.errors import ArchiveError


def test_parts_share_no_patient_and_val_is_in_neither(small_archive):
    nodules = small_archive.nodules
    split = split_by_fold(nodules, (0, 3))
    train = {nodules[n].patient_id for n in split.train}
    held = {nodules[n].patient_id for n in split.calibration}
    assert not train & held
    assert {nodules[n].fold for n in split.calibration} == {0, 3}
    assert all(nodules[n].split == "train" for n in split.train + split.calibration)


def test_folds_that_are_not_there_are_refused(small_archive):
    with pytest.raises(ArchiveError, match=r"folds \[0, 1, 2, 3, 4\]"):
        split_by_fold(small_archive.nodules, (9,))


def test_a_leaking_patient_is_named(small_archive):
    with pytest.raises(ArchiveError, match="P0"):
        check_patients(small_archive.nodules, [0, 4], [1, 6])
