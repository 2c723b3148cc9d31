"""Trains a model from an archive: split, train, calibrate, write the model folder."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resmtnet.config import TrainingConfig
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.crops import CropBlock, load_block
from resmtnet.data.dataset import Rows, TrainingSet
from resmtnet.data.splits import Split, split_by_fold
from resmtnet.errors import InputError
from resmtnet.evaluation.baselines import fit_baselines
from resmtnet.files import check_place
from resmtnet.findings import ModelInfo
from resmtnet.inference.ensemble import Ensemble
from resmtnet.inference.member_states import networks_of
from resmtnet.inference.model_folder import MANIFEST, write_model
from resmtnet.training.cached_nodule import CachedNodule, observe
from resmtnet.training.calibrate import fit_calibration, fit_presence
from resmtnet.training.carried_sets import (
    calibration_set_files,
    embed,
    reference_files,
    replay_files,
)
from resmtnet.training.cases import case_of
from resmtnet.training.distributed import processes, rank, world_size
from resmtnet.training.earlier_networks import (
    EarlierNetwork,
    Weights,
    read_member,
    starting_networks,
)
from resmtnet.training.loop import CHECKPOINT, Trainer, TrainingProgress
from resmtnet.training.negative_places import (
    check_negatives,
    counts,
    negative_sets,
    observe_negatives,
)

PATIENTS = "patients.csv"
"""File of a model that says who trained it, calibrated it, and was kept apart."""


@dataclass(frozen=True)
class Listener:
    """Callbacks for the progress of an experiment."""

    crops: Callable[[int, int], None] = lambda done, of: None
    training: Callable[[str, TrainingProgress], None] = lambda name, progress: None
    """Called with the name of the member and its progress."""
    calibration: Callable[[int, int], None] = lambda done, of: None


def run_experiment(
    archive: Archive,
    config: TrainingConfig,
    out: Path,
    *,
    version: str,
    resume: bool = False,
    further: Sequence[CachedNodule] = (),
    negatives: Sequence[Archive] = (),
    given: Sequence[Path] = (),
    start: Sequence[Path] = (),
    device: str = "cpu",
    listener: Listener = Listener(),
) -> ModelInfo | None:
    """Train a model and write it to `out`/model; under torchrun all processes train together.

    Args:
        archive: training data; nodules of splits that are not configured are not used.
        config: of the experiment.
        out: folder of the members' checkpoints and of the model.
        version: of the model written.
        resume: continue from the checkpoints in `out`.
        further: out-of-fold nodules of a cross-validation of the same configuration, to which the
            calibration is fitted as well; those of reference patients are left out.
        negatives: archives of places without a nodule, which teach the nodule task; splits and
            folds mean the same as in `archive`.
        given: checkpoints of networks that are the first members of the ensemble, such as one of
            a cross-validation; the other members are trained here.
        start: checkpoints of earlier networks, with whose weights training begins instead of
            random ones; see starting_networks.
        device: "cpu" or "cuda".
        listener: callbacks for the progress.

    Returns:
        What was written; None in every process but the first.

    Raises:
        ArchiveError: the archive cannot be split as the configuration asks.
        ConfigError: a checkpoint was made with another configuration.
        InputError: `out` holds checkpoints without `resume`, or none with it.
    """
    ready = [read_member(path, config) for path in given]
    begun = starting_networks(start, config)[: max(0, config.members - len(ready))]
    check_resumable(out, resume)
    check_place(out / "model", MANIFEST)
    split = split_by_fold(archive.nodules, config)
    with processes(device) as own_device:
        weights = [
            *ready,
            *train_members(
                archive, split, config, out, own_device, listener, negatives, begun, len(ready)
            ),
        ]
        if rank():
            return None
    apart = [archive.nodules[n] for n in (*split.reference, *split.calibration)]
    further = of_other_patients(further, apart)
    return _write(
        archive, split, config, out, version, weights, further, device, listener, negatives, begun
    )


def of_other_patients(
    records: Sequence[CachedNodule], nodules: Sequence[Nodule]
) -> list[CachedNodule]:
    """Return the records of patients who have no nodule among the given ones."""
    patients = {nodule.patient_id for nodule in nodules}
    return [one for one in records if one.case.patient_id not in patients]


def check_resumable(out: Path, resume: bool) -> None:
    """Refuse to mix runs: checkpoints need --resume, and --resume needs checkpoints.

    Raises:
        InputError: one of the two is missing.
    """
    if resume != any(out.rglob(CHECKPOINT)):
        raise InputError(
            f"{out} holds {'no checkpoint: leave out' if resume else 'a checkpoint: add'} "
            "--resume, or choose another --out"
        )


def train_members(
    archive: Archive,
    split: Split,
    config: TrainingConfig,
    out: Path,
    device: str,
    listener: Listener,
    negatives: Sequence[Archive] = (),
    begin: Sequence[EarlierNetwork] = (),
    first: int = 0,
) -> list[Weights]:
    """Train every member of the ensemble, or finish its training; each has a folder in `out`.

    Args:
        archive: training data.
        split: of its nodules.
        config: of the experiment.
        out: folder of the members' folders.
        device: of the networks.
        listener: is told of the progress.
        negatives: see run_experiment.
        begin: networks with whose weights training begins, by the members in turn; if there are
            none, weights are random.
        first: members from this one on are trained; those before it are given.

    Raises:
        ArchiveError: the negatives do not fit the configuration.
    """
    check_negatives(negatives, config)
    if first >= config.members:
        return []
    others = negative_sets(negatives, config, device)
    block = load_block(archive, config.context_variants, config.seed, listener.crops).to(device)
    return [
        _train(
            *(block, archive.nodules, split, config, m, out, device, listener, others),
            begin=begin[(m - first) % len(begin)] if begin else None,
        )
        for m in range(first, config.members)
    ]


def _train(
    block: CropBlock,
    nodules: Sequence[Nodule],
    split: Split,
    config: TrainingConfig,
    member: int,
    out: Path,
    device: str,
    listener: Listener,
    negatives: Sequence[TrainingSet],
    *,
    begin: EarlierNetwork | None,
) -> Weights:
    config = replace(config, seed=config.seed + member)
    rows = Rows(rank(), world_size())
    data, watched = (
        TrainingSet(block, nodules, part, config, rows, others) if part else None
        for part, others in ((split.train, negatives), (split.stopping, ()))
    )
    assert data is not None  # split_by_fold guarantees it
    name = f"member-{member}"
    trainer = Trainer(data, config, out / name, device, watched)
    if begin is not None:
        trainer.begin_with(begin.weights, begin.sha256)
    trainer.resume()
    return trainer.run(lambda progress: listener.training(f"{out.name}/{name}", progress))


def inference_of(weights: Sequence[Weights], config: TrainingConfig, device: str) -> Ensemble:
    """Return the ensemble of networks with these weights."""
    return Ensemble(networks_of(config, weights, device), config.patch, device, config.head_views)


def observe_all(
    inference: Ensemble,
    archive: Archive,
    index: Sequence[int],
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[CachedNodule]:
    """Observe nodules that the members never trained on."""
    found = []
    for n in index:
        found.append(observe(inference, archive, archive.nodules[n]))
        tell(len(found), len(index))
    return found


def _write(
    archive: Archive,
    split: Split,
    config: TrainingConfig,
    out: Path,
    version: str,
    weights: Sequence[Weights],
    further: Sequence[CachedNodule],
    device: str,
    listener: Listener,
    negatives: Sequence[Archive],
    begun: Sequence[EarlierNetwork],
) -> ModelInfo:
    inference = inference_of(weights, config, device)
    total = len(split.calibration) + len(split.reference) + len(split.train)

    def tell_from(start: int) -> Callable[[int, int], None]:
        return lambda done, of: listener.calibration(start + done, total)

    held = observe_all(inference, archive, split.calibration, tell_from(0))
    seen = len(held)
    reference = observe_all(inference, archive, split.reference, tell_from(seen))
    seen += len(reference)
    trained = [archive.nodules[n] for n in split.train]
    replay = embed(inference, archive, trained, tell_from(seen))
    baselines = fit_baselines([case_of(nodule) for nodule in trained]).to_json()
    calibration = fit_calibration(held, replay.flat, baselines, further)
    if negatives:
        others = observe_negatives(inference, negatives, config)
        calibration = replace(calibration, nodule=fit_presence(held, others))
    files = replay_files(replay) | calibration_set_files(held)
    files[PATIENTS] = lambda path: _write_patients(path, archive, split)
    if reference:
        files |= reference_files(reference, calibration)
    provenance: dict[str, Any] = {
        "data": dict(archive.provenance),
        **{name: _counts(archive, part) for name, part in vars(split).items() if part},
        "torch": torch.__version__,
    }
    if negatives:
        provenance["negatives"] = counts(negatives, config)
    if begun:
        provenance["began_with"] = [network.about() for network in begun]
    if further:
        patients = {one.case.patient_id for one in further}
        provenance["further_calibration"] = {"nodules": len(further), "patients": len(patients)}
    return write_model(out / "model", version, weights, config, calibration, provenance, files)


def _write_patients(path: Path, archive: Archive, split: Split) -> None:
    """Write a CSV of every patient and the part in which the patient's nodules are.

    With it others can leave the patients of the training out when they test on the same data.
    """
    rows = {(archive.nodules[n].patient_id, part) for part, of in vars(split).items() for n in of}
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("patient_id", "part"), *sorted(rows)])


def _counts(archive: Archive, part: Sequence[int]) -> dict[str, int]:
    patients = {archive.nodules[n].patient_id for n in part}
    return {"nodules": len(part), "patients": len(patients)}
