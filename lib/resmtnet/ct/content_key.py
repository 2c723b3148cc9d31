"""A short key of what an image holds, so that results are not reused after the image was replaced.

A key is cheap: it never reads all voxels. It is not a checksum to verify a copy with.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from resmtnet.ct.image_file import is_detached

_DIGITS = 20
_ENDS_BYTES = 65_536
_DATA_FILE = re.compile(rb"ElementDataFile\s*=\s*([^\r\n]+?)\s*$", re.MULTILINE)


def series_key(images: Iterable[tuple[str, int]]) -> str:
    """Return the key of a DICOM series.

    Args:
        images: SOPInstanceUID and size in bytes of each image file, in any order.

    >>> series_key([("1.2.3", 100), ("1.2.4", 100)]) == series_key([("1.2.4", 100), ("1.2.3", 100)])
    True
    """
    text = "\n".join(f"{uid} {n_bytes}" for uid, n_bytes in sorted(images))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def downloaded_series_key(folder: Path) -> str:
    """Return the key of a series whose files are named by their SOPInstanceUIDs.

    Args:
        folder: holds the files of one series and nothing else.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        return series_key((Path(entry.name).stem, entry.stat().st_size) for entry in entries)


def file_key(path: Path) -> str:
    """Return the key of a file: its size, time of change, and a hash of its first and last 64 KiB.

    For a header whose voxels are in another file (.mhd), that file counts as well.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    for part in _files_of(path):
        stat = part.stat()
        digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
        with part.open("rb") as file:
            digest.update(file.read(_ENDS_BYTES))
            file.seek(max(0, stat.st_size - _ENDS_BYTES))
            digest.update(file.read(_ENDS_BYTES))
    return digest.hexdigest()[:_DIGITS]


class FileKeys:
    """Keys of image files; a file is read again only if it has changed."""

    def __init__(self) -> None:
        self._keys: dict[Path, tuple[tuple[int, ...], str]] = {}
        self._lock = Lock()

    def of(self, path: Path) -> str:
        """Return `file_key` of a file.

        Raises:
            OSError: the file cannot be read.
        """
        state = _state(path)
        with self._lock:
            known = self._keys.get(path)
        if known is not None and known[0] == state and not is_detached(path):
            return known[1]
        key = file_key(path)
        with self._lock:
            self._keys[path] = state, key
        return key


def _state(path: Path) -> tuple[int, ...]:
    """Tells a file from the one that it has replaced, also where size and time are the same."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _files_of(path: Path) -> list[Path]:
    """The file, and the file with the voxels that its header names, if that is another one."""
    if not is_detached(path):
        return [path]
    with path.open("rb") as file:
        named = _DATA_FILE.search(file.read(_ENDS_BYTES))
    if named is None:
        return [path]
    data = path.parent / os.fsdecode(named[1])
    return [path, data] if data.is_file() else [path]
