"""How good a model is on the reference set that it keeps: patients it never trained on."""

from __future__ import annotations

from pathlib import Path

from resmtnet.evaluation.baselines import Baselines
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.evidence import of_model
from resmtnet.evaluation.report import write_metrics, write_report
from resmtnet.evaluation.summary import summarise
from resmtnet.findings import Json
from resmtnet.model_store import read_model
from resmtnet.replay import read_reference_answers


def evaluate_reference(folder: Path, out: Path, config: BootstrapConfig | None = None) -> Json:
    """Evaluate a model on its own reference set: nodules of patients it never trained on.

    The answers are those that the model was written with; nothing is computed anew.

    Args:
        folder: of the model.
        out: folder for metrics.json and report.html; made if it is missing.
        config: of the bootstrap.

    Returns:
        What metrics.json holds, schema resmtnet.metrics/2.

    Raises:
        ModelError: the model is damaged, or carries no reference set.
    """
    model = read_model(folder)
    kept = model.calibration.baselines
    baselines = Baselines.from_json(kept) if kept else None
    evidence = of_model(read_reference_answers(folder), baselines, held_out=True)
    provenance = {"form": "the reference set kept with the model, calibrated on other patients"}
    document = summarise(evidence, model.info, provenance, config)
    out.mkdir(parents=True, exist_ok=True)
    write_metrics(out / "metrics.json", document)
    write_report(out / "report.html", document, evidence)
    return document
