"""Temporary files of servers: in a folder of their own, cleared away also after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from resmtnet.server import scratch

SERVER = """
import tempfile
from resmtnet.server.scratch import own_temporary_folder
print(own_temporary_folder(), flush=True)
open(tempfile.mkstemp(prefix="mask-")[1], "w").close()
print("written", flush=True)
input()
"""


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """The system's folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def server(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has written a temporary file, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env={**os.environ, "TMPDIR": str(parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert process.stdout.readline().strip() == "written"
    return process, folder


def test_the_next_server_deletes_what_a_killed_one_left_and_leaves_a_running_one_alone(
    parent: Path,
) -> None:
    killed, left = server(parent)
    killed.kill()
    killed.communicate()
    assert [path.name[:5] for path in left.iterdir() if path.name[0] != "."] == ["mask-"]
    running, folder = server(parent)
    last, _ = server(parent)
    assert not left.exists()
    assert folder.parent == parent
    assert len(list(folder.glob("mask-*"))) == 1
    for process in (running, last):
        process.communicate("\n")


def test_what_is_no_folder_of_a_server_stays(parent: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / ".lock").touch()
    (parent / f"{scratch.PREFIX}link").symlink_to(mine)
    starting = parent / f"{scratch.PREFIX}starting"
    for folder in (starting, parent / "resmtnet-other"):
        folder.mkdir()
    assert scratch.remove_abandoned(parent) == 0
    assert len(list(parent.iterdir())) == 3
    assert (mine / ".lock").exists()


def test_the_folder_goes_when_the_server_ends_by_a_signal(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(parent))
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(parent))
    monkeypatch.setattr(scratch, "_HELD", {})
    folder = scratch.own_temporary_folder()
    assert Path(tempfile.gettempdir()) == folder
    scratch.remove_own_folder()
    assert not folder.exists()
    assert Path(tempfile.gettempdir()) == parent
