"""One experiment from start to end: split, train, calibrate, write the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from resmtnet.config import TrainingConfig
from resmtnet.data.archive import Archive
from resmtnet.data.dataset import TrainingSet
from resmtnet.data.splits import split_by_fold
from resmtnet.errors import InputError
from resmtnet.evaluation.baselines import fit_baselines
from resmtnet.evaluator import case_of
from resmtnet.findings import ModelInfo
from resmtnet.fitting import fit_calibration
from resmtnet.folders import check_place
from resmtnet.model_store import MANIFEST, write_model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.training import CHECKPOINT, Progress, Trainer


@dataclass(frozen=True)
class Listener:
    """What an experiment tells on its way."""

    training: Callable[[Progress], None] = lambda progress: None
    calibration: Callable[[int, int], None] = lambda done, of: None


def run_experiment(
    archive: Archive,
    config: TrainingConfig,
    out: Path,
    *,
    version: str,
    resume: bool = False,
    device: str = "cpu",
    listener: Listener = Listener(),
) -> ModelInfo:
    """Train a model and write it to `out`/model.

    Args:
        archive: training data; nodules of split "val" are left alone.
        config: of the experiment.
        out: folder of checkpoint, history and model.
        version: of the model written.
        resume: go on from the checkpoint in `out`, if there is one.
        device: "cpu" or "cuda".
        listener: is told of the progress.

    Raises:
        ArchiveError: the archive cannot be split as the configuration asks.
        ConfigError: the checkpoint was made with another configuration.
        InputError: `out` holds a checkpoint and `resume` is off, or the other way round.
    """
    if resume != (out / CHECKPOINT).is_file():
        raise InputError(
            f"{out} holds {'no checkpoint: leave out' if resume else 'a checkpoint: give'} "
            "--resume, or choose another --out"
        )
    check_place(out / "model", MANIFEST)
    split = split_by_fold(archive.nodules, config.calibration_folds)
    trainer = Trainer(TrainingSet(archive, split.train, config), config, out, device)
    if resume:
        trainer.resume()
    weights = trainer.run(listener.training)
    network = ResMTNet(config.network)
    network.load_state_dict(weights)
    network.to(device).eval().requires_grad_(False)
    baselines = fit_baselines([case_of(archive.nodules[n]) for n in split.train]).to_json()
    calibration = fit_calibration(
        network, config, archive, split, baselines, device, listener.calibration
    )
    patients = {archive.nodules[n].patient_id for n in split.train}
    held = {archive.nodules[n].patient_id for n in split.calibration}
    provenance = {
        "data": dict(archive.provenance),
        "training": {"nodules": len(split.train), "patients": len(patients)},
        "calibration": {"nodules": len(split.calibration), "patients": len(held)},
        "torch": torch.__version__,
    }
    return write_model(out / "model", version, weights, config, calibration, provenance)
