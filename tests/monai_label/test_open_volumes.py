"""Which files a worker opens before the server does."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from resmtnet.errors import VolumeError
from resmtnet.monai_label import open_volumes
from resmtnet.monai_label.open_volumes import OpenVolumes


@pytest.mark.parametrize(
    ("name", "apart"), [("tmpabcd1234.dcm", True), ("tmpabcd1234.nii", True), ("slice.dcm", False)]
)
def test_an_upload_of_any_kind_is_opened_by_a_worker_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, apart: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened: list[Path] = []
    monkeypatch.setattr(open_volumes, "open_apart", opened.append)
    monkeypatch.setattr(open_volumes, "check_whole", lambda path: None)
    monkeypatch.setattr(open_volumes, "read_apart", lambda function, path: nullcontext(path))
    (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(VolumeError):
        OpenVolumes(1).open(tmp_path / name)
    assert opened == ([tmp_path / name] if apart else [])
