"""CTs as one file, for viewers that download them: made once, in a cache of limited size."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from resmtnet.ct import CTVolume
from resmtnet.ct.cache import cache_folder
from resmtnet.ct.image_file import is_detached
from resmtnet.errors import InputError
from resmtnet.monai_label.refusals import Refusal
from resmtnet.readings.formats.class_mask import write_ct

_DOWNLOADS_BYTES = 8 * 2**30


def converted(volume: Path, image_id: str) -> Path:
    """An NRRD of a CT, on its own grid, from the cache of downloads.

    Args:
        volume: what `CTVolume.open` takes.
        image_id: what the file is called.

    Raises:
        Refusal: 400 with the reason if the CT cannot be read.
    """
    folder = cache_folder() / "downloads"
    state = f"{volume.resolve()}|{volume.stat().st_mtime_ns}|{volume.parent.stat().st_mtime_ns}"
    target = folder / hashlib.sha256(state.encode()).hexdigest()[:24] / f"{image_id}.nrrd"
    if target.is_file() and not is_detached(volume):
        os.utime(target)
        return target
    try:
        write_ct(CTVolume.open(volume), target)
    except InputError as error:
        raise Refusal(400, str(error)) from error
    _make_room(folder, keep=target)
    return target


def _make_room(folder: Path, keep: Path) -> None:
    """Deletes the downloads not used for longest, beyond a number of bytes."""
    files = sorted(folder.glob("*/*.nrrd"), key=lambda path: -path.stat().st_mtime_ns)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > _DOWNLOADS_BYTES and path != keep:
            with suppress(OSError):
                path.unlink()
                path.parent.rmdir()
