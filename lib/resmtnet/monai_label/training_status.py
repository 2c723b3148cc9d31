"""The status of the last training, kept in a small file that the server and the viewers read."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from resmtnet.audit import audit
from resmtnet.errors import InputError
from resmtnet.files import atomic_file
from resmtnet.types import Json

logger = logging.getLogger(__name__)


STATS, LOCK = "train_stats.json", ".training.lock"
RUNNING, PUBLISHED, KEPT, FAILED, STOPPED = "running", "published", "kept", "failed", "stopped"
"""Verdicts: still training; a new version is served; the old one stays; an error; killed."""
NOTHING: Json = {
    "epoch": 0,
    "total_epochs": 1,
    "best_metric": 0.0,
    "total_time": "0:00:00",
    "verdict": "none",
    "reason": "no training yet",
}
"""Before the first training. Slicer divides by total_epochs, and shows best_metric x 100; with
total_time OHIF shows that nothing is running, else "Training 100%"."""
_LEAST_S = 0.3
"""Between two writes of the progress; the viewers ask about once a second."""
_WAIT_S = 5.0
"""That a training waits for one that is just ending."""
ANOTHER = "Another training of these studies is running: wait until it ends, or stop it."


class TrainReport:
    """The status of the last training, or of the running one; other processes read it too."""

    def __init__(self, folder: Path) -> None:
        """Take a folder of versions; nothing is written before a training starts."""
        self.folder = folder
        self._said: Json = {}
        self._began_s = self._told_s = 0.0

    @contextmanager
    def training(self, total_epochs: int) -> Iterator[None]:
        """Keep other trainings out, and write the status of this one.

        Args:
            total_epochs: of the training.

        Raises:
            InputError: another training of these studies is running, or the folder is read-only.
        """
        lock = self._locked()
        try:
            self._began_s = time.time()
            self._said = {
                "epoch": 0,
                "total_epochs": max(1, total_epochs),
                "readings_then": self.read().get("readings_then", 0),
                "start_ts": int(self._began_s),
                "verdict": RUNNING,
                "reason": "",
            }
            self._write()
            audit("training began")
            yield
        except BaseException as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            self.finish(FAILED, f"{reason.rstrip('.')}. The served model is unchanged.")
            raise
        finally:
            lock.release()

    def progress(self, epoch: int, **more: object) -> None:
        """Write how many epochs are done; a few times a second at most."""
        self._said |= {"epoch": epoch, **more}
        if time.monotonic() - self._told_s > _LEAST_S:
            self._write()

    def finish(self, verdict: str, reason: str, **more: object) -> Json:
        """Write the result, and return the whole status."""
        self._said |= {"verdict": verdict, "reason": reason, "total_time": self._took(), **more}
        self._write()
        audit("training ended", verdict=verdict, published=more.get("published"))
        return dict(self._said)

    def read(self) -> Json:
        """Return the status; that of a training that was killed says so."""
        for _ in range(2):  # a training may end between the two looks
            said = self._read()
            if said.get("verdict") != RUNNING or self.at_work():
                return said
        reason = "Stopped before it ended. The served model is unchanged; train again."
        return said | {"verdict": STOPPED, "reason": reason, "total_time": "0:00:00"}

    def _read(self) -> Json:
        try:
            said = json.loads((self.folder / STATS).read_text())
            return {**{k: v for k, v in NOTHING.items() if k != "total_time"}, **said}
        except (OSError, ValueError, TypeError):
            return dict(NOTHING)

    def _locked(self) -> FileLock:
        lock = FileLock(self.folder / LOCK, timeout=_WAIT_S)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise InputError(ANOTHER) from error
        except OSError as error:
            raise InputError(_read_only(self.folder, error)) from error
        return lock

    def check_writable(self) -> None:
        """Refuse a folder in which no version could be published; nothing is written.

        Raises:
            InputError: naming the folder.
        """
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if not existing.is_dir():
            raise InputError(_read_only(self.folder, f"{existing} is a file"))
        if not os.access(existing, os.W_OK | os.X_OK):
            raise InputError(_read_only(self.folder, f"no write permission in {existing}"))

    def at_work(self) -> bool:
        """Whether a training of these studies is running, in any process.

        Asking changes nothing: any number of processes may ask at once, also in a read-only folder.
        """
        try:
            handle = os.open(self.folder / LOCK, os.O_RDONLY)
        except OSError:  # no training ever started here
            return False
        try:
            return _is_locked(handle)
        finally:
            os.close(handle)

    def _took(self) -> str:
        return str(timedelta(seconds=max(1, round(time.time() - self._began_s))))

    def _write(self) -> None:
        self._said["current_time"] = self._took()
        self._told_s = time.monotonic()
        # A full disk must not end the training.
        with suppress(OSError), atomic_file(self.folder / STATS, durable=False) as draft:
            draft.write_text(json.dumps(self._said, indent=1, default=str))


def _is_locked(handle: int) -> bool:
    """Whether another process holds the lock of an open file.

    A training holds it exclusively, and the system frees it however that process ends. A shared
    lock is granted to any number of askers at once, and is refused only while a training runs.
    """
    if sys.platform == "win32":  # there the locked byte itself cannot be read
        try:
            os.read(handle, 1)
        except PermissionError:
            return True
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # this file system has no locks: no training holds one
        return False
    return False


def _read_only(folder: Path, why: object) -> str:
    return f"No training: {folder} cannot be written ({why}). Give the server write access to it."


def outcome(stats: Mapping[str, Any]) -> str:
    """Return what became of a training in one sentence, for where a viewer has room for one.

    Args:
        stats: of the training.

    >>> outcome({"verdict": "kept", "reason": "Not published: too few. The old one stays."})
    'Not published: too few.'
    >>> outcome({"verdict": "published", "published": "3.1", "reason": "Not worse."})
    'Version 3.1 is published and answers now.'
    """
    verdict, reason = stats.get("verdict"), str(stats.get("reason") or "")
    if verdict == PUBLISHED:
        version = stats.get("published") or stats.get("version")
        return f"Version {version} is published and answers now."
    if verdict in (KEPT, FAILED, STOPPED):
        first, _, _ = reason.partition(". ")
        return f"{first.rstrip('.')}."
    return ""


def due(stats: Mapping[str, Any], count: int, after: int) -> bool:
    """Whether enough readings arrived since the last training to start another.

    Args:
        stats: of the last training.
        count: readings in the database.
        after: how many must arrive; 0: never start one automatically.

    >>> due({"readings_then": 10}, 14, 5), due({"readings_then": 10}, 15, 5), due({}, 5, 0)
    (False, True, False)
    """
    return after > 0 and count - int(stats.get("readings_then", 0)) >= after
