"""Runs a model over an archive, by the path that users take, and writes how good it is."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from resmtnet.characteristics import TEXTURE
from resmtnet.ct.volume import CTVolume
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.volumes import nodule_ct
from resmtnet.errors import InputError
from resmtnet.evaluation.baselines import Baselines
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.records import Answered, Case, Prediction, write_predictions
from resmtnet.evaluation.report import write_metrics, write_report
from resmtnet.evaluation.summary import summarise
from resmtnet.findings import Finding, Json, ModelInfo, Point

Tell = Callable[[int, int], None]


class Answering(Protocol):
    """What is evaluated: a Characterizer, or anything that is called like one."""

    @property
    def info(self) -> ModelInfo:
        """Which weights answer."""

    def __call__(self, ct: CTVolume, centres_mm: Sequence[Point]) -> list[Finding]:
        """Return one finding per point (LPS mm)."""


def evaluate(
    archive: Archive,
    model: Answering,
    out: Path,
    baselines: Baselines | None = None,
    *,
    split: str | None = None,
    config: BootstrapConfig | None = None,
    tell: Tell = lambda done, of: None,
) -> Json:
    """Evaluate a model and write predictions.csv, metrics.json and report.html.

    Args:
        archive: nodules with their readers.
        model: a Characterizer.
        out: folder for the three files; made if it is missing.
        baselines: what the model keeps of its training nodules; None compares with nothing.
        split: "train" or "val" for the nodules of that split; None for all.
        config: of the bootstrap.
        tell: called with nodules done and nodules in all.

    Returns:
        What metrics.json holds, schema resmtnet.metrics/1.

    Raises:
        InputError: no nodule of that split.
    """
    nodules = [nodule for nodule in archive.nodules if split in (None, nodule.split)]
    if not nodules:
        known = ", ".join(sorted({nodule.split for nodule in archive.nodules}))
        raise InputError(f"{archive.path} holds no nodule of split {split!r}; it has {known}")
    answered = answer(archive, nodules, model, tell)
    document = summarise(answered, model.info, baselines, archive.provenance, config)
    out.mkdir(parents=True, exist_ok=True)
    write_predictions(out / "predictions.csv", answered)
    write_metrics(out / "metrics.json", document)
    write_report(out / "report.html", document, answered)
    return document


def answer(
    archive: Archive,
    nodules: Sequence[Nodule],
    model: Answering,
    tell: Tell = lambda done, of: None,
) -> list[Answered]:
    """Ask a model for each nodule at the centre of what its readers marked.

    Args:
        archive: holds the voxels; crops that come without context are continued.
        nodules: of the archive.
        model: a Characterizer.
        tell: called with nodules done and nodules in all.
    """
    answered = []
    for done, nodule in enumerate(nodules, start=1):
        ct, centre_lps_mm = nodule_ct(archive, nodule)
        finding = model(ct, [centre_lps_mm])[0]
        answered.append((case_of(nodule), prediction_of(finding)))
        tell(done, len(nodules))
    return answered


def case_of(nodule: Nodule) -> Case:
    """Return what the readers say of a nodule."""
    texture = nodule.ratings.get(TEXTURE.name, ())
    return Case(
        id=nodule.id,
        patient_id=nodule.patient_id,
        malignancy=nodule.malignancy,
        equivalent_diameter_mm=nodule.equivalent_diameter_mm,
        long_axis_mm=nodule.long_axis_mm,
        texture_rating=statistics.fmean(texture) if texture else None,
        slice_thickness_mm=nodule.slice_thickness_mm,
        split=nodule.split,
        fold=nodule.fold,
        context=nodule.context,
    )


def prediction_of(finding: Finding) -> Prediction:
    """Return what the evaluation needs of a finding."""
    texture = finding.characteristics.get(TEXTURE.name)
    size = finding.size
    return Prediction(
        probability_malignant=finding.probability_malignant,
        class_name=finding.class_name,
        score=finding.malignancy.score,
        score_interval=finding.malignancy.interval_90,
        equivalent_diameter_mm=size.equivalent_diameter_mm,
        equivalent_diameter_interval_mm=size.interval_90.get("equivalent_diameter_mm"),
        volume_mm3=size.volume_mm3,
        long_axis_mm=size.long_axis_mm,
        mean_diameter_mm=size.mean_diameter_mm,
        entropy=finding.uncertainty.entropy,
        out_of_distribution=finding.uncertainty.out_of_distribution,
        texture_class=texture.name if texture else None,
        warnings=len(finding.warnings),
    )
