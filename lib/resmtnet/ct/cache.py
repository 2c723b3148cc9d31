"""Bounded caches: decoded slices in memory, decompressed volumes on disk."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from resmtnet.errors import ConfigError
from resmtnet.files import atomic_file, make_folder

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_FORMAT = 2
"""Raised when what an entry holds changes: older entries are then not found, and age out."""

_DEFAULT_LIMIT_BYTES = 8 * 2**30
"""About 40 thin-slice chest CTs."""

_SAMPLES = 16
_SAMPLE_BYTES = 4096
"""Of a file, evenly spread, that tell it from another one of its size and times."""

_ABANDONED_S = 3600.0
"""No volume takes so long to write."""


class MemoryCache(Generic[Key, Value]):
    """The values used last, up to a number of bytes; safe to use from several threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    @property
    def n_bytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def get(self, key: Key) -> Value | None:
        """The value, which is then the one used last, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Key, value: Value, n_bytes: int) -> None:
        """Keeps a value, and drops those not used for longest until it fits."""
        with self._lock:
            if key in self._entries:
                self._bytes -= self._entries.pop(key)[1]
            if n_bytes > self._limit_bytes:
                return
            self._entries[key] = (value, n_bytes)
            self._bytes += n_bytes
            while self._bytes > self._limit_bytes:
                self._bytes -= self._entries.popitem(last=False)[1][1]


def _limit_bytes() -> int:
    given = os.environ.get("RESMTNET_CACHE_BYTES", str(_DEFAULT_LIMIT_BYTES))
    if not given.isdigit():
        raise ConfigError(
            f"RESMTNET_CACHE_BYTES is {given!r}; a whole number of bytes is needed, such as "
            f"{_DEFAULT_LIMIT_BYTES}"
        )
    return int(given)


def cache_folder() -> Path:
    """Where decompressed volumes are kept: RESMTNET_CACHE_DIR, else ~/.cache/resmtnet."""
    folder = os.environ.get("RESMTNET_CACHE_DIR")
    return Path(folder).expanduser() if folder else Path.home() / ".cache" / "resmtnet"


def file_state(path: Path) -> str:
    """A key of the content of a file, as far as it can be known without reading all of it.

    Size and time of change stay when a file is restored from an archive or by rsync: the inode,
    the time of its last change of any kind and samples of its bytes tell it from the old one.
    """
    stat = path.stat()
    identity = (
        f"{_FORMAT}|{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|"
        f"{stat.st_ino}|"
    )
    digest = hashlib.sha256(identity.encode())
    if not path.is_file():
        return digest.hexdigest()[:32]
    with path.open("rb", buffering=0) as file:
        for n in range(_SAMPLES):
            file.seek(n * max(0, stat.st_size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES) or b"")
    return digest.hexdigest()[:32]


def folder_state(folder: Path) -> str:
    """A key of the files of a folder by their names, sizes, inodes and times, without reading them.

    Raises:
        OSError: the folder cannot be listed.
    """
    digest = hashlib.sha256()
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            stat = entry.stat()
            state = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
            digest.update(f"{entry.name}|{state}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


class VolumeCache:
    """Decompressed volumes as .npy files that are memory mapped, the oldest deleted first.

    An entry belongs to one state of one file: its path, inode, size, times of change and samples
    of its bytes. An entry that is damaged counts as absent. Several processes may share a folder.
    """

    def __init__(self, folder: Path | None = None, limit_bytes: int | None = None) -> None:
        """A cache in a folder, which is made when something is stored.

        Args:
            folder: default: `cache_folder()` / "volumes".
            limit_bytes: of all entries; default: RESMTNET_CACHE_BYTES, else 8 GiB.
        """
        self.folder = folder or cache_folder() / "volumes"
        if limit_bytes is None:
            limit_bytes = _limit_bytes()
        self.limit_bytes = limit_bytes

    def get(
        self, path: Path, build: Callable[[], tuple[NDArray[np.int16], dict[str, Any]]]
    ) -> tuple[NDArray[np.int16], dict[str, Any]]:
        """The volume of a file: memory mapped if it is in the cache, else built and stored.

        Args:
            path: the file that it comes from.
            build: gives int16 voxels and what else is to be kept (JSON types) on a miss.

        Returns:
            Read-only int16 voxels, and what else was kept. If the folder cannot be written, what
            `build` gave.
        """
        key = file_state(path)
        found = self._load(key)
        if found is not None:
            return found
        voxels, extra = build()
        try:
            self._store(key, voxels, extra)
        except OSError:
            # A full or read-only disk costs time only.
            return voxels, extra
        return self._load(key) or (voxels, extra)

    def _load(self, key: str) -> tuple[NDArray[np.int16], dict[str, Any]] | None:
        array_path, extra_path = self._paths(key)
        try:
            extra = json.loads(extra_path.read_text("utf-8"))
            voxels = np.load(array_path, mmap_mode="r", allow_pickle=False)
            os.utime(array_path)
        except (OSError, ValueError):
            return None
        if voxels.dtype != np.int16 or not isinstance(extra, dict):
            return None
        return voxels, extra

    def _store(self, key: str, voxels: NDArray[np.int16], extra: dict[str, Any]) -> None:
        """Puts the JSON first: an entry exists when its .npy does."""
        if voxels.nbytes > self.limit_bytes:
            return
        make_folder(self.folder, durable=False, private=True)
        self._make_room(voxels.nbytes)
        array_path, extra_path = self._paths(key)
        with atomic_file(extra_path, durable=False, private=True) as draft:
            draft.write_text(json.dumps(extra), "utf-8")
        with (
            atomic_file(array_path, durable=False, private=True) as draft,
            draft.open("wb") as file,
        ):
            np.save(file, voxels)

    def _make_room(self, n_bytes: int) -> None:
        """Deletes the entries not used for longest until so many bytes are free."""
        for path in self.folder.glob("*.tmp"):
            # What a process that was killed left behind.
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()
        entries = []
        for path in self.folder.glob("*.npy"):
            with suppress(OSError):
                stat = path.stat()
                entries.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total + n_bytes <= self.limit_bytes:
                break
            for part in (path, path.with_suffix(".json")):
                # Another process may have deleted it, or (Windows) have it mapped.
                with suppress(OSError):
                    part.unlink()
            total -= size

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}.npy", self.folder / f"{key}.json"
