"""Masks of readings: files named by their content, so that none is kept twice or changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from resmtnet.errors import ReadingError
from resmtnet.readings.database import sync_folder
from resmtnet.readings.record import MaskReference


def keep(folder: Path, file: Path) -> MaskReference:
    """Copy a file into the folder durably, under its SHA-256.

    Raises:
        OSError: it cannot be read, or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", dir=folder)
    draft = Path(name)
    try:
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as target, file.open("rb") as source:
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
        draft.chmod(0o644)
        kept = folder / (digest.hexdigest() + "".join(file.suffixes[-2:]).lower())
        os.replace(draft, kept)
        sync_folder(folder)
    finally:
        draft.unlink(missing_ok=True)
    return MaskReference(kept.name, digest.hexdigest())


def check(folder: Path, mask: MaskReference) -> None:
    """Refuse a reference to a file that was not kept.

    Raises:
        ReadingError: of field "mask".
    """
    if Path(mask.file).name != mask.file or not (folder / mask.file).is_file():
        raise ReadingError("mask", f"names {mask.file!r}, which is not among the kept masks")
    if not mask.file.startswith(mask.sha256):
        raise ReadingError("mask", f"{mask.file} is not the file of sha256 {mask.sha256}")


def copy_all(source: Path, target: Path) -> None:
    """Copy the masks that are not there yet; a file that appears is complete."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        if not file.name.startswith(".") and not (target / file.name).exists():
            draft = target / f".{file.name}"
            shutil.copyfile(file, draft)
            with draft.open("rb") as copied:
                os.fsync(copied.fileno())
            os.replace(draft, target / file.name)
    sync_folder(target)
