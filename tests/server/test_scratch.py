"""Temporary files of a server: in a folder of its own, and gone when it is gone."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from resmtnet.server.scratch import PREFIX, remove_abandoned

BEGIN = (
    "import os, tempfile, time, sys; from resmtnet.server.scratch import own_temporary_folder; "
    "folder = own_temporary_folder(); handle, name = tempfile.mkstemp(); os.umask(0o022); "
    "assert name.startswith(str(folder)), name; print(folder, flush=True); "
)


def server(above: Path, then: str) -> tuple[subprocess.Popen[str], Path]:
    environment = {**os.environ, "TMPDIR": str(above)}
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + then], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_server_that_ends_leaves_nothing(tmp_path: Path) -> None:
    process, folder = server(tmp_path, "assert os.environ['TMPDIR'] == str(folder)")
    process.communicate()
    assert process.returncode == 0
    assert folder.name.startswith(PREFIX)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_deleted_by_the_next_one_and_not_before(
    tmp_path: Path,
) -> None:
    process, folder = server(tmp_path, "time.sleep(600)")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert remove_abandoned(tmp_path) == 0  # it runs
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(list(folder.iterdir())) == 2  # an upload, and the lock
    other = tmp_path / f"{PREFIX}of-a-user"
    other.mkdir()  # without a lock: it may be in the making
    while remove_abandoned(tmp_path) == 0:
        time.sleep(0.01)
    assert list(tmp_path.iterdir()) == [other]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    (target / ".lock").touch()
    above = tmp_path / "tmp"
    above.mkdir()
    (above / f"{PREFIX}x").symlink_to(target)
    assert remove_abandoned(above) == 0
    assert target.is_dir()
