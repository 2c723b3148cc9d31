"""The demo's parts: which CT, which voxels, which mistakes, which reader; and a small whole."""

from __future__ import annotations

import io
import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from resmtnet.cli.demo import command, loop
from resmtnet.cli.demo.answers import Study, choose_ct, voxels
from resmtnet.cli.demo.patients import PATIENTS, write_patients
from resmtnet.cli.demo.reader import correction
from resmtnet.ct.phantom import (
    Phantom,
    StudyPaths,
    write_dicom_series,
    write_nifti,
    write_study_folder,
)
from resmtnet.errors import InputError, PointError
from resmtnet.server.launch import ServerOptions

FEW = PATIENTS[:4]
"""Patients: two are read, two are not."""


@pytest.fixture
def studies(phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))
    write_nifti(phantom, tmp_path / "studies" / "plain.nii")
    write_dicom_series(phantom, tmp_path / "studies" / "patient" / "series")
    return tmp_path / "studies"


def test_the_first_ct_that_holds_the_point_is_asked(studies: Path, phantom: Phantom) -> None:
    from resmtnet.ct.phantom import series_uid

    at = (-75.0, 0.0, 20.0)
    for image_id in ("plain", series_uid(phantom)):
        chosen, ct = choose_ct(["unknown", image_id], Study(studies, (at,)))
        assert chosen == image_id
        assert ct.geometry.contains(at)


def test_a_point_in_none_of_the_cts_is_refused(studies: Path) -> None:
    with pytest.raises(PointError, match="none of the 1 CTs"):
        choose_ct(["plain"], Study(studies, ((500.0, 0.0, 0.0),)))


def test_a_folder_without_cts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no readable CT"):
        choose_ct([], Study(tmp_path))


def test_points_become_the_voxels_that_hold_them(studies: Path, phantom: Phantom) -> None:
    _, ct = choose_ct(["plain"], Study(studies))
    expected = np.rint(phantom.geometry.lps_to_ijk((-75.2, 1.1, 20.3))).tolist()
    assert voxels(ct, [(-75.2, 1.1, 20.3)]) == [expected]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at=-1,2,3"], "STUDIES=folder"),
        (["--studies=x", "--at=1,2"], "X,Y,Z"),
        (["--studies=nowhere"], "no such folder"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*arguments, f"--out={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_ct_that_was_written_is_asked_whatever_lies_beside_it(
    studies: Path, phantom: Phantom
) -> None:
    named = Study(studies, ((-75.0, 0.0, 20.0),), image_id="plain")
    assert choose_ct(["a", "plain"], named)[0] == "plain"
    with pytest.raises(InputError, match="no readable CT"):
        choose_ct(["plain"], Study(studies, image_id="a"))


def test_what_an_earlier_demo_wrote_gives_way_and_nothing_else_does(
    phantom: Phantom, tmp_path: Path
) -> None:
    folder = tmp_path / "studies"
    command.clear(folder)
    phantom = replace(phantom, seed=0)
    write_study_folder(folder, format="dicom", phantom=phantom)
    (folder / "resmtnet").mkdir()
    command.clear(folder)
    assert not folder.exists()
    folder.mkdir()
    (folder / "mine.nii").touch()
    with pytest.raises(InputError, match="in the way"):
        command.clear(folder)
    assert (folder / "mine.nii").exists()


def test_of_the_users_own_studies_nothing_is_said(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    options: list[ServerOptions] = []

    def server(given: ServerOptions, start_s: float) -> AbstractContextManager[str]:
        options.append(given)
        return nullcontext("http://127.0.0.1:9")

    for name in ("show_answers", "show_loop", "write_patients", "clear"):
        monkeypatch.setattr(command, name, lambda *_, name=name: called.append(name))
    monkeypatch.setattr(command, "running_server", server)
    monkeypatch.setattr(command.AppClient, "image_ids", lambda _: ["plain"])
    before = sorted(studies.rglob("*"))
    command.run(studies, (-75.0, 0.0, 20.0), tmp_path / "out", Console(file=io.StringIO()))
    assert called == ["show_answers"]
    assert sorted(studies.rglob("*")) == before
    (database,) = [Path(one.conf["readings"]) for one in options]
    assert studies not in database.parents


def test_enough_patients_are_read_for_new_weights() -> None:
    assert len(PATIENTS) - loop.UNREAD >= loop.OPTIONS["min_patients_of_weights"]


def told(name: str, score: float, axis_mm: float | None) -> dict[str, Any]:
    """An entry of "nodules", as far as the loop looks at it."""
    size = {"long_axis_mm": axis_mm, "short_axis_mm": None}
    return {"id": "N1", "class": {"name": name}, "malignancy": {"score": score}, "size": size}


@pytest.mark.parametrize(
    ("name", "score", "level"),
    [("benign", 1.4, 1), ("benign", 2.6, 2), ("indeterminate", 3.2, 3), ("malignant", 4.8, 5)],
)
def test_the_reader_is_a_level_surer_within_the_scale_and_measures_longer_axes(
    name: str, score: float, level: int
) -> None:
    said = correction(told(name, score, 10.0))
    assert said == {"class": name, "malignancy": level, "size": {"long_axis_mm": 11.0}}


def test_the_table_tells_how_far_answers_were_and_are_from_the_corrections() -> None:
    before = [told("benign", 2.0, 10.0), told("malignant", 4.0, None)]
    now = [told("benign", 1.8, 11.0), told("malignant", 4.4, None)]
    corrected = [loop.Corrected(f"p N{n}", one, correction(one)) for n, one in enumerate(before)]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(loop.gain_table(corrected, now, "3+site.1"))
    *_, last = (line for line in console.export_text().splitlines() if "off by" in line)
    assert last.split()[-4:] == ["1.00", "0.70", "9.1%", "0.0%"]


@pytest.mark.server
def test_the_demo_asks_the_server_and_goes_round_the_loop(
    phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))

    def small(out: Path, seed: int, format: str) -> StudyPaths:  # noqa: A002
        return write_study_folder(out, seed, format, phantom)

    monkeypatch.setattr(command, "write_study_folder", small)
    monkeypatch.setattr(command, "write_patients", lambda folder: write_patients(folder, FEW))
    monkeypatch.setattr(
        loop, "OPTIONS", {"min_readings": 5, "min_patients": 3, "min_patients_of_weights": 3}
    )
    console = Console(width=100, record=True, file=io.StringIO())
    command.run(None, None, tmp_path / "demo", console)
    said = console.export_text()
    for part in ("resmtnet: answered", "resmtnet_click: answered", "resmtnet_findings: answered"):
        assert part in said
    for part in ("to 'malignant malignancy=", "The gate, after", "off by", "Next study: "):
        assert part in said
    assert "not understood" not in said
    assert {line.split()[2] for line in said.splitlines() if line.startswith("Next study")} == {
        *FEW[-loop.UNREAD :]
    }
    assert "The server is stopped." in said
    found = {path.name for path in (tmp_path / "demo").iterdir()}
    assert found == {"studies", "overlay.png", "findings.json", "findings.mrk.json", "mask.nrrd"}
    document = json.loads((tmp_path / "demo" / "findings.json").read_text())
    measured = document["nodules"][0]["centre_lps_mm"]
    assert measured == pytest.approx(phantom.nodules[0].centre_lps_mm, abs=1.0)
