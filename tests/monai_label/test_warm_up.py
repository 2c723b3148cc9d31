"""What is done once at the start of the server, and that it keeps nobody waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from resmtnet.monai_label import warm_up as module
from resmtnet.monai_label.warm_up import start_warm_up, warm_up

PATIENCE_S = 60.0
FIRST_CLICK = """
import sys
from pathlib import Path
from resmtnet import Characterizer
from resmtnet.monai_label.infer import SharedCharacterizer, make_tasks
from resmtnet.monai_label.served_model import ServedModel
from resmtnet.monai_label.settings import AppSettings
from resmtnet.monai_label.warm_up import warm_up
from resmtnet.retraining.registry import ModelRegistry

series, model = Path(sys.argv[1]), Path(sys.argv[2])
versions = ModelRegistry(series.parent / "versions", model)
served = ServedModel(versions, lambda folder: Characterizer.load(folder, "cpu"))
tasks = make_tasks(SharedCharacterizer(served, AppSettings()))
warm_up(served.now().model)
before = set(sys.modules)
for name in ("resmtnet_click", "resmtnet_findings"):
    file, _ = tasks[name]({"image": str(series), "foreground": [[8, 8, 5]]})
    Path(file).unlink()
print(sorted(set(sys.modules) - before))
"""
"""Prints the modules that the first click on a DICOM series still has to load."""


def test_a_click_a_mask_markups_and_a_label_are_warmed_up(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def note(name: str) -> None:
        step = getattr(module, name)

        def noted(*arguments: Any) -> Any:
            done.append(" ".join([name, *(a for a in arguments if isinstance(a, str))]))
            return step(*arguments)

        monkeypatch.setattr(module, name, noted)

    for name in ("write_mask", "read_label_map", "write_markups"):
        note(name)
    warm_up(fake)
    assert fake.warmed == 1
    assert len(fake.calls[0]["centres_mm"]) == 1
    masks = ["write_mask .nrrd", "read_label_map", "write_mask .nii.gz", "read_label_map"]
    assert done == [*masks, "write_markups"]


def test_no_file_is_left(fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(os.listdir(tmp_path))
    warm_up(fake)
    assert sorted(os.listdir(tmp_path)) == before


def test_the_server_answers_info_while_it_warms_up(
    fake: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = Event(), Event()

    def slow(self: Any) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)

    monkeypatch.setattr(type(fake), "warm_up", slow)
    thread = start_warm_up(fake)
    assert begun.wait(PATIENCE_S)
    assert [task.info()["version"] for task in tasks.values()] == ["0"] * 3
    assert thread.is_alive()
    go_on.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_the_first_click_on_a_dicom_series_loads_no_more_code(
    tmp_path: Path, checkout: Path, write_series: Callable[..., str]
) -> None:
    write_series(tmp_path / "series")
    command = [sys.executable, "-c", FIRST_CLICK, str(tmp_path / "series"), str(checkout / "model")]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "lib")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_a_failure_is_logged_and_ends_nothing(
    fake: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(type(fake), "warm_up", lambda self: 1 / 0)
    start_warm_up(fake).join(PATIENCE_S)
    assert "Warm-up failed" in caplog.text
