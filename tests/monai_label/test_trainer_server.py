"""A training through the real server: started, stopped, published, served and rolled back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alike import assert_alike
from phantom_readings import EAGER, IMAGE, LENIENT, points_lps_mm, read
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import write_nifti
from resmtnet.readings.location import database_in
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import check_model
from resmtnet.server.launch import ServerOptions, free_port, running_server


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, phantom: Phantom, small_model: Path
) -> Iterator[tuple[str, Path]]:
    """A server, and its folder of studies."""
    studies = tmp_path_factory.mktemp("site")
    write_nifti(phantom, studies / f"{IMAGE}.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path_factory.mktemp("sessions")))
        conf = {"model_dir": str(small_model), "device": "cpu"}
        options = ServerOptions(str(studies), port=free_port(), conf=conf)
        with running_server(options, timeout_s=180.0) as url:
            yield url, studies


@pytest.fixture
def client(site: tuple[str, Path], tmp_path: Path) -> Any:
    from monailabel.client.client import MONAILabelClient

    return MONAILabelClient(site[0], str(tmp_path))


@pytest.fixture
def versions(site: tuple[str, Path], small_model: Path) -> ModelRegistry:
    return ModelRegistry.beside(database_in(site[1]), small_model)


def ended(client: Any, timeout_s: float = 300.0) -> dict[str, Any]:
    """Wait for the training, and return MONAI Label's status of it."""
    end_s = time.monotonic() + timeout_s
    while True:
        status: dict[str, Any] = client.train_status()
        if status["status"] not in ("SUBMITTED", "RUNNING"):
            return status
        assert time.monotonic() < end_s, status
        time.sleep(0.2)


def stats(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.info()["train_stats"]["resmtnet"]
    return found


def wait_for(
    client: Any, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 300.0
) -> dict[str, Any]:
    """Wait until something holds of the stats, and return them."""
    end_s = time.monotonic() + timeout_s
    while not holds(told := stats(client)):
        assert time.monotonic() < end_s, told
        time.sleep(0.05)
    return told


def ask(client: Any, phantom: Phantom) -> dict[str, Any]:
    at = phantom.geometry.lps_to_ijk(phantom.nodules[0].centre_lps_mm)
    request = {"foreground": [[round(float(x)) for x in at]]}
    _, params = client.infer("resmtnet_click", IMAGE, request)
    return dict(params)


def client_error() -> type[Exception]:
    """What MONAI Label's client raises for any reply but 200."""
    from monailabel.client.client import MONAILabelClientException

    kind: type[Exception] = MONAILabelClientException
    return kind


SERVER = (
    pytest.mark.server,
    # MONAI Label's client leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
)


def on_a_server(test: Any) -> Any:
    for mark in SERVER:
        test = mark(test)
    return test


@on_a_server
def test_the_viewers_find_the_trainer_and_its_form(client: Any) -> None:
    info = client.info()
    assert list(info["trainers"]) == ["resmtnet"]
    assert info["trainers"]["resmtnet"]["config"]["depth"][0] == "heads"
    assert info["train_stats"]["resmtnet"]["version"] == "2"


@on_a_server
@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("resmtnet", {"epochs": "many"}, "400; .*epochs is .*many.*; a whole number from 1 to"),
        ("resmtnet", {"depth": "full"}, "400; .*--conf archive DIR"),
        ("other", {}, "404; .*no trainer .*other.*; allowed are resmtnet"),
    ],
)
def test_what_cannot_run_is_refused_at_once_and_changes_nothing(
    client: Any, model: str, options: dict[str, Any], told: str
) -> None:
    before = stats(client)
    with pytest.raises(client_error(), match=told):
        client.train_start(model, options)
    assert stats(client) == before


@on_a_server
def test_a_stopped_training_publishes_nothing_and_the_next_one_is_served(
    client: Any, site: tuple[str, Path], versions: ModelRegistry, phantom: Phantom
) -> None:
    with ReadingStore.open(database_in(site[1])) as store:
        read(store, points_lps_mm(phantom, 6))
    before = ask(client, phantom)
    assert before["model"]["version"] == "2"
    client.train_start("resmtnet", {**EAGER, **LENIENT, "epochs": 1000, "learning_rate": 1e-6})
    wait_for(client, lambda told: told["verdict"] == "running")
    with pytest.raises(client_error(), match=r"429; .*Another training"):
        client.train_start("resmtnet", {})
    client.train_stop()
    assert ended(client)["status"] == "STOPPED"
    told = wait_for(client, lambda told: told["verdict"] != "running")  # the kill takes a moment
    assert told["verdict"] == "stopped"
    assert "unchanged" in told["reason"]
    assert versions.current() == versions.shipped
    assert_alike(ask(client, phantom)["nodules"], before["nodules"])

    client.train_start("resmtnet", {**EAGER, **LENIENT, "epochs": "20"})
    assert ended(client)["status"].startswith("DONE. Version 2+site.1 is published")
    told = stats(client)
    assert (told["verdict"], told["version"]) == ("published", "2+site.1"), told["reason"]
    check_model(versions.current())
    after = ask(client, phantom)
    assert after["model"]["version"] == "2+site.1"
    scores = [document["nodules"][0]["malignancy"]["score"] for document in (before, after)]
    assert not np.isclose(*scores)
    versions.rollback()
    again = ask(client, phantom)
    assert again["model"] == before["model"]
    assert_alike(again["nodules"], before["nodules"])
