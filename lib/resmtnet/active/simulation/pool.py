"""The nodules that a model was not trained on: embeddings, readings and difficult strata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from resmtnet.active.information import SMALL_MM
from resmtnet.data.archive import Archive
from resmtnet.data.consensus import class_weight, malignant_share
from resmtnet.data.nodule import Nodule
from resmtnet.data.splits import check_patients, folds_by_patient, split_by_fold
from resmtnet.errors import InputError
from resmtnet.evaluation.records import Case
from resmtnet.findings import ModelInfo
from resmtnet.inference.characterizer import Characterizer
from resmtnet.training.carried_sets import embed
from resmtnet.training.cases import case_of
from resmtnet.types import Array

Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

FULL_WEIGHT_READERS = 4
TEST_PARTS = 4
"""One patient in four is for testing; the others may be labelled."""
SUBSOLID_BELOW = 3.5
"""Mean texture rating below which a nodule counts as sub-solid."""
READERS_DIFFER_SD = 1.0
"""Readers disagree if the standard deviation of their malignancy is at least this."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Nodules [N] of patients that the model was not trained on."""

    nodules: tuple[Nodule, ...]
    embeddings: NDArray[np.float32]
    """[N, D] inputs of the last layers, the members of the ensemble side by side."""
    model: ModelInfo
    """The model whose feature extractor made the embeddings."""

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """Readings of each nodule."""
        return tuple(case_of(nodule) for nodule in self.nodules)

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """[N] patient of each nodule."""
        return np.array([nodule.patient_id for nodule in self.nodules])

    @cached_property
    def truth(self) -> Truth:
        """The label of each nodule."""
        return truth_of(self.nodules, self.cases)

    def split(self, seed: int) -> tuple[Indices, Indices]:
        """Split the patients into those that may be labelled and those for testing.

        Args:
            seed: the same seed gives the same split.

        Returns:
            Indices of the nodules to choose from, and of the test nodules; no patient is in both.
        """
        places = folds_by_patient(self.nodules, seed, TEST_PARTS).places
        tested = np.array([places[patient][1] == 0 for patient in self.patients.tolist()])
        return np.flatnonzero(~tested), np.flatnonzero(tested)


@dataclass(frozen=True, eq=False)
class Truth:
    """Labels of nodules [N]; weight 0 means that there is no label."""

    malignant: Array
    """Class target: 1, 0, or 0.5 for an undecided median."""
    malignant_weight: Array
    score: Array
    """Mean malignancy, 1..5."""
    score_weight: Array
    log_mm: Array
    """Log of the equivalent diameter / mm."""
    log_mm_weight: Array
    texture: Array
    """Mean texture, 1..5."""
    texture_weight: Array
    in_protocol: Flags
    """Protocol P: three readers or more, median malignancy not 3."""
    enough_readers: Flags
    strata: Mapping[str, Flags]
    """Members of the difficult strata, by name."""

    def of(self, index: Indices) -> Truth:
        """Return the labels of some of the nodules."""
        arrays = {
            entry.name: getattr(self, entry.name)[index]
            for entry in fields(self)
            if entry.name != "strata"
        }
        strata = {name: member[index] for name, member in self.strata.items()}
        return Truth(**arrays, strata=strata)


def truth_of(nodules: Sequence[Nodule], cases: Sequence[Case]) -> Truth:
    """Return the readers' labels of nodules as arrays."""

    def of(values: Sequence[float | None]) -> tuple[Array, Array]:
        known = np.array([v is not None and np.isfinite(v) for v in values])
        return np.array([v if k else 0.0 for v, k in zip(values, known, strict=True)]), known

    readers = np.array([len(case.malignancy) for case in cases])
    texture, has_texture = of([case.texture_rating for case in cases])
    score, rated = of([case.score for case in cases])
    mm, sized = of([case.equivalent_diameter_mm for case in cases])
    share = np.minimum(readers, FULL_WEIGHT_READERS) / FULL_WEIGHT_READERS
    given = [nodule.malignancy for nodule in nodules]
    malignant = np.array([malignant_share(ratings) if ratings else 0.5 for ratings in given])
    spread = np.array([np.std(r, ddof=1) if len(r) > 1 else 0.0 for r in given])
    low, high = SMALL_MM
    return Truth(
        malignant=malignant,
        malignant_weight=np.array([class_weight(r) if r else 0.0 for r in given]),
        score=score,
        score_weight=share * rated,
        log_mm=np.log(np.where(sized, mm, 1.0)),
        log_mm_weight=sized.astype(float),
        texture=texture,
        texture_weight=share * has_texture,
        in_protocol=np.array([case.in_protocol for case in cases]),
        enough_readers=np.array([case.enough_readers for case in cases]),
        strata={
            "sub-solid": has_texture.astype(bool) & (texture < SUBSOLID_BELOW),
            "small malignant": (malignant == 1) & (mm >= low) & (mm < high),
            "readers differ": spread >= READERS_DIFFER_SD,
        },
    )


def pool_of(
    archive: Archive,
    characterizer: Characterizer,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Pool:
    """Embed the nodules of an archive that a model used neither for training nor for stopping.

    Args:
        archive: the one that the model was trained on, or another.
        characterizer: the model; its configuration says which folds it trained on.
        tell: called with nodules done and their total.

    Raises:
        InputError: the model has trained on all patients.
    """
    nodules, model = archive.nodules, characterizer.model
    split = split_by_fold(nodules, model.config)
    seen = {*split.train, *split.stopping}
    index = [n for n in range(len(nodules)) if n not in seen]
    check_patients(nodules, seen, index)
    unseen = [nodules[n] for n in index]
    patients = {nodule.patient_id for nodule in unseen}
    if len(patients) < TEST_PARTS:
        raise InputError(
            f"{model.folder} was trained on all but {len(patients)} patients of the archive; "
            "train a model that leaves folds out (reference_folds of the configuration)"
        )
    found = embed(characterizer.inference, archive, unseen, tell)
    return Pool(tuple(unseen), found.flat.astype(np.float32), model.info)
