"""The demo's own parts: which CT, which voxels, which mistakes. The whole runs by `make demo`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from resmtnet import demo
from resmtnet.ct.phantom import (
    Phantom,
    StudyPaths,
    write_dicom_series,
    write_nifti,
    write_study_folder,
)
from resmtnet.errors import InputError, PointError


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
        chosen, ct = demo.choose_ct(["unknown", image_id], demo.Study(studies, (at,)))
        assert chosen == image_id
        assert ct.geometry.contains(at)


def test_a_point_in_none_of_the_cts_is_refused(studies: Path) -> None:
    with pytest.raises(PointError, match="none of the 1 CTs"):
        demo.choose_ct(["plain"], demo.Study(studies, ((500.0, 0.0, 0.0),)))


def test_a_folder_without_cts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CT"):
        demo.choose_ct([], demo.Study(tmp_path))


def test_points_become_the_voxels_that_hold_them(studies: Path, phantom: Phantom) -> None:
    _, ct = demo.choose_ct(["plain"], demo.Study(studies))
    expected = np.rint(phantom.geometry.lps_to_ijk((-75.2, 1.1, 20.3))).tolist()
    assert demo.voxels(ct, [(-75.2, 1.1, 20.3)]) == [expected]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at=-1,2,3"], "STUDIES=folder"),
        (["--studies=x", "--at=1,2"], "x,y,z"),
        (["--studies=nowhere"], "no such folder"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main([*arguments, f"--out={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.server
def test_the_demo_asks_the_server_and_leaves_a_picture(
    phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))

    def small(out: Path, seed: int, format: str) -> StudyPaths:  # noqa: A002
        return write_study_folder(out, seed, format, phantom)

    monkeypatch.setattr(demo, "write_study_folder", small)
    console = Console(width=100, record=True, file=io.StringIO())
    demo.run(None, None, tmp_path / "demo", console)
    said = console.export_text()
    for part in ("resmtnet: answered", "resmtnet_click: answered", "resmtnet_findings: answered"):
        assert part in said
    assert "The server is stopped." in said
    found = {path.name for path in (tmp_path / "demo").iterdir()}
    assert found == {"studies", "overlay.png", "findings.json", "findings.mrk.json", "mask.nrrd"}
    document = json.loads((tmp_path / "demo" / "findings.json").read_text())
    measured = document["nodules"][0]["centre_lps_mm"]
    assert measured == pytest.approx(phantom.nodules[0].centre_lps_mm, abs=1.0)
