"""Keeps the CTs that were used last open, so that the next click on one does not read it again."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from threading import Lock

from resmtnet.ct import CTVolume
from resmtnet.ct.apart import read_apart
from resmtnet.ct.cache import file_state, folder_state
from resmtnet.ct.image_file import check_whole, image_suffix, is_detached
from resmtnet.monai_label.request import is_upload

_State = tuple[str, str]


class OpenVolumes:
    """The CTs that were used last; safe to use from any thread."""

    def __init__(self, most: int) -> None:
        """Start with none.

        Args:
            most: number of CTs that stay open.
        """
        self._most = most
        self._volumes: OrderedDict[_State, CTVolume] = OrderedDict()
        self._lock = Lock()

    def count(self) -> int:
        """Return how many CTs are open."""
        return len(self._volumes)

    def open(self, path: Path) -> CTVolume:
        """Return a CT; one that is open already is opened again only if its file has changed.

        An upload and a header with a separate data file are opened each time, since `path` does
        not show whether their voxels have changed.

        Raises:
            InputError: it cannot be read.
        """
        state = _state(path)
        with self._lock:
            ct = self._volumes.pop(state, None)
            if ct is not None:
                self._volumes[state] = ct
                return ct
        if is_upload(path) and path.is_file():
            check_whole(path)
            if image_suffix(path) is not None:
                with read_apart("resmtnet.ct.image_file:try_header", path):
                    pass
        if path.is_file() and (is_upload(path) or image_suffix(path) is not None):
            open_apart(path)
        ct = CTVolume.open(path)
        if is_upload(path) or is_detached(path):
            return ct
        with self._lock:
            self._volumes[state] = ct
            while len(self._volumes) > self._most:
                self._volumes.popitem(last=False)
        return ct


def open_apart(path: Path) -> None:
    """Let a worker open an image file first; its voxels are then in the cache.

    Raises:
        InputError: it cannot be read, within bounds of memory and time.
    """
    with read_apart("resmtnet.ct.volume:try_open", path):
        pass


def _state(path: Path) -> _State:
    """Return a path and what shows a change of its file; for a DICOM series, of its folder."""
    state = ""
    with suppress(OSError):
        if image_suffix(path) is None:
            state = folder_state(path if path.is_dir() else path.parent)
        else:
            state = file_state(path)
    return str(path), state
