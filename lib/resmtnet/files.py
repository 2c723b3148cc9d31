"""Files and folders that appear whole: written beside their place, then moved into it."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resmtnet.errors import InputError


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give an empty draft that becomes the file when the block ends, and vanishes if it fails.

    Nobody ever sees half of the file, and what stood there before stays until the new one is whole.

    Args:
        path: the file; its folder is made where it is missing.
        durable: the file, and its name in the folder, are on the disk when the block has ended. It
            costs some milliseconds: for what cannot be made again.

    Yields:
        The draft, in the same folder, hidden, ending in ".tmp".

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    draft.touch(exist_ok=False)
    try:
        yield draft
        if durable:
            sync(draft)
        os.replace(draft, path)
        if durable:
            sync(path.parent)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, marker: str) -> Iterator[Path]:
    """Give a draft folder that takes its place when the block ends, and vanishes if it fails.

    Args:
        folder: the place; what stands there is replaced only if it holds the marker or is empty.
        marker: file by which a folder of the same kind is known.

    Yields:
        The draft, beside `folder` and empty.

    Raises:
        InputError: the place holds something else, which is left alone.
    """
    folder = folder.resolve()
    check_place(folder, marker)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)
        yield draft
        old = draft.with_name(draft.name + "-old")
        if folder.exists():
            os.replace(folder, old)
        os.replace(draft, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_place(folder: Path, marker: str) -> None:
    """Refuse a place that holds anything but a folder of the same kind.

    Raises:
        InputError: naming the place.
    """
    folder = folder.resolve()
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / marker).is_file()):
        raise InputError(
            f"{folder} exists and holds no {marker}: it is not replaced; choose another folder"
        )
