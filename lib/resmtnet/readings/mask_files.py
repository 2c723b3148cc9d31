"""Masks of readings: files named by their content, so that none is kept twice or changed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from resmtnet.errors import ReadingError
from resmtnet.files import atomic_file, make_folder
from resmtnet.readings.record import MaskReference

_LONGEST_NAME = 255
"""Bytes; file systems refuse to look for a longer one."""


def keep(folder: Path, file: Path) -> MaskReference:
    """Copy a file into the folder durably, under its SHA-256.

    Raises:
        OSError: it cannot be read, or the folder cannot be written.
    """
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    kept = folder / (sha256 + "".join(file.suffixes[-2:]).lower())
    with atomic_file(kept, private=True) as draft:
        draft.write_bytes(content)
    return MaskReference(kept.name, sha256)


def check(folder: Path, mask: MaskReference) -> None:
    """Refuse a reference to a file that was not kept.

    Raises:
        ReadingError: of field "mask".
    """
    too_long = len(mask.file.encode("utf-8", "replace")) > _LONGEST_NAME
    if too_long or Path(mask.file).name != mask.file or not (folder / mask.file).is_file():
        shown = mask.file[:80]
        raise ReadingError("mask", f"names {shown!r}, which is not among the kept masks")
    if not mask.file.startswith(mask.sha256):
        raise ReadingError("mask", f"{mask.file} is not the file of sha256 {mask.sha256}")


def copy_all(source: Path, target: Path) -> None:
    """Copy the masks that are not there yet; a file that appears is complete."""
    if not source.is_dir():
        return
    make_folder(target, private=True)
    for file in sorted(source.iterdir()):
        if not file.name.startswith(".") and not (target / file.name).exists():
            with atomic_file(target / file.name, private=True) as draft:
                shutil.copyfile(file, draft)
