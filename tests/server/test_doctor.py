"""The page of `resmtnet doctor`: what is here, what is missing, what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from resmtnet.errors import ResMTNetError
from resmtnet.readings.location import database_in
from resmtnet.readings.store import ReadingStore
from resmtnet.server.doctor import check_all_good, examine, summary
from resmtnet.server.launch import free_port


def states(studies: str, port: int = 0, model: Path | None = None) -> dict[str, tuple[str, str]]:
    checks = examine(studies, port or free_port(), model)
    return {check.name: (check.state, check.told) for check in checks}


def test_a_sound_installation_has_no_problem(tmp_path: Path) -> None:
    with ReadingStore.open(database_in(tmp_path)):
        pass
    checks = examine(str(tmp_path), free_port())
    assert [check for check in checks if check.state == "problem"] == []
    check_all_good(checks)
    page = summary(checks)
    assert "0 readings, quick_check ok" in page
    assert "monailabel 0.8.5" in page
    assert "is whole; served: shipped" in page


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    database = database_in(tmp_path)
    database.parent.mkdir(parents=True)
    database.write_bytes(b"no database" * 500)
    found = states(str(tmp_path), model=tmp_path)
    assert found["readings"][0] == "problem"
    assert found["model"][0] == "problem"
    assert states(str(tmp_path / "none"))["studies"][0] == "problem"
    with pytest.raises(ResMTNetError, match=r"model.*readings"):
        check_all_good(examine(str(tmp_path), free_port(), tmp_path))


def test_images_of_one_name_are_named(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nrrd", "b.nii", ".a.mha"):
        (tmp_path / name).touch()
    state, told = states(str(tmp_path))["studies"]
    assert state == "note"
    assert "; of a only one file each is listed" in told


def test_a_pacs_that_does_not_answer_and_a_port_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = states(f"http://127.0.0.1:{free_port()}/dicom-web", taken.getsockname()[1])
    assert found["port"][0] == "note"
    state, told = found["studies"]
    assert state == "problem"
    assert "does not answer" in told
