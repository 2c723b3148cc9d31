"""A temporary folder of the server's own: what clients upload lies in it until it was answered.

A server that is killed deletes nothing. The next one deletes the folders of those that are gone.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "resmtnet-server-"
_LOCK = ".lock"
_HELD: dict[Path, FileLock] = {}


def own_temporary_folder() -> Path:
    """Let this process, and those that it starts, keep temporary files in a folder of their own.

    Returns:
        The folder, which only this user can look into, and which is deleted at the end.
    """
    if _HELD:
        return next(iter(_HELD))
    above = Path(tempfile.gettempdir())
    remove_abandoned(above)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above)).resolve()
    lock = FileLock(folder / _LOCK)
    lock.acquire()
    _HELD[folder] = lock
    tempfile.tempdir = str(folder)
    for name in ("TMPDIR", "TEMP", "TMP"):
        os.environ[name] = str(folder)
    atexit.register(_remove, folder, os.getpid())
    return folder


def remove_own_folder() -> None:
    """Delete the folder now: where a signal ends a process, what atexit would do is not done."""
    for folder, lock in list(_HELD.items()):
        del _HELD[folder]
        tempfile.tempdir = str(folder.parent)
        for name in ("TMPDIR", "TEMP", "TMP"):
            os.environ[name] = str(folder.parent)
        _remove(folder, os.getpid())
        lock.release()


def remove_abandoned(above: Path) -> int:
    """Delete the folders of servers that have ended without doing so; return how many."""
    count = 0
    for folder in above.glob(f"{PREFIX}*"):
        lock = folder / _LOCK
        if folder.is_symlink() or not lock.is_file() or folder.resolve() in _HELD:
            continue
        try:
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
            count += 1
        except (Timeout, OSError):  # it runs, or is of another user
            continue
    return count


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() != owner:  # a fork of the server ends
        return
    with suppress(OSError):
        shutil.rmtree(folder)
