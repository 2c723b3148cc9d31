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
    atexit.register(remove_own, os.getpid())
    return folder


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


def remove_own(owner: int | None = None) -> None:
    """Delete the folder of this process; uvicorn ends by a signal, without what is due at exit.

    Args:
        owner: process that has made it; another one, such as a fork, leaves it alone.
    """
    if owner not in (None, os.getpid()):
        return
    for folder in _HELD:
        with suppress(OSError):
            shutil.rmtree(folder)
