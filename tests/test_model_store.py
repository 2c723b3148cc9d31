"""A model on disk: read back alike, refused when anything differs, never half written."""

import json

import numpy as np
import pytest
import torch

from resmtnet.calibration import Calibration
from resmtnet.config import NetworkConfig, TrainingConfig
from resmtnet.errors import ModelError
from resmtnet.model_store import (
    FILES,
    default_model_dir,
    read_model,
    read_tensors,
    verify,
    write_model,
)
from resmtnet.network.resmtnet import ResMTNet


def plain_calibration(width: int) -> Calibration:
    return Calibration(
        class_slope=1.0,
        class_intercept=0.0,
        decision_threshold=0.6,
        mask_threshold=0.4,
        score_quantile=1.5,
        size_quantiles={},
        regressed_quantiles={},
        ood_limit=2.0,
        baselines={},
        embedding_mean=np.zeros(width),
        embedding_precision=np.eye(width),
    )


CONFIG = TrainingConfig(network=NetworkConfig(widths=(4, 4, 4), hidden=8))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    weights = ResMTNet(CONFIG.network).state_dict()
    write_model(tmp_path / "m", "7", weights, CONFIG, plain_calibration(16), {"data": "none"})
    return tmp_path / "m"


def test_what_was_written_answers_alike(folder):
    torch.manual_seed(0)
    original, model = ResMTNet(CONFIG.network).eval(), read_model(folder)
    slices = torch.randn(1, 5, 48, 48)
    one, other = (n(n.encode(slices), 1).tasks["class"] for n in (original, model.network))
    assert torch.equal(one, other)
    assert model.config == CONFIG
    assert model.info.version == "7"
    assert model.info.sha256 == verify(folder)["sha256"]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_by_name(folder, name):
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match=name):
        read_model(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name} is missing"):
        read_model(folder)


def test_a_manifest_that_was_edited_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="inconsistent"):
        verify(folder)


def test_a_folder_without_a_model_says_what_to_do(tmp_path):
    with pytest.raises(ModelError, match="RESMTNET_MODEL_DIR"):
        read_model(tmp_path)


def test_a_pickle_is_not_opened(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match="not a safetensors file"):
        read_tensors(tmp_path / "weights.safetensors")


def test_the_environment_names_the_model(tmp_path, monkeypatch):
    monkeypatch.setenv("RESMTNET_MODEL_DIR", str(tmp_path))
    assert default_model_dir() == tmp_path


def test_a_new_model_replaces_the_old_one_whole(folder):
    weights = ResMTNet(CONFIG.network).state_dict()
    (folder / "stray").write_text("left over")
    info = write_model(folder, "8", weights, CONFIG, plain_calibration(16), {})
    assert read_model(folder).info == info
    assert not (folder / "stray").exists()
    assert [p.name for p in folder.parent.iterdir()] == ["m"]


def test_the_shipped_model_is_whole():
    model = read_model()
    assert model.info.name == "resmtnet"
    assert sum(p.numel() for p in model.network.parameters()) <= 5e6
