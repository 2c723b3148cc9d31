"""Splits by patient: no patient ever stands on both sides."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from resmtnet.data.archive import Nodule
from resmtnet.errors import ArchiveError


@dataclass(frozen=True)
class Split:
    """Indices into an archive's nodules."""

    train: tuple[int, ...]
    calibration: tuple[int, ...]


def split_by_fold(nodules: Sequence[Nodule], calibration_folds: Collection[int]) -> Split:
    """Keep the given folds of split "train" for calibration and train on its others.

    Nodules of split "val" are in neither part.

    Raises:
        ArchiveError: a part is empty, or a patient stands in both.
    """
    usable = [n for n, nodule in enumerate(nodules) if nodule.split == "train"]
    held = tuple(n for n in usable if nodules[n].fold in calibration_folds)
    train = tuple(n for n in usable if nodules[n].fold not in calibration_folds)
    if not train or not held:
        folds = sorted({nodules[n].fold for n in usable})
        raise ArchiveError(
            f"calibration folds {sorted(calibration_folds)} leave {len(train)} nodules for "
            f"training and {len(held)} for calibration; the archive has folds {folds}"
        )
    check_patients(nodules, train, held)
    return Split(train, held)


def check_patients(nodules: Sequence[Nodule], one: Collection[int], other: Collection[int]) -> None:
    """Refuse two groups of nodules that share a patient.

    Raises:
        ArchiveError: naming a patient that stands in both.
    """
    shared = {nodules[n].patient_id for n in one} & {nodules[n].patient_id for n in other}
    if shared:
        raise ArchiveError(f"patient {min(shared)} stands in both parts of the split")
