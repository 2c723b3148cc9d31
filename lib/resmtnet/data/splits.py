"""Splits nodules into parts and folds by patient; kept as JSON, schema resmtnet.splits/1."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resmtnet.characteristics import class_of_rating
from resmtnet.config import TrainingConfig
from resmtnet.data.nodule import Nodule
from resmtnet.errors import ArchiveError

SCHEMA = "resmtnet.splits/1"
FOLDS = 10


@dataclass(frozen=True)
class Split:
    """Indices into an archive's nodules; no patient is in two parts."""

    train: tuple[int, ...]
    calibration: tuple[int, ...]
    """Of the folds kept out of training for calibration."""
    reference: tuple[int, ...] = ()
    """Of the folds, and of the splits, that take part in nothing."""
    stopping: tuple[int, ...] = ()
    """Of the folds on which training is watched."""


def split_by_fold(nodules: Sequence[Nodule], config: TrainingConfig) -> Split:
    """Deal an archive's nodules to the parts that a configuration names.

    Raises:
        ArchiveError: training or calibration has no nodule, or a patient stands in two parts.
    """
    used = [n for n, nodule in enumerate(nodules) if nodule.split in config.splits]
    kept = {*config.calibration_folds, *config.reference_folds, *config.stopping_folds}

    def of(folds: Collection[int]) -> tuple[int, ...]:
        return tuple(n for n in used if nodules[n].fold in folds)

    train = tuple(n for n in used if nodules[n].fold not in kept)
    unused = tuple(n for n, nodule in enumerate(nodules) if nodule.split not in config.splits)
    split = Split(
        train,
        of(config.calibration_folds),
        tuple(sorted(of(config.reference_folds) + unused)),
        of(config.stopping_folds),
    )
    if not split.train or not split.calibration:
        folds = sorted({nodules[n].fold for n in used})
        raise ArchiveError(
            f"calibration folds {sorted(config.calibration_folds)} leave {len(train)} nodules for "
            f"training and {len(split.calibration)} for calibration; the archive has folds {folds}"
        )
    parts = [split.train, split.calibration, split.reference, split.stopping]
    for n, one in enumerate(parts):
        for other in parts[n + 1 :]:
            check_patients(nodules, one, other)
    return split


def check_patients(nodules: Sequence[Nodule], one: Collection[int], other: Collection[int]) -> None:
    """Refuse two groups of nodules that share a patient.

    Raises:
        ArchiveError: naming a patient that stands in both.
    """
    shared = {nodules[n].patient_id for n in one} & {nodules[n].patient_id for n in other}
    if shared:
        raise ArchiveError(f"patient {min(shared)} is in both parts of the split")


@dataclass(frozen=True)
class Splits:
    """The part and the fold of every patient of a study."""

    places: Mapping[str, tuple[str, int]]
    """Split and fold by patient; fold -1: none."""

    @classmethod
    def of(cls, nodules: Iterable[Nodule]) -> Splits:
        """Return the places of the patients of an archive.

        Raises:
            ArchiveError: a patient stands in two parts or folds.
        """
        places: dict[str, tuple[str, int]] = {}
        for nodule in nodules:
            _place(places, nodule.patient_id, nodule.split, nodule.fold)
        return cls(places)

    @classmethod
    def read(cls, path: Path) -> Splits:
        """Read splits that `save` wrote.

        Raises:
            ArchiveError: no such file, another schema, a wrong checksum, or a patient twice.
        """
        try:
            document = json.loads(path.read_text())
            parts, schema = document["parts"], document["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{path} holds no splits ({SCHEMA}): {error!r}") from error
        if schema != SCHEMA:
            raise ArchiveError(f"{path}: schema {schema!r}; this version reads {SCHEMA}")
        if document.get("sha256") != _sha256(parts):
            raise ArchiveError(
                f"{path} was changed after it was written (checksum); write it again"
            )
        places: dict[str, tuple[str, int]] = {}
        for split, folds in parts.items():
            for fold, patients in folds.items():
                for patient in patients:
                    _place(places, patient, split, int(fold))
        return cls(places)

    def save(self, path: Path) -> None:
        """Write patients by part and fold, with their number and a checksum."""
        parts: dict[str, dict[str, list[str]]] = {}
        for patient, (split, fold) in sorted(self.places.items(), key=lambda p: (p[1], p[0])):
            parts.setdefault(split, {}).setdefault(str(fold), []).append(patient)
        document = {
            "schema": SCHEMA,
            "patients": {s: sum(map(len, folds.values())) for s, folds in parts.items()},
            "sha256": _sha256(parts),
            "parts": parts,
        }
        path.write_text(json.dumps(document, indent=1) + "\n")

    def apply(self, nodules: Sequence[Nodule]) -> list[Nodule]:
        """Return nodules with the split and fold of their patients.

        Raises:
            ArchiveError: a patient is not in the splits.
        """
        unknown = sorted({n.patient_id for n in nodules} - set(self.places))
        if unknown:
            raise ArchiveError(
                f"{len(unknown)} patients are not in the splits, {unknown[0]} for example: "
                "add them, or leave their images out"
            )
        return [
            dataclasses.replace(n, split=split, fold=fold)
            for n in nodules
            for split, fold in [self.places[n.patient_id]]
        ]


def _place(places: dict[str, tuple[str, int]], patient: str, split: str, fold: int) -> None:
    known = places.setdefault(patient, (split, fold))
    if known != (split, fold):
        raise ArchiveError(
            f"patient {patient} leaks: in split {known[0]!r} fold {known[1]} and in split "
            f"{split!r} fold {fold}; a patient belongs to one"
        )


def check_leakage(nodules: Iterable[Nodule]) -> None:
    """Refuse nodules of a patient who is in two splits or two folds.

    Raises:
        ArchiveError: naming the patient and both places.
    """
    Splits.of(nodules)


def folds_by_patient(nodules: Sequence[Nodule], seed: int, folds: int = FOLDS) -> Splits:
    """Deal patients to folds of split "train", evenly by nodules and by malignancy.

    Patients go one by one, those with many nodules first and by chance among equals, to the fold
    that has fewest nodules of their kind of malignancy (benign, indeterminate, malignant, unrated),
    then fewest nodules.

    Args:
        nodules: of all patients.
        seed: the same seed and nodules give the same folds.
        folds: how many.

    Raises:
        ArchiveError: fewer patients than folds.
    """
    by_patient: dict[str, Counter[str]] = defaultdict(Counter)
    for nodule in nodules:
        by_patient[nodule.patient_id][_kind(nodule)] += 1
    if not 1 <= folds <= len(by_patient):
        raise ArchiveError(
            f"cannot make {folds} folds of {len(by_patient)} patients; allowed are 1 to "
            f"{len(by_patient)}"
        )
    generator = np.random.default_rng(seed)
    patients = [str(p) for p in generator.permutation(sorted(by_patient))]
    patients.sort(key=lambda patient: -by_patient[patient].total())
    held = [Counter[str]() for _ in range(folds)]
    places: dict[str, tuple[str, int]] = {}
    for patient in patients:
        kinds = by_patient[patient]
        fold = min(
            range(folds), key=lambda f: (sum(held[f][kind] for kind in kinds), held[f].total())
        )
        held[fold].update(kinds)
        places[patient] = ("train", fold)
    return Splits(places)


def _kind(nodule: Nodule) -> str:
    if nodule.malignancy:
        return class_of_rating(float(np.median(nodule.malignancy)))
    if nodule.malignant_label is not None:
        return "malignant" if nodule.malignant_label else "benign"
    return "unrated"


def _sha256(parts: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
