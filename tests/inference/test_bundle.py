"""The MONAI bundle: what MONAI's own command answers is what the package answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from resmtnet.cli import run
from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom, write_nifti
from resmtnet.inference.bundle import Answer, networks
from resmtnet.inference.characterizer import Characterizer
from resmtnet.inference.model_folder import Model
from small_model import small_model

REQUIRED = (
    *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version"),
    *("required_packages_version", "name", "task", "description", "authors", "copyright"),
    "network_data_format",
)
"""Of metadata.json, by MONAI's specification of bundles."""
FORMAT = (
    *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range"),
    *("is_patch_data", "channel_def"),
)
"""The same, of each tensor."""
POINT = [-75.0, 0.0, 20.0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return small_model(tmp_path_factory.mktemp("bundle") / "model")


@pytest.fixture(scope="module")
def bundle(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    assert run(["export", "bundle", "--model", str(model.folder), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def image(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "ct.nii"
    write_nifti(phantom, path)
    return path


def assert_alike(one: Any, other: Any, at: str = "") -> None:
    """Equal, numbers within 1e-4."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), at
        for name in one:
            assert_alike(one[name], other[name], f"{at}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), at
        for n, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_alike(a, b, f"{at}[{n}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6), at
    else:
        assert one == other, at


def run_by_monai(bundle: Path, *options: str) -> None:
    """Run MONAI's own command, as its documentation has it."""
    files = [f"--{name}_file={bundle / 'configs' / of}.json" for name, of in CONFIGS]
    package = Path(sys.modules["resmtnet"].__file__ or "").parents[1]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "monai.bundle",
            "run",
            *files,
            f"--bundle_root={bundle}",
            *options,
        ],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


CONFIGS = (("meta", "metadata"), ("config", "inference"))


def test_monai_runs_the_shipped_model_and_answers_what_the_command_line_answers(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = tmp_path / "bundle", tmp_path / "findings.json"
    assert run(["export", "bundle", "--out", str(bundle)]) == 0
    points = f"--points={json.dumps([POINT])}"
    run_by_monai(bundle, f"--image={image}", points, f"--output={out}")
    capsys.readouterr()
    at = ",".join(map(str, POINT))
    assert run(["characterize", str(image), f"--at={at}", "--json"]) == 0
    told, ours = json.loads(out.read_text()), json.loads(capsys.readouterr().out)
    assert told["nodules"][0]["size"]["volume_mm3"] > 0
    assert_alike(without_timing(told), without_timing(ours))


def without_timing(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "timing_ms"}


def test_monai_finds_the_network_to_be_what_the_metadata_says(bundle: Path) -> None:
    from monai.bundle import verify_net_in_out

    meta, config = (str(bundle / "configs" / f"{of}.json") for _, of in CONFIGS)
    verify_net_in_out("network_def", meta, config, "cpu", bundle_root=str(bundle))
    wrong: dict[str, Any] = {"_meta_#network_data_format#outputs#pred#num_channels": 1}
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out("network_def", meta, config, "cpu", bundle_root=str(bundle), **wrong)


def test_the_network_of_the_bundle_gives_the_mean_logits_in_the_order_that_is_told(
    bundle: Path, model: Model
) -> None:
    patch = model.config.patch
    slices = torch.rand(3, len(patch.offsets_mm), patch.size_px, patch.size_px)
    channels = json.loads((bundle / "configs" / "metadata.json").read_text())
    pred = channels["network_data_format"]["outputs"]["pred"]
    with torch.no_grad():
        found = networks(bundle / "models" / "resmtnet").eval()(slices)
        own = model.networks[0]
        expected = own(own.encode(slices), 3).tasks
    assert found.shape == (3, pred["num_channels"])
    first = [n for n, name in pred["channel_def"].items() if name.startswith("texture_class")]
    torch.testing.assert_close(found[:, [int(n) for n in first]], expected["texture_class"])


def test_a_search_answers_what_the_package_answers(bundle: Path, image: Path, model: Model) -> None:
    ours, ct = Characterizer(model), CTVolume.open(image)
    expected = ours.document(ct, ours.find(ct, max_candidates=2))
    assert expected["nodules"]
    found = Answer(bundle / "models" / "resmtnet", "cpu")(str(image), max_candidates=2)
    assert_alike(found, json.loads(json.dumps(expected)))


def test_metadata_holds_what_the_specification_asks_for(bundle: Path) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert [name for name in REQUIRED if not metadata.get(name)] == []
    ends = metadata["network_data_format"]
    tensors = [*ends["inputs"].values(), *ends["outputs"].values()]
    assert [name for tensor in tensors for name in FORMAT if name not in tensor] == []
    assert metadata["version"] == "7.0.0"


def test_the_state_of_the_networks_is_that_of_the_model(bundle: Path, model: Model) -> None:
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    rebuilt = networks(bundle / "models" / "resmtnet")
    rebuilt.load_state_dict(state)
    for name, value in model.networks[0].state_dict().items():
        assert torch.equal(state[f"0.{name}"], value)
