"""Converts a CT into one file for viewers that download it, and keeps it in a bounded cache."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from resmtnet.ct import CTVolume
from resmtnet.ct.cache import cache_folder, file_state, folder_state
from resmtnet.ct.image_file import image_suffix, is_detached
from resmtnet.errors import InputError
from resmtnet.files import make_folder
from resmtnet.monai_label.refusals import Refusal
from resmtnet.readings.formats.class_mask import write_ct

_DOWNLOADS_BYTES = 8 * 2**30


class Locks:
    """One lock for each name, so that work on one image does not wait for work on another."""

    def __init__(self) -> None:
        self._locks: dict[str, Lock] = {}
        self._users: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Hold the lock of a name."""
        with self._lock:
            lock = self._locks.setdefault(name, Lock())
            self._users[name] += 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._users[name] -= 1
                if not self._users[name]:
                    del self._users[name], self._locks[name]


def converted(volume: Path, image_id: str) -> Path:
    """Return an NRRD file of a CT on its own grid, made if the cache does not have it.

    Args:
        volume: what `CTVolume.open` takes.
        image_id: what the file is called.

    Raises:
        Refusal: 400 with the reason if the CT cannot be read.
    """
    folder = cache_folder() / "downloads"
    state = file_state(volume)
    if image_suffix(volume) is None:  # a DICOM series: any of its files may have changed
        state = f"{volume.resolve()}|{folder_state(volume.parent)}"
    target = folder / hashlib.sha256(state.encode()).hexdigest()[:24] / f"{image_id}.nrrd"
    if target.is_file() and not is_detached(volume):
        os.utime(target)
        return target
    make_folder(target.parent, durable=False, private=True)
    try:
        write_ct(CTVolume.open(volume), target)
    except InputError as error:
        with suppress(OSError):  # another request may be writing there
            target.parent.rmdir()
        raise Refusal(400, str(error)) from error
    _make_room(folder, keep=target)
    return target


def _make_room(folder: Path, keep: Path) -> None:
    """Delete the least recently used files until the cache is within its limit."""
    files = sorted(folder.glob("*/*.nrrd"), key=lambda path: -path.stat().st_mtime_ns)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > _DOWNLOADS_BYTES and path != keep:
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()
