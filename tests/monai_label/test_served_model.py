"""The model that answers follows the version that is served; every request has one version."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resmtnet.errors import ConfigError
from resmtnet.findings import ModelInfo
from resmtnet.inference import onnx_members
from resmtnet.inference.model_folder import FILES, MANIFEST
from resmtnet.inference.onnx_members import DESCRIPTION, OnnxMember
from resmtnet.monai_label.infer import SharedCharacterizer, make_tasks
from resmtnet.monai_label.served_model import ServedModel, load_model, served_model
from resmtnet.monai_label.settings import AppSettings
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import check_model
from small_model import small_model

POINT = [8, 8, 5]


@pytest.fixture
def versions(tmp_path: Path, write_files: Callable[..., ModelInfo]) -> ModelRegistry:
    write_files(tmp_path / "shipped", "2")
    return ModelRegistry(tmp_path / "models", tmp_path / "shipped")


@pytest.fixture
def publish(versions: ModelRegistry, write_files: Callable[..., ModelInfo]) -> Callable[[], str]:
    def act() -> str:
        return versions.publish(lambda folder: write_files(folder, versions.next_version())).name

    return act


@pytest.fixture
def models(versions: ModelRegistry, fake: Any) -> ServedModel:
    """Each version is a stand-in of its own that tells the version of its folder."""

    def load(folder: Path) -> Any:
        check_model(folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        model = type(fake)()
        model.info = ModelInfo("fake", manifest["version"], manifest["sha256"])
        return model

    return ServedModel(versions, load)


@pytest.fixture
def image(tmp_path: Path, write_image: Callable[[Path], Path]) -> Path:
    return write_image(tmp_path / "ct.nii")


def test_the_next_request_is_answered_by_what_was_published_or_rolled_back_to(
    versions: ModelRegistry, models: ServedModel, publish: Callable[[], str]
) -> None:
    assert models.now().model.info.version == "2"
    publish()
    assert models.now().model.info.version == "2+site.1"
    versions.rollback()
    assert models.now().model.info.version == "2"


def test_a_model_is_read_once_for_each_version(
    models: ServedModel, publish: Callable[[], str]
) -> None:
    publish()
    first = models.now()
    assert models.now() is first


def test_a_request_that_runs_keeps_its_version(
    models: ServedModel,
    publish: Callable[[], str],
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake: Any,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    find = type(fake).find

    def slow(self: Any, *arguments: Any, **more: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        return find(self, *arguments, **more)

    monkeypatch.setattr(type(fake), "find", slow)
    shared = SharedCharacterizer(models, AppSettings())
    task = make_tasks(shared)["resmtnet"]
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(task({"image": str(image)})))
    thread.start()
    assert begun.wait(10)
    publish()
    assert shared.now.model.info.version == "2+site.1"
    go_on.set()
    thread.join(10)
    file, document = answers[0]
    Path(file).unlink()
    assert document["model"]["version"] == "2"


def test_info_and_answers_tell_the_version_that_answers(
    models: ServedModel, publish: Callable[[], str], image: Path
) -> None:
    task = make_tasks(SharedCharacterizer(models, AppSettings()))["resmtnet_click"]
    assert task.info()["version"] == "2"
    publish()
    assert task.info()["version"] == "2+site.1"
    file, document = task({"image": str(image), "foreground": [POINT]})
    Path(file).unlink()
    assert document["model"]["version"] == "2+site.1"
    assert document["warnings"] == []


def test_a_damaged_version_gives_way_with_a_warning_in_info_answer_and_log(
    versions: ModelRegistry,
    models: ServedModel,
    publish: Callable[[], str],
    image: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = publish()
    (versions.folder / name / FILES[0]).write_text("other")
    task = make_tasks(SharedCharacterizer(models, AppSettings()))["resmtnet_click"]
    (told,) = task.info()["warnings"]
    assert FILES[0] in told
    assert told in caplog.text
    file, document = task({"image": str(image), "foreground": [POINT]})
    Path(file).unlink()
    assert document["model"]["version"] == "2"
    assert document["warnings"] == [told]
    versions.rollback()
    assert task.info()["warnings"] == []


def test_the_model_in_memory_goes_on_where_no_other_can_be_read(
    versions: ModelRegistry, models: ServedModel, publish: Callable[[], str]
) -> None:
    publish()
    models.now()
    (versions.shipped / FILES[0]).write_text("other")
    second = publish()
    (versions.folder / second / FILES[0]).write_text("other")
    now = models.now()
    assert now.model.info.version == "2+site.1"
    assert "still answers" in now.warnings[0]


def test_versions_lie_beside_the_readings(tmp_path: Path, checkout: Path) -> None:
    model = checkout / "model"
    elsewhere = AppSettings(model_dir=model, device="cpu", readings=tmp_path / "a" / "r.sqlite")
    folders = [
        served_model(tmp_path / "app", "https://pacs/dicom-web", AppSettings(model_dir=model)),
        served_model(tmp_path / "app", str(tmp_path), elsewhere),
    ]
    assert [served.versions.folder for served in folders] == [
        tmp_path / "app" / "resmtnet" / "models",
        tmp_path / "a" / "models",
    ]


def test_the_folder_of_the_settings_counts_as_the_shipped_model(
    tmp_path: Path, checkout: Path
) -> None:
    settings = AppSettings(model_dir=checkout / "model", device="cpu")
    served = served_model("app", str(tmp_path), settings)
    assert served.versions.shipped == checkout / "model"
    assert served.versions.folder == tmp_path / "resmtnet" / "models"
    assert served.now().name == "shipped"


def test_onnx_runs_the_version_that_was_exported_and_pytorch_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = small_model(tmp_path / "one", 0), small_model(tmp_path / "other", 1)
    exported = tmp_path / "onnx"
    exported.mkdir()
    description = {"model": {"version": "7", "sha256": one.info.sha256}, "mask_steps": []}
    (exported / DESCRIPTION).write_text(json.dumps(description))
    monkeypatch.setattr(onnx_members, "_session", lambda path, threads: FakeSession())
    settings = AppSettings(onnx=exported)
    assert isinstance(load_model(one.folder, settings).model.networks[0], OnnxMember)
    assert isinstance(load_model(other.folder, settings).model.networks[0], ResMTNet)
    with pytest.raises(ConfigError, match="onnx runs on the CPU"):
        load_model(one.folder, AppSettings(onnx=exported, device="cuda:0"))


class FakeSession:
    """Stands for ONNX Runtime's, which needs files that take a minute to export."""

    def get_outputs(self) -> list[Any]:
        return []
