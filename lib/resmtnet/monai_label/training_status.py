"""What the viewers are told of training: a small file beside the versions, and who is at work."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from resmtnet.errors import InputError
from resmtnet.files import atomic_file
from resmtnet.types import Json

logger = logging.getLogger(__name__)


STATS, LOCK = "train_stats.json", ".training.lock"
RUNNING, PUBLISHED, KEPT, FAILED, STOPPED = "running", "published", "kept", "failed", "stopped"
"""Verdicts: at work; a new version is served; the old one is; an error; ended from outside."""
NOTHING: Json = {
    "epoch": 0,
    "total_epochs": 1,
    "best_metric": 0.0,
    "verdict": "none",
    "reason": "no training yet",
}
"""Before the first training. Slicer divides by total_epochs, and shows best_metric x 100."""
_LEAST_S = 0.3
_WAIT_S = 5.0


class TrainReport:
    """The stats of the last training, or of the one at work; read by another process."""

    def __init__(self, folder: Path) -> None:
        """Look at a folder of versions; nothing is made before a training starts."""
        self.folder = folder
        self._said: Json = {}
        self._began_s = self._told_s = 0.0

    @contextmanager
    def training(self, total_epochs: int) -> Iterator[None]:
        """Keep other trainings out, and tell how this one goes.

        Args:
            total_epochs: of the training.

        Raises:
            InputError: another training of these studies runs.
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
            yield
        except BaseException as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            self.finish(FAILED, f"{reason.rstrip('.')}. The served model is unchanged.")
            raise
        finally:
            lock.release()

    def progress(self, epoch: int, **more: object) -> None:
        """Tell how many epochs are done; a few times a second at most."""
        self._said |= {"epoch": epoch, **more}
        if time.monotonic() - self._told_s > _LEAST_S:
            self._write()

    def finish(self, verdict: str, reason: str, **more: object) -> Json:
        """Tell the end, and return all that is told."""
        self._said |= {"verdict": verdict, "reason": reason, "total_time": self._took(), **more}
        self._write()
        return dict(self._said)

    def read(self) -> Json:
        """Return the stats; those of a training that was killed say so."""
        try:
            said: Json = {**NOTHING, **json.loads((self.folder / STATS).read_text())}
        except (OSError, ValueError, TypeError):
            return dict(NOTHING)
        if said.get("verdict") == RUNNING and not self.at_work():
            reason = "it was stopped before it ended; the served model is unchanged: train again"
            said |= {"verdict": STOPPED, "reason": reason, "total_time": "0:00:00"}
        return said

    def _locked(self) -> FileLock:
        lock = FileLock(self.folder / LOCK, timeout=_WAIT_S)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise InputError("another training of these studies runs: wait, or stop it") from error
        except OSError as error:
            raise InputError(f"{self.folder} cannot be written ({error}): no training") from error
        return lock

    def at_work(self) -> bool:
        """Whether a training of these studies runs, in any process."""
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                return False
        except (Timeout, OSError):
            return True

    def _took(self) -> str:
        return str(timedelta(seconds=max(1, round(time.time() - self._began_s))))

    def _write(self) -> None:
        self._said["current_time"] = self._took()
        self._told_s = time.monotonic()
        # A full disk must not end the training.
        with suppress(OSError), atomic_file(self.folder / STATS) as draft:
            draft.write_text(json.dumps(self._said, indent=1, default=str))


def due(stats: Mapping[str, Any], count: int, after: int) -> bool:
    """Whether enough readings came since the last training to start another.

    Args:
        stats: of the last training.
        count: readings in the database.
        after: how many have to come; 0: never by itself.

    >>> due({"readings_then": 10}, 14, 5), due({"readings_then": 10}, 15, 5), due({}, 5, 0)
    (False, True, False)
    """
    return after > 0 and count - int(stats.get("readings_then", 0)) >= after
