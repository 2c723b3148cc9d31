"""Whole folders that appear at once: written beside their place, then moved into it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resmtnet.errors import InputError


@contextmanager
def published(folder: Path, marker: str) -> Iterator[Path]:
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
