"""Reading documents (resmtnet.reading/1) in a file that a viewer or a program saves as a label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resmtnet.errors import InputError, ReadingError
from resmtnet.readings.formats.draft import Problem
from resmtnet.readings.record import Reading
from resmtnet.types import Json

MOST_BYTES = 20_000_000
"""Of a JSON label."""
MOST_DOCUMENTS = 200
"""In a JSON label; as many as a mask may have regions."""


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
        InputError: it is too large, or no JSON.
    """
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path.name} is larger than {MOST_BYTES:,} bytes")
    try:
        document: object = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not valid JSON: {error}") from error
    return document


def read_documents(
    document: object, image: str, reader: str
) -> tuple[list[Reading], list[Problem]]:
    """Return what can be read of a document or a list of them, and what is wrong with the rest.

    Args:
        document: of the file.
        image: that the label was saved for.
        reader: who has saved it; a document may name another one.

    Raises:
        InputError: they are too many.
    """
    entries = document if isinstance(document, list) else [document]
    if len(entries) > MOST_DOCUMENTS:
        raise InputError(
            f"a list of {len(entries)} readings; at most {MOST_DOCUMENTS} are read: send the "
            "others in a label of their own"
        )
    readings, problems = [], []
    for n, entry in enumerate(entries, start=1):
        try:
            if not isinstance(entry, Mapping):
                raise ReadingError("reading", "is not an object of schema resmtnet.reading/1")
            if entry.get("image") not in (None, image):
                raise ReadingError("image", f"is {entry['image']!r}; the label is of {image!r}")
            given = {"reader": reader, **given_fields(entry)}
            readings.append(Reading.from_json({**given, "image": image, "source": "label"}))
        except ReadingError as error:
            problems.append(Problem(f"reading {n}", str(error)))
    return readings, problems


def given_fields(document: Mapping[str, Any]) -> Json:
    """Return the fields of a document that are not null."""
    return {name: value for name, value in document.items() if value is not None}
