"""Names of images and labels that stay within their folders, and labels that can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resmtnet.errors import InputError
from resmtnet.monai_label.refusals import Refusal
from resmtnet.readings.formats.label_map_apart import check_label_map

_ID = re.compile(r"[^/\\:\x00-\x1f]{1,200}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def checked_id(image_id: str) -> str:
    """Return an image id if it names a file in the studies folder, and nothing outside it.

    Raises:
        Refusal: 400 for any other.
    """
    if not _ID.fullmatch(image_id) or image_id.startswith("."):
        raise Refusal(400, f"Image id {image_id!r}: a plain file name without folders is needed.")
    return image_id


def checked_tag(tag: str) -> str:
    """Return a label tag if it names a folder of labels, and nothing outside it.

    Raises:
        Refusal: 400 for any other.
    """
    if not _TAG.fullmatch(tag) or ".." in tag:
        raise Refusal(400, f"Label tag {tag!r}: letters, digits, '_', '-' and '.' are allowed.")
    return tag


@contextmanager
def named(upload: Path, name: str) -> Iterator[None]:
    """Let errors name a file as its sender knows it, not as the temporary file that it is in."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(upload.name, name)) from error


def check_replacement(label: Path, image_id: str) -> None:
    """Refuse to replace a label by a file that cannot be read.

    Args:
        label: a temporary file.
        image_id: of its CT, by which errors name it.

    Raises:
        Refusal: 400.
    """
    try:
        if label.name.lower().endswith(".json"):
            json.loads(label.read_bytes())
        else:
            with named(label, image_id + "".join(label.suffixes)):
                check_label_map(label)
    except (InputError, ValueError, RecursionError) as error:
        why = str(error).rstrip(".")
        raise Refusal(
            400, f"The new label cannot be read: {why}. The one saved before is kept."
        ) from error
