"""Sessions stay in their folder, unpack nothing, and end."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from fastapi import HTTPException

from resmtnet.monai_label.sessions import CheckedSessions


@pytest.fixture
def sessions(tmp_path: Path) -> CheckedSessions:
    return CheckedSessions(str(tmp_path / "sessions"), 3600)


def uploaded(folder: Path, name: str = "ct.nii.gz") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"voxels")
    return str(folder / name)


def test_an_image_is_kept_and_found(sessions: CheckedSessions, tmp_path: Path) -> None:
    name, info = sessions.add_session(uploaded(tmp_path / "up"))
    found = sessions.get_session(name)
    assert found is not None
    assert found.image == info.image
    sessions.remove_session(name)
    assert sessions.get_session(name) is None


def test_archives_are_not_unpacked(sessions: CheckedSessions, tmp_path: Path) -> None:
    with pytest.raises(HTTPException, match="not unpacked"):
        sessions.add_session(uploaded(tmp_path / "up", "a.zip"), uncompress=True)


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/etc", "", "x" * 36])
def test_an_id_that_is_a_path_is_refused(
    sessions: CheckedSessions, tmp_path: Path, name: str
) -> None:
    (tmp_path / "meta.info").write_text("{}")
    for call in (sessions.get_session, sessions.remove_session):
        with pytest.raises(HTTPException) as caught:
            call(name)
        assert caught.value.status_code == 400
    assert (tmp_path / "meta.info").exists()


@pytest.mark.parametrize("image", ["/etc/hostname", "../../x", ""])
def test_a_forged_file_of_a_session_names_no_other_file(
    sessions: CheckedSessions, tmp_path: Path, image: str
) -> None:
    name, _ = sessions.add_session(uploaded(tmp_path / "up"))
    meta = Path(sessions.store_path, name, "meta.info")
    meta.write_text(json.dumps({"name": name, "image": image or str(tmp_path)}))
    sessions.clear()
    assert sessions.get_session(name, update_ts=False) is None


def test_a_damaged_file_of_a_session_is_no_session(
    sessions: CheckedSessions, tmp_path: Path
) -> None:
    name, _ = sessions.add_session(uploaded(tmp_path / "up"))
    Path(sessions.store_path, name, "meta.info").write_text("[1")
    sessions.clear()
    assert sessions.get_session(name) is None


def test_a_file_called_like_that_of_a_session_is_refused(
    sessions: CheckedSessions, tmp_path: Path
) -> None:
    with pytest.raises(HTTPException):
        sessions.add_session(uploaded(tmp_path / "up", "meta.info"))


def test_a_session_ends_although_no_session_is_in_memory(
    sessions: CheckedSessions, tmp_path: Path
) -> None:
    over, _ = sessions.add_session(uploaded(tmp_path / "up"))
    lasts, _ = sessions.add_session(uploaded(tmp_path / "up"))
    meta = Path(sessions.store_path, over, "meta.info")
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"last_access_ts": 1}))
    sessions.clear()
    assert sessions  # MONAI Label asks this before it removes sessions
    assert sessions.remove_expired() == 1
    assert not meta.parent.exists()
    assert sessions.get_session(lasts) is not None


def test_the_upload_of_a_refused_session_is_deleted(
    sessions: CheckedSessions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(HTTPException):
        sessions.add_session(uploaded(tmp_path / "up", "meta.info"))
    assert not (tmp_path / "up").exists()
    with pytest.raises(HTTPException):
        sessions.add_session(uploaded(tmp_path, "a.zip"), uncompress=True)
    assert list(tmp_path.iterdir()) == []
