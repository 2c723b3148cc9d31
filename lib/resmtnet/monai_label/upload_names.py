"""The names that viewers give to volumes of their own, and the images under which they are stored.

3D Slicer calls a volume "4: LUNG 1.0", uploads it under this name, and goes on using the name. It
is no file name, and volumes of two patients can have it.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import re
from pathlib import Path
from threading import Lock

import numpy as np

from resmtnet.ct import CTVolume
from resmtnet.files import atomic_file

_NOT_IN_FILE_NAMES = re.compile(r"[/\\:\x00-\x1f\x7f]+")
_LONGEST = 180
_HASH_LETTERS = 8
_SAME_MM = 0.01
_PART_BYTES = 1 << 20


class UploadNames:
    """Which image a client means by a name, in a small file that survives a restart."""

    def __init__(self, file: Path) -> None:
        """Use a file, which is made with the first name."""
        self._file = file
        self._lock = Lock()

    def image(self, client: str | None, name: str) -> str:
        """Return the image that a client means; the name itself where it has uploaded none."""
        return self._read().get(_key(client, name), name) if client else name

    def remember(self, client: str, name: str, image: str) -> None:
        """Note what a client has uploaded; the name means this from now on."""
        self._change(_key(client, name), image)

    def forget(self, client: str, name: str) -> None:
        """Note that a client was offered the image of this very name."""
        if _key(client, name) in self._read():
            self._change(_key(client, name), None)

    def _change(self, key: str, image: str | None) -> None:
        with self._lock:
            names = self._read()
            names.pop(key, None)
            if image is not None:
                names[key] = image
            with atomic_file(self._file) as draft:
                draft.write_text(json.dumps(names, indent=1))

    def _read(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return found


def candidates(name: str, file: Path) -> tuple[str, str]:
    """Return image ids for an upload: its name as a file name, and one of this content alone.

    >>> candidates("4: LUNG 1.0", Path(__file__))[0]
    '4_ LUNG 1.0'
    """
    plain = _NOT_IN_FILE_NAMES.sub("_", name).lstrip(".")[:_LONGEST].strip() or "volume"
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while part := content.read(_PART_BYTES):
            digest.update(part)
    return plain, f"{plain}-{digest.hexdigest()[:_HASH_LETTERS]}"


def is_same_ct(one: Path, other: Path) -> bool:
    """Whether two volume files hold the same voxels at the same place.

    Raises:
        InputError: one of them cannot be read.
    """
    if filecmp.cmp(one, other, shallow=False):
        return True
    first, second = CTVolume.open(one), CTVolume.open(other)
    grids = first.geometry, second.geometry
    if grids[0].size_ijk != grids[1].size_ijk:
        return False
    corners = np.array([[0, 0, 0], grids[0].size_ijk])
    here, there = (grid.ijk_to_lps(corners) for grid in grids)
    return bool(
        np.allclose(here, there, atol=1e-2) and np.array_equal(first.array(), second.array())
    )


def _key(client: str | None, name: str) -> str:
    return f"{client}\n{name}"
