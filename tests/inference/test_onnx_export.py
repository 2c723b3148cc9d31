"""The exported networks: they say what PyTorch says, for any batch and any height of a mask.

A small network without a mask is exported always; its mask takes a minute more.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from resmtnet.errors import ModelError
from resmtnet.inference.ensemble import Ensemble
from small_model import SMALL, small_model

pytest.importorskip("onnx", reason="needs resmtnet[onnx]")
pytest.importorskip("onnxscript", reason="needs resmtnet[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs resmtnet[onnx]")

slow = pytest.mark.skipif(
    "RESMTNET_SLOW_TESTS" not in os.environ,
    reason="the export of masks takes a minute of CPU and more: set RESMTNET_SLOW_TESTS=1",
)
WITHOUT_MASK = replace(SMALL, mask=False, branch_blocks=1)

CENTRE = (-75.0, 0.0, 20.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("onnx") / "model", 0, WITHOUT_MASK)


@pytest.fixture(scope="module")
def model_with_mask(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("onnx") / "model", 0)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("onnx") / "exported")


@pytest.fixture(scope="module")
def exported_with_mask(model_with_mask, tmp_path_factory):
    return export(model_with_mask, tmp_path_factory.mktemp("onnx") / "exported")


def export(model, folder):
    """As a user does it; inside pytest, torch.export takes minutes instead of seconds."""
    command = [sys.executable, "-m", "resmtnet.cli", "export", "onnx", "--json", "--out", folder]
    done = subprocess.run(
        [*map(str, command), "--model", str(model.folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@slow
def test_the_files_of_a_mask_agree_with_pytorch(exported_with_mask):
    _, description = exported_with_mask
    assert description["parity"]["greatest_difference"] <= 1e-4
    assert any(name.startswith("mask-") for name in description["files"])


def test_the_files_agree_with_pytorch(exported):
    folder, description = exported
    assert description["parity"]["greatest_difference"] <= 1e-4
    assert json.loads((folder / "onnx.json").read_text()) == description
    assert set(description["files"]) == {path.name for path in folder.glob("*.onnx")}


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_heads_take_any_batch_without_our_package(exported, model, batch):
    session = onnxruntime.InferenceSession(str(exported[0] / "heads-0.onnx"))
    slices = np.random.default_rng(1).random((batch, 5, 32, 32), np.float32)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"slices": slices}), strict=True))
    network = model.networks[0]
    with torch.inference_mode():
        expected = network(network.encode(torch.from_numpy(slices)), batch)
    assert set(names) == {*expected.tasks, "embedding"}
    for name, values in expected.tasks.items():
        np.testing.assert_allclose(found[name], values.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["embedding"], expected.embedding.numpy(), atol=1e-4)


@slow
def test_an_ensemble_of_exported_members_answers_alike(
    exported_with_mask, model_with_mask, phantom
):
    from resmtnet.ct import CTVolume
    from resmtnet.inference.onnx_members import with_onnx

    grid = phantom.geometry
    ct = CTVolume.from_array(phantom.hu, grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction)
    ours, theirs = (
        Ensemble(m.networks, m.config.patch)
        for m in (model_with_mask, with_onnx(model_with_mask, exported_with_mask[0]))
    )
    (one,), (other,) = (e.heads([e.sampler(ct, CENTRE)]) for e in (ours, theirs))
    for name, values in one.outputs.items():
        np.testing.assert_allclose(other.outputs[name], values, atol=1e-4)
    masks = [
        e.mask_probability(e.sampler(ct, CENTRE), -3, 4, model_with_mask.config.patch)
        for e in (ours, theirs)
    ]
    np.testing.assert_allclose(*masks, atol=1e-4)


def test_the_export_of_another_model_is_refused(exported, tmp_path):
    from resmtnet.inference.onnx_members import with_onnx

    other = small_model(tmp_path / "other", 1)
    with pytest.raises(ModelError, match="was exported from model 7"):
        with_onnx(other, exported[0])
    with pytest.raises(ModelError, match="export onnx"):
        with_onnx(other, tmp_path)
