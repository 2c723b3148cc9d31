"""A model's figures on its own reference set."""

from __future__ import annotations

import json

from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.inference.model_folder import default_model_dir, read_model
from resmtnet.training.carried_sets import read_reference_answers
from resmtnet.training.evaluate import evaluate_reference

FEW = 20


def test_shipped_model_is_evaluated_on_patients_it_never_saw(tmp_path):
    folder = default_model_dir()
    document = evaluate_reference(folder, tmp_path, BootstrapConfig(resamples=FEW))
    answered = read_reference_answers(folder)
    assert document["model"]["sha256"] == read_model(folder).info.sha256
    assert document["data"]["nodules"] == len(answered)
    assert document["data"]["patients"] >= 150
    assert document == json.loads((tmp_path / "metrics.json").read_text())
    assert not any("trained" in warning for warning in document["warnings"])
    assert (tmp_path / "report.html").is_file()
