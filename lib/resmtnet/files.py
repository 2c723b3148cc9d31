"""Files and folders that appear whole: written beside their place, then moved into it."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resmtnet.errors import InputError


@contextmanager
def atomic_file(
    path: Path, *, durable: bool = True, within: Path | None = None, private: bool = False
) -> Iterator[Path]:
    """Give an empty draft that becomes the file when the block ends, and vanishes if it fails.

    Nobody ever sees half of the file, and what stood there before stays until the new one is whole.

    Args:
        path: the file; its folder is made where it is missing.
        durable: the file, and its name in the folder, are on the disk when the block has ended. It
            costs some milliseconds: False for what can be made again, such as a cache.
        within: a folder that must exist: what disappeared with a disk is not made anew.
        private: only this user can read the file (mode 0600), and folders that are made (0700).

    Yields:
        The draft, in the same folder, hidden, ending in ".tmp".

    Raises:
        OSError: the folder cannot be made or written, `within` is missing, or the disk is full.
    """
    if within is not None and not within.is_dir():
        raise FileNotFoundError(f"{within} has disappeared: {path.name} is not written")
    make_folder(path.parent, durable=durable, private=private)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    draft.touch(0o600 if private else 0o666, exist_ok=False)
    try:
        yield draft
        _move(draft, path, durable)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, marker: str, *, durable: bool = True) -> Iterator[Path]:
    """Give a draft folder that takes its place when the block ends, and vanishes if it fails.

    Args:
        folder: the place; what stands there is replaced only if it holds the marker or is empty.
        marker: file by which a folder of the same kind is known.
        durable: see atomic_file; every file of the folder is on the disk before it appears.

    Yields:
        The draft, beside `folder` and empty.

    Raises:
        InputError: the place holds something else, which is left alone.
    """
    folder = folder.resolve()
    check_place(folder, marker)
    make_folder(folder.parent, durable=durable)
    draft = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    draft.mkdir()  # not mkdtemp: the folder gets the permissions that the user's umask gives
    try:
        yield draft
        old = draft.with_name(draft.name + "-old")
        if durable:
            sync_tree(draft)
        if folder.exists():
            os.replace(folder, old)
        _move(draft, folder, durable)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def move_durably(draft: Path, place: Path) -> None:
    """Give a file or folder its name, after its content is on the disk.

    Without the first wait a power cut could leave the name with an empty file; without the last
    one, the old file.

    Args:
        draft: in the same folder as `place`.
        place: a file that it replaces, or a folder that does not exist.
    """
    sync_tree(draft)
    _move(draft, place, durable=True)


def _move(draft: Path, place: Path, durable: bool) -> None:
    if durable:
        sync(draft)
        sync(place.parent)
    os.replace(draft, place)
    if durable:
        sync(place.parent)


def make_folder(folder: Path, *, durable: bool = True, private: bool = False) -> None:
    """Make a folder and those above it where they are missing.

    Args:
        folder: to make.
        durable: the names of new folders are on the disk afterwards.
        private: only this user can look into new folders (mode 0700).
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent, durable=durable, private=private)
    folder.mkdir(0o700 if private else 0o777, exist_ok=True)
    if durable:
        sync(folder.parent)


def tighten(path: Path, umask: int = 0o077, *, inside: bool = True) -> None:
    """Take permissions away from a file, or from a folder with all that it holds.

    Links are not followed, and what belongs to another user stays as it is.

    Args:
        path: of it; nothing happens if it is not there.
        umask: the permissions that nothing shall have; nothing is ever added.
        inside: also what a folder holds.
    """
    with suppress(OSError):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return
        if mode & umask:
            path.chmod(stat.S_IMODE(mode) & ~umask)
        if inside and stat.S_ISDIR(mode):
            for inner in path.iterdir():
                tighten(inner, umask)


def sync_tree(path: Path) -> None:
    """Wait until a file, or a folder with all that it holds, is on the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            if not inner.is_symlink():
                sync_tree(inner)
    sync(path)


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
