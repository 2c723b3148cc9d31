"""Temporary files of servers: in a folder of their own, cleared away also after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resmtnet.server import temporary

SERVER = """
import tempfile
from resmtnet.server.temporary import use_own_folder
print(use_own_folder(), flush=True)
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
    (mine / "work").touch()
    (parent / f"{temporary.PREFIX}link").symlink_to(mine)
    young, old = parent / f"{temporary.PREFIX}young", parent / f"{temporary.PREFIX}old"
    for folder in (young, old, parent / "resmtnet-other"):
        folder.mkdir()
    an_hour_ago_s = time.time() - 3600
    os.utime(old, (an_hour_ago_s, an_hour_ago_s))
    temporary._delete_abandoned(parent)
    assert (mine / "work").exists()
    assert young.exists()
    assert not old.exists()
    assert (parent / "resmtnet-other").exists()
