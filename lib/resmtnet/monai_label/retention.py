"""Deletes what was kept for a while: cached CTs, series of the PACS, uploads that nobody has read.

Readings, masks, labels and versions are never deleted here; `resmtnet purge` does so by patient.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from resmtnet.ct.cache import cache_folder
from resmtnet.ct.dicom_header import is_uid
from resmtnet.errors import ResMTNetError
from resmtnet.monai_label.dicomweb import UNFINISHED
from resmtnet.monai_label.settings import AppSettings

logger = logging.getLogger(__name__)

EVERY_S = 3600.0
DAY_S = 86_400.0


@dataclass(frozen=True)
class Kept:
    """A CT in a cache: its files, how large they are, and when it was used last."""

    paths: tuple[Path, ...]
    n_bytes: int
    used_s: float


def start_sweeping(app: Any) -> None:
    """Sweep now and every hour, in the background.

    Args:
        app: with its settings, datastore and readings.
    """

    def run() -> None:
        while True:
            try:
                gone = sweep(app)
            except Exception:
                logger.exception("Old files could not be deleted")
            else:
                if gone:
                    logger.info("deleted", extra={"facts": dict(gone)})
            time.sleep(EVERY_S)

    threading.Thread(target=run, name="retention", daemon=True).start()


def sweep(app: Any, now_s: float | None = None) -> Counter[str]:
    """Delete what is older than the settings say; return how much of each kind.

    Args:
        app: with its settings, datastore and readings.
        now_s: seconds since the epoch; None: now.
    """
    settings: AppSettings = app.shared.settings
    now_s = time.time() if now_s is None else now_s
    datastore, gone = app.datastore(), Counter[str]()
    _renew_temporary_folder()
    if settings.cache_days:
        limit_s = now_s - settings.cache_days * DAY_S
        for kind, found in (("volumes", volumes()), ("downloads", downloads())):
            gone[kind] += _delete(k for k in found if k.used_s < limit_s)
    if hasattr(datastore, "cache_of_pacs"):
        series = series_in(Path(datastore.cache_of_pacs))
        gone["series"] += _delete(too_many(series, settings, now_s))
        unfinished = unfinished_in(Path(datastore.cache_of_pacs))
        gone["unfinished downloads"] += _delete(k for k in unfinished if k.used_s < now_s - DAY_S)
    elif settings.upload_days:
        gone["uploads"] += _delete_uploads(app, now_s - settings.upload_days * DAY_S)
    return +gone


def volumes() -> list[Kept]:
    """Return the decompressed CTs; the time of a .npy is that of its last use."""
    return _kept(
        (path, path.with_suffix(".json")) for path in (cache_folder() / "volumes").glob("*.npy")
    )


def downloads() -> list[Kept]:
    """Return the CTs that were made into one file for viewers."""
    return _kept((path,) for path in (cache_folder() / "downloads").glob("*/*.nrrd"))


def series_in(folder: Path) -> list[Kept]:
    """Return the series that were fetched from a PACS, with the file that viewers download."""
    found = (
        [p for p in folder.iterdir() if p.is_dir() and is_uid(p.name)] if folder.exists() else []
    )
    return _kept((path, path.with_name(f"{path.name}.nrrd")) for path in found)


def unfinished_in(folder: Path) -> list[Kept]:
    """Return what servers that were killed have left of downloads, and downloads that run."""
    return _kept((path,) for path in folder.glob(f"{UNFINISHED}*"))


def too_many(series: list[Kept], settings: AppSettings, now_s: float) -> list[Kept]:
    """Return the series that are too old, and the oldest of those that are too many.

    Args:
        series: all of the cache.
        settings: days and GB.
        now_s: seconds since the epoch.
    """
    limit_s = now_s - settings.cache_days * DAY_S if settings.cache_days else 0.0
    found, total = [], 0
    for kept in sorted(series, key=lambda kept: -kept.used_s):
        total += kept.n_bytes
        if kept.used_s < limit_s or total > settings.pacs_cache_gb * 1e9:
            found.append(kept)
    return found


def _kept(places: Iterable[tuple[Path, ...]]) -> list[Kept]:
    found = []
    for paths in places:
        with suppress(OSError):  # it has just been deleted
            used_s = paths[0].stat().st_mtime
            there = [path for path in paths if path.exists()]
            n_bytes = sum(map(_size, there))
            found.append(Kept(tuple(there), n_bytes, used_s))
    return found


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files)


def _delete(found: Iterable[Kept]) -> int:
    count = 0
    for kept in found:
        for path in kept.paths:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()
                with suppress(OSError):  # of downloads, each in a folder of its own
                    path.parent.rmdir()
        count += 1
    return count


def _delete_uploads(app: Any, limit_s: float) -> int:
    """Delete uploaded images without label and reading; without the readings, none."""
    datastore, count = app.datastore(), 0
    try:
        read = app.inbox.store.images()
    except ResMTNetError as error:
        logger.warning("No upload is deleted: %s", error)
        return 0
    for image in datastore.uploads(limit_s):
        if image in read:
            continue
        with suppress(HTTPException):  # the studies cannot be written now
            datastore.remove_image(image)
            count += 1
    return count


def _renew_temporary_folder() -> None:
    """Keep the folder of temporary files: systems delete what nobody has touched for long."""
    folder = Path(tempfile.gettempdir())
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(folder)
