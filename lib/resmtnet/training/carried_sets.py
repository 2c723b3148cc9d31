"""The nodules that a model folder carries, without images: replay, reference and calibration set.

    replay.csv, replay.safetensors        training nodules: targets, and embeddings that enter the
                                          last layers of the branches
    reference.csv, reference.safetensors  nodules that the members never trained on: targets and
                                          the model's own answers, and what they were made from
    calibration_set.safetensors           nodules that its calibration was fitted to, which a later
                                          one is fitted to again; a model may lack it

No images: rows of the archive, embeddings and raw outputs.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.data.archive import Archive
from resmtnet.data.nodule import COLUMNS, Nodule, from_row, to_row
from resmtnet.data.volumes import nodule_ct
from resmtnet.errors import ArchiveError, ModelError
from resmtnet.evaluation.records import Answered, read_predictions, write_predictions
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.ensemble import BATCH, Ensemble
from resmtnet.inference.model_folder import EMBEDDING_LAYER, Write
from resmtnet.training.cached_nodule import CachedNodule, predict
from resmtnet.training.cached_store import load_cached, save_cached
from resmtnet.types import Progress

REPLAY, REFERENCE = "replay", "reference"
CALIBRATION_SET = "calibration_set.safetensors"


@dataclass(frozen=True, eq=False)
class Replay:
    """Training nodules without their images."""

    nodules: tuple[Nodule, ...]
    """Ids, patients, readers' ratings and sizes; their crops are not here."""
    embeddings: NDArray[np.float32]
    """[N, members, D], mean over views: the head of a branch gives the answer's own logits."""

    @property
    def flat(self) -> NDArray[np.float64]:
        """Embeddings [N, members * D], one member after the other."""
        return self.embeddings.reshape(len(self.nodules), -1).astype(float)


def embed(
    inference: Ensemble,
    archive: Archive,
    nodules: Sequence[Nodule],
    tell: Progress = lambda done, of: None,
) -> Replay:
    """Run the heads over training nodules, unaugmented, as a click at each centre does.

    Args:
        inference: the members.
        archive: holds the voxels.
        nodules: of the archive.
        tell: called with nodules done and nodules in all.
    """
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(nodules), BATCH):
        part = [nodule_ct(archive, nodule) for nodule in nodules[start : start + BATCH]]
        samplers = [inference.sampler(ct, centre) for ct, centre in part]
        found += [seen.embeddings for seen in inference.heads(samplers)]
        tell(len(found), len(nodules))
    return Replay(tuple(nodules), np.array(found, np.float32))


def replay_files(replay: Replay) -> dict[str, Write]:
    """Return the writers of both files by name, for write_model; embeddings become float16."""
    from safetensors.numpy import save_file

    arrays = {"embeddings": replay.embeddings.astype(np.float16)}

    def write_rows(path: Path) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(to_row(nodule) for nodule in replay.nodules)

    return {
        f"{REPLAY}.csv": write_rows,
        f"{REPLAY}.safetensors": lambda path: save_file(arrays, path, {"layer": EMBEDDING_LAYER}),
    }


def read_replay(folder: Path) -> Replay:
    """Read the replay files of a model folder that has been verified.

    Raises:
        ModelError: the model carries none, or its two files do not belong together.
    """
    from safetensors.numpy import load_file

    rows, arrays = folder / f"{REPLAY}.csv", folder / f"{REPLAY}.safetensors"
    _check_there(folder, rows, arrays)
    try:
        with rows.open(newline="") as file:
            nodules = tuple(from_row(row) for row in csv.DictReader(file))
    except ArchiveError as error:
        raise ModelError(f"{rows}: {error}") from error
    embeddings = load_file(arrays)["embeddings"].astype(np.float32)
    if len(nodules) != len(embeddings):
        raise ModelError(
            f"{folder}: {rows.name} has {len(nodules)} nodules, {arrays.name} {len(embeddings)}; "
            "copy the model anew"
        )
    return Replay(nodules, embeddings)


def reference_files(held: Sequence[CachedNodule], calibration: Calibration) -> dict[str, Write]:
    """Return the writers of both files by name, for write_model.

    Args:
        held: nodules of patients that the members never trained on.
        calibration: of the model, whose answers are written.
    """
    answered = [(one.case, predict(one, calibration)) for one in held]
    return {
        f"{REFERENCE}.csv": lambda path: write_predictions(path, answered),
        f"{REFERENCE}.safetensors": lambda path: save_cached(path, held),
    }


def read_reference(folder: Path) -> list[CachedNodule]:
    """Read the reference set of a model folder that has been verified.

    Its answers, in the same order: read_reference_answers.

    Raises:
        ModelError: the model carries none.
    """
    path = folder / f"{REFERENCE}.safetensors"
    _check_there(folder, path)
    return load_cached(path)


def read_reference_answers(folder: Path) -> list[Answered]:
    """Read the model's own answers for its reference set, as it was written with.

    Raises:
        ModelError: the model carries none.
    """
    path = folder / f"{REFERENCE}.csv"
    _check_there(folder, path)
    return read_predictions(path)


def calibration_set_files(held: Sequence[CachedNodule]) -> dict[str, Write]:
    """Return the writer of the calibration set by name, for write_model.

    Args:
        held: nodules that the model's calibration was fitted to.
    """
    return {CALIBRATION_SET: lambda path: save_cached(path, held)}


def read_calibration_set(folder: Path) -> list[CachedNodule]:
    """Read the calibration set of a model folder that has been verified; empty without one."""
    path = folder / CALIBRATION_SET
    return load_cached(path) if path.is_file() else []


def _check_there(folder: Path, *paths: Path) -> None:
    for path in paths:
        if not path.is_file():
            raise ModelError(
                f"{folder}: {path.name} is missing; use a model that was written with its "
                "replay and reference sets, such as the shipped one"
            )
