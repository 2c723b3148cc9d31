"""Runs a model over an archive, by the path that users take, and writes how good it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.volumes import nodule_ct
from resmtnet.errors import InputError
from resmtnet.evaluation.baselines import Baselines
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.clicks import click_dice
from resmtnet.evaluation.diagnoses import with_diagnoses
from resmtnet.evaluation.evidence import of_model, out_of_fold
from resmtnet.evaluation.records import (
    Answered,
    read_predictions,
    write_predictions,
)
from resmtnet.evaluation.report import write_metrics, write_report
from resmtnet.evaluation.summary import summarise
from resmtnet.findings import Finding
from resmtnet.inference.model_folder import read_model
from resmtnet.inference.protocol import AnswersPoints
from resmtnet.training.carried_sets import read_reference_answers
from resmtnet.training.cases import case_of, prediction_of
from resmtnet.training.report_pictures import Pictures, consensus, draw_nodules, whole_mask
from resmtnet.types import Json, PartProgress

CONSENSUS = 0.5
"""Least share of the readers."""
NO_DIAGNOSES: Mapping[str, str] = {}


def evaluate(
    archive: Archive,
    model: AnswersPoints,
    out: Path,
    baselines: Baselines | None = None,
    *,
    split: str | None = None,
    config: BootstrapConfig | None = None,
    pictures: Pictures | None = None,
    diagnoses: Mapping[str, str] = NO_DIAGNOSES,
    clicks: int = 0,
    tell: PartProgress = lambda what, done, of: None,
) -> Json:
    """Evaluate a model and write predictions.csv, metrics.json and report.html.

    Args:
        archive: nodules with their readers.
        model: a Characterizer.
        out: folder for the three files; made if it is missing.
        baselines: what the model keeps of its training nodules; None compares with nothing.
        split: "train" or "val" for the nodules of that split; None for all.
        config: of the bootstrap.
        pictures: how many the report shows, by default 20 and 6; they hold voxels, so mind where
            it goes.
        diagnoses: "benign" or "malignant" of patients by id, as evaluation.diagnoses reads them.
        clicks: further clicks around each centre, whose masks are compared; each costs an answer.
        tell: called with what is done, how much of it, and of how much.

    Returns:
        What metrics.json holds, schema resmtnet.metrics/3.

    Raises:
        InputError: no nodule of that split.
    """
    nodules = [nodule for nodule in archive.nodules if split in (None, nodule.split)]
    if not nodules:
        known = ", ".join(sorted({nodule.split for nodule in archive.nodules}))
        raise InputError(f"{archive.path} holds no nodule of split {split!r}; it has {known}")
    answered = with_diagnoses(answer(archive, nodules, model, tell, clicks=clicks), diagnoses)
    evidence = of_model(answered, baselines)
    document = summarise(evidence, model.info, archive.provenance, config)
    shown = draw_nodules(archive, answered, document, model, pictures or Pictures(), tell)
    out.mkdir(parents=True, exist_ok=True)
    write_predictions(out / "predictions.csv", answered)
    write_metrics(out / "metrics.json", document)
    write_report(out / "report.html", document, evidence, shown)
    return document


def evaluate_predictions(
    paths: Sequence[Path],
    out: Path,
    config: BootstrapConfig | None = None,
    diagnoses: Mapping[str, str] = NO_DIAGNOSES,
) -> Json:
    """Evaluate a cross-validation from its out-of-fold predictions; write metrics and report.

    Args:
        paths: one predictions.csv for each group of patients that was held out; the baselines of
            each are fitted on the others.
        out: folder for metrics.json and report.html; made if it is missing.
        config: of the bootstrap.
        diagnoses: see evaluate.

    Returns:
        What metrics.json holds, schema resmtnet.metrics/3.

    Raises:
        InputError: a file cannot be read or is given twice, or a patient stands in two of them.
    """
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise InputError("a file of predictions is given twice; give each one once")
    parent = Path(os.path.commonpath([path.parent for path in resolved]))
    files = {path.relative_to(parent).as_posix(): path for path in resolved}
    groups = {
        name: with_diagnoses(read_predictions(path), diagnoses) for name, path in files.items()
    }
    evidence = out_of_fold(groups)
    listed = [
        {
            "file": name,
            "sha256": hashlib.sha256(files[name].read_bytes()).hexdigest(),
            "nodules": len(answered),
            "patients": len({case.patient_id for case, _ in answered}),
        }
        for name, answered in groups.items()
    ]
    document = summarise(evidence, None, None, config, listed)
    out.mkdir(parents=True, exist_ok=True)
    write_metrics(out / "metrics.json", document)
    write_report(out / "report.html", document, evidence)
    return document


def answer(
    archive: Archive,
    nodules: Sequence[Nodule],
    model: AnswersPoints,
    tell: PartProgress = lambda what, done, of: None,
    *,
    clicks: int = 0,
) -> list[Answered]:
    """Ask a model for each nodule at the centre of what its readers marked.

    Args:
        archive: holds the voxels; crops that come without context are continued.
        nodules: of the archive.
        model: a Characterizer.
        tell: called with "nodules", those done, and those in all.
        clicks: further clicks around each centre; see evaluation/clicks.py.
    """
    answered = []
    for done, nodule in enumerate(nodules, start=1):
        ct, centre_lps_mm = nodule_ct(archive, nodule)
        finding = model(ct, [centre_lps_mm])[0]
        dice = mask_dice(consensus(archive, nodule, ct, centre_lps_mm), finding)
        known = nodule.mask_readers not in (0, 1)
        case = case_of(nodule)
        told = prediction_of(finding, dice if known else None)
        robust = click_dice(model, ct, finding, case.equivalent_diameter_mm, clicks)
        answered.append((case, replace(told, click_dice=robust)))
        tell("nodules", done, len(nodules))
    return answered


def mask_dice(share: NDArray[np.float64], finding: Finding) -> float | None:
    """Return the Dice of a finding's mask with what at least half of the readers marked.

    Args:
        share: of the readers, on the voxels of the CT, [k, j, i].
        finding: one without a mask overlaps with nothing.

    Returns:
        0..1, or None where no voxel was marked by half of the readers.
    """
    truth = share >= CONSENSUS
    if not truth.any():
        return None
    given = whole_mask(finding, truth.shape)
    if given is None:
        return 0.0
    return float(2 * (truth & given).sum() / (truth.sum() + given.sum()))


def evaluate_reference(
    folder: Path,
    out: Path,
    config: BootstrapConfig | None = None,
    diagnoses: Mapping[str, str] = NO_DIAGNOSES,
) -> Json:
    """Evaluate a model on its own reference set: nodules of patients it never trained on.

    The answers are those that the model was written with; nothing is computed anew.

    Args:
        folder: of the model.
        out: folder for metrics.json and report.html; made if it is missing.
        config: of the bootstrap.
        diagnoses: see evaluate.

    Returns:
        What metrics.json holds, schema resmtnet.metrics/3.

    Raises:
        ModelError: the model is damaged, or carries no reference set.
    """
    model = read_model(folder)
    kept = model.calibration.baselines
    baselines = Baselines.from_json(kept) if kept else None
    answered = with_diagnoses(model.carried(read_reference_answers), diagnoses)
    evidence = of_model(answered, baselines, held_out=True)
    provenance = {"form": "the reference set kept with the model, calibrated on other patients"}
    document = summarise(evidence, model.info, provenance, config)
    out.mkdir(parents=True, exist_ok=True)
    write_metrics(out / "metrics.json", document)
    write_report(out / "report.html", document, evidence)
    return document
