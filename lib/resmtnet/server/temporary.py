"""Temporary files of a server lie in a folder of its own, which the next server clears away."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PREFIX = "resmtnet-server-"
_LOCK = ".in-use"
_YOUNG_S = 60.0
"""A folder without a lock that is younger may be of a server that starts."""
_held: dict[Path, Any] = {}
"""The folder of this process, with its open lock."""


def use_own_folder() -> Path:
    """Let this process, and those that it starts, make temporary files in a folder of their own.

    Folders of servers that were killed are deleted: a server tells that it runs by a lock on a file
    in its folder, which the system gives up when the process ends.

    Returns:
        The folder; the same one when it is called again.
    """
    for folder in _held:
        return folder
    _delete_abandoned(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    _held[folder] = _locked(folder / _LOCK)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    return folder


def delete_own_folder() -> None:
    """Delete the folder of this process with what is in it; nothing if it has none."""
    for folder, lock in list(_held.items()):
        del _held[folder]
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder.parent)
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            lock.close()


def _delete_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # of another user, or deleted meanwhile
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            lock = folder / _LOCK
            if not lock.exists():
                abandoned = time.time() - found.st_mtime > _YOUNG_S
            else:
                held = _locked(lock)
                abandoned = held is not None
                if held is not None:
                    held.close()
            if abandoned:
                shutil.rmtree(folder, ignore_errors=True)


def _locked(path: Path) -> Any:
    """Lock a file until it is closed or the process ends; None if another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows: folders of killed servers stay
        return None
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
