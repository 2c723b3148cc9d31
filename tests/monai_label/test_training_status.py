"""The stats of training: what the viewers read, also after a kill."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from resmtnet.errors import InputError
from resmtnet.monai_label import training_status as module
from resmtnet.monai_label.training_status import STATS, TrainReport, due

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def report(tmp_path: Path) -> TrainReport:
    return TrainReport(tmp_path / "models")


def test_before_the_first_training_slicer_can_read_the_stats(report: TrainReport) -> None:
    said = report.read()
    assert said["total_epochs"] > 0
    assert said["total_time"], "else OHIF shows 'Training 100%'"
    assert not report.folder.exists()


def test_a_running_training_tells_its_progress_and_its_end(
    report: TrainReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_S", -1.0)
    reader = TrainReport(report.folder)
    with report.training(40):
        said = reader.read()
        assert (said["epoch"], said["total_epochs"], said["verdict"]) == (0, 40, "running")
        assert "total_time" not in said
        report.progress(7, stage="epochs")
        said = reader.read()
        assert (said["epoch"], said["stage"]) == (7, "epochs")
        assert report.finish("kept", "no better", readings=12)["verdict"] == "kept"
    said = reader.read()
    assert (said["verdict"], said["reason"], said["readings"]) == ("kept", "no better", 12)
    assert said["total_time"]


def test_progress_is_not_written_more_often_than_it_is_read(report: TrainReport) -> None:
    with report.training(1000):
        for epoch in range(1000):
            report.progress(epoch)
        assert json.loads((report.folder / STATS).read_text())["epoch"] < 500
        report.finish("kept", "")
    assert report.read()["epoch"] == 999


def test_a_failure_is_told_in_one_line(report: TrainReport) -> None:
    def fail() -> None:
        with report.training(4):
            raise RuntimeError("first line\nsecond line.")

    with pytest.raises(RuntimeError):
        fail()
    said = report.read()
    assert said["verdict"] == "failed"
    assert said["reason"] == "first line second line. The served model is unchanged."
    assert said["total_time"]


def test_a_second_training_is_refused_and_changes_nothing(
    report: TrainReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_S", 0.05)
    with report.training(4):
        with (
            pytest.raises(InputError, match="Another training of these studies is running"),
            TrainReport(report.folder).training(9),
        ):
            pass
        assert report.read()["total_epochs"] == 4
        report.finish("kept", "")


def test_a_killed_training_is_told_as_stopped_and_the_next_one_starts(report: TrainReport) -> None:
    started = FORK.Event()

    def work() -> None:
        with TrainReport(report.folder).training(40):
            started.set()
            signal.pause()

    process = FORK.Process(target=work)
    process.start()
    assert started.wait(30)
    assert report.read()["verdict"] == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    said = report.read()
    assert said["verdict"] == "stopped"
    assert "unchanged" in said["reason"]
    assert said["total_time"]  # Slicer's bar goes back to 0
    with report.training(40):
        assert report.read()["verdict"] == "running"
        report.finish("published", "better")
    assert report.read()["verdict"] == "published"


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_file_counts_as_no_training(report: TrainReport, text: str) -> None:
    report.folder.mkdir()
    (report.folder / STATS).write_text(text)
    assert report.read()["epoch"] == 0


def test_training_is_due_after_so_many_readings_since_the_last(report: TrainReport) -> None:
    with report.training(1):
        report.progress(0, readings_then=10)
        report.finish("kept", "")
    assert not due(report.read(), 14, after=5)
    assert due(report.read(), 15, after=5)
    assert not due(report.read(), 1000, after=0)
    with pytest.raises(InputError), report.training(1):
        raise InputError("epochs is 0")
    assert not due(report.read(), 14, after=5)


def _probe_often(folder: Path, count: int, found: object) -> None:
    probe = TrainReport(folder)
    found.put(sum(probe.at_work() for _ in range(count)))  # type: ignore[attr-defined]


def test_idle_probes_of_several_processes_do_not_see_one_another(report: TrainReport) -> None:
    with report.training(1):
        report.finish("kept", "")
    found = FORK.Queue()
    probes = [FORK.Process(target=_probe_often, args=(report.folder, 300, found)) for _ in range(4)]
    for process in probes:
        process.start()
    assert [found.get(timeout=60) for _ in probes] == [0] * 4
    for process in probes:
        process.join()


def test_a_probe_neither_makes_files_nor_keeps_a_training_out(report: TrainReport) -> None:
    assert not report.at_work()
    assert not report.folder.exists()
    with report.training(1):
        assert all(TrainReport(report.folder).at_work() for _ in range(3))
        report.finish("kept", "")
    assert not report.at_work()


def test_a_folder_that_cannot_be_written_is_told_as_that_and_not_as_a_training(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("in the way")
    report = TrainReport(tmp_path / "file" / "models")
    assert not report.at_work()
    with pytest.raises(InputError, match=r"models cannot be written \(.*file is a file\)"):
        report.check_writable()
    with pytest.raises(InputError, match="cannot be written"), report.training(1):
        pass


def test_a_folder_without_write_permission_is_told(
    report: TrainReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.check_writable()
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    with pytest.raises(InputError, match="no write permission in"):
        report.check_writable()


def test_a_training_that_ends_while_it_is_looked_at_is_not_told_as_stopped(
    report: TrainReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(self: TrainReport) -> bool:
        (report.folder / STATS).write_text(json.dumps({"verdict": "published"}))
        return False

    report.folder.mkdir()
    (report.folder / STATS).write_text(json.dumps({"verdict": "running"}))
    monkeypatch.setattr(TrainReport, "at_work", ends)
    assert report.read()["verdict"] == "published"


def test_a_file_system_without_locks_is_not_told_as_a_training(
    report: TrainReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with report.training(1):
        report.finish("kept", "")
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not report.at_work()
