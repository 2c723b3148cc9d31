"""A model on disk: read back alike, refused when anything differs, never half written."""

import json
from dataclasses import replace

import pytest
import torch

from resmtnet.config import NetworkConfig, TrainingConfig
from resmtnet.errors import InputError, ModelError
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.member_states import read_tensors
from resmtnet.inference.model_folder import (
    FILES,
    default_model_dir,
    read_model,
    revise_model,
    verify,
    write_model,
)
from resmtnet.network.resmtnet import ResMTNet

CONFIG = TrainingConfig(network=NetworkConfig(widths=(4, 4, 4), hidden=8))


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    members = [ResMTNet(CONFIG.network).state_dict() for _ in range(2)]
    further = {"extra.csv": lambda path: path.write_text("a,b\n")}
    write_model(tmp_path / "m", "7", members, CONFIG, Calibration(), {"data": "none"}, further)
    return tmp_path / "m"


def test_members_that_were_written_answer_alike_in_half_precision(folder):
    torch.manual_seed(0)
    originals = [ResMTNet(CONFIG.network).eval() for _ in range(2)]
    model = read_model(folder)
    slices = torch.randn(1, 5, 48, 48)
    for original, network in zip(originals, model.networks, strict=True):
        one, other = (n(n.encode(slices), 1).tasks["class"] for n in (original, network))
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)
        assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert model.config == CONFIG
    assert model.info.version == "7"
    assert model.info.sha256 == verify(folder)["sha256"]


def test_weights_take_two_bytes_a_number(folder):
    numbers = sum(v.numel() for n in read_model(folder).networks for v in n.state_dict().values())
    assert (folder / "weights.safetensors").stat().st_size < 2.2 * numbers + 40_000


def test_member_count_is_the_models_own(folder):
    member = ResMTNet(CONFIG.network).state_dict()
    write_model(folder, "8", [member] * 3, CONFIG, Calibration(), {})
    assert len(read_model(folder).networks) == 3
    with pytest.raises(ModelError, match="at least one"):
        write_model(folder, "8", [], CONFIG, Calibration(), {})


def test_weights_that_a_half_cannot_hold_are_refused(folder):
    member = ResMTNet(CONFIG.network).state_dict()
    member["stem.1.running_var"] = torch.full_like(member["stem.1.running_var"], 1e6)
    with pytest.raises(ModelError, match=r"0\.stem\.1\.running_var"):
        write_model(folder, "8", [member], CONFIG, Calibration(), {})
    assert read_model(folder).info.version == "7"


def test_further_files_are_checked_like_the_others(folder):
    assert (folder / "extra.csv").read_text() == "a,b\n"
    assert "extra.csv" in verify(folder)["files"]


def test_further_file_cannot_take_the_name_of_another(folder):
    member = ResMTNet(CONFIG.network).state_dict()
    further = {"config.json": lambda path: path.write_text("{}")}
    with pytest.raises(InputError, match=r"config\.json"):
        write_model(folder, "8", [member], CONFIG, Calibration(), {}, further)


def test_manifest_names_the_layer_of_the_embeddings_and_the_members(folder):
    manifest = verify(folder)
    assert manifest["members"] == 2
    assert manifest["embedding_layer"] == "heads.<branch>.outputs"


@pytest.mark.parametrize("name", [*FILES, "extra.csv"])
def test_a_changed_file_is_refused_by_name(folder, name):
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match=name):
        read_model(folder)


@pytest.mark.parametrize("name", [*FILES, "extra.csv"])
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
    info = write_model(folder, "8", [weights], CONFIG, Calibration(), {})
    assert read_model(folder).info == info
    assert not (folder / "stray").exists()
    assert [p.name for p in folder.parent.iterdir()] == ["m"]


def test_the_shipped_model_is_whole():
    model = read_model()
    assert model.info.name == "resmtnet"
    for network in model.networks:
        assert sum(p.numel() for p in network.parameters()) <= 5e6
    assert (model.folder / "weights.safetensors").stat().st_size <= 16e6
    assert sum(path.stat().st_size for path in model.folder.iterdir()) <= 20e6


def test_what_a_model_carries_is_read_once(folder):
    read = []

    def count_files(path):
        read.append(path)
        return len(list(path.iterdir()))

    model = read_model(folder)
    assert model.carried(count_files) == model.carried(count_files) > 0
    assert read == [folder]
    assert model.provenance == verify(folder)["provenance"]


def test_revised_model_has_the_same_weights_and_says_what_was_changed(folder, tmp_path):
    old = read_model(folder)
    calibration = replace(old.calibration, decision_threshold=0.77)
    info = revise_model(folder, tmp_path / "new", "8", calibration, note="Another threshold.")
    new = read_model(tmp_path / "new")
    assert new.info == info
    assert new.calibration.decision_threshold == 0.77
    before, after = verify(folder), verify(tmp_path / "new")
    assert after["files"]["weights.safetensors"] == before["files"]["weights.safetensors"]
    assert after["provenance"]["revised"] == {
        "version": before["version"],
        "sha256": before["sha256"],
        "note": "Another threshold.",
    }


def test_file_of_every_model_cannot_be_left_out(folder, tmp_path):
    calibration = read_model(folder).calibration
    with pytest.raises(InputError, match=r"config\.json"):
        revise_model(folder, tmp_path / "new", "8", calibration, without=["config.json"])
