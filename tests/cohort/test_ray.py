"""Ray: the rows of the local engine, whichever process is killed; nothing lost, nothing double."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cohort_model import CohortModel
from resmtnet.cohort.ledger import FINDINGS
from resmtnet.cohort.score import ROWS, SUMMARY, score_cohort
from resmtnet.cohort.studies import list_studies
from resmtnet.ct.phantom import make_phantom, write_nifti

parquet = pytest.importorskip("pyarrow.parquet", reason="needs resmtnet[cohort]")
pytest.importorskip("ray", reason="needs resmtnet[cohort]")

CENTRE = (-75.0, 0.0, 20.0)
PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten small CTs, one that kills who scores it, and one that is no image."""
    folder = tmp_path_factory.mktemp("cohort")
    phantom = make_phantom(shape_kji=(16, 24, 24), nodules=[], centre_lps_mm=CENTRE)
    for n, name in enumerate([*(f"ct-{n:02}" for n in range(10)), "deadly"]):
        write_nifti(replace(phantom, hu=phantom.hu + np.int16(n)), folder / f"{name}.nii")
    (folder / "bad.nii").write_bytes(b"this is no image")
    return folder


@contextmanager
def run_on_ray(cohort: Path, out: Path, asked: Path) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own, with two workers."""
    asked.mkdir(exist_ok=True)
    script = Path(sys.modules[CohortModel.__module__].__file__ or "")
    package = Path(sys.modules["resmtnet"].__file__ or "").parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{script.parent}"}
    command = [sys.executable, *map(str, (script, cohort, out, asked))]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def finished(out: Path) -> int:
    return len(list((out / FINDINGS).glob("*.json")))


def rows(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = parquet.read_table(out / ROWS).to_pylist()
    return found


def test_killed_driver_and_killed_worker_lose_and_double_nothing(
    cohort: Path, tmp_path: Path
) -> None:
    out, asked = tmp_path / "ray", tmp_path / "asked"
    with run_on_ray(cohort, out, asked) as driver:
        wait_for(lambda: finished(out) >= 3, driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = {file.name: file.read_text() for file in (out / FINDINGS).glob("*.json")}
    kept = {json.loads(text)["study_id"] for text in before.values()}
    again = tmp_path / "again"
    with run_on_ray(cohort, out, again) as driver:
        wait_for(lambda: finished(out) >= len(before) + 1, driver)
        (first, *_) = (int(file.name.split(".")[-2]) for file in again.iterdir())
        os.kill(first, signal.SIGKILL)
        told, _ = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == 0, told
    assert "studies=12" in told
    assert "failed=2" in told
    scored_again = {file.name.rpartition(".")[0].rpartition(".")[0] for file in again.iterdir()}
    assert not scored_again & {name.removesuffix(".nii") for name in kept}
    local = tmp_path / "local"
    load = partial(CohortModel, asked, deadly=False)
    score_cohort(list_studies(str(cohort)), load, local)
    assert_same_rows(rows(out), rows(local))
    (dead,) = [row for row in rows(out) if row["study_id"] == "deadly.nii"]
    assert dead["status"] == "failed"
    assert "WorkerDied" in str(dead["reason"])
    assert "WorkerDied" in (out / SUMMARY).read_text()


def assert_same_rows(found: list[dict[str, object]], expected: list[dict[str, object]]) -> None:
    """Those of the deadly study aside, which the local engine was spared."""
    found, expected = (
        [row for row in some if row["study_id"] != "deadly.nii"] for some in (found, expected)
    )
    assert len(expected) > 11
    assert len(found) == len(expected)
    assert max(Counter((row["study_id"], row["nodule_id"]) for row in found).values()) == 1
    for row, other in zip(found, expected, strict=True):
        for name, value in other.items():
            same = pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
            assert row[name] == same, name
