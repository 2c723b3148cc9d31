"""A reading as the text that the database keeps, both ways."""

from __future__ import annotations

import json

from resmtnet.errors import ReadingError, StoreError
from resmtnet.readings.database import RESTORE
from resmtnet.readings.record import Reading


def to_text(reading: Reading) -> str:
    """Return the JSON of a reading.

    Raises:
        ReadingError: a field holds what JSON or a file cannot: NaN, half a character.
    """
    for name, value in reading.to_json().items():
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ReadingError(name, f"cannot be written as JSON ({error})") from error
    return json.dumps(reading.to_json(), ensure_ascii=False)


def from_text(document: str) -> Reading:
    """Return the reading of a text that `to_text` made.

    Raises:
        StoreError: the database holds something else.
    """
    try:
        return Reading.from_json(json.loads(document))
    except (ReadingError, TypeError, ValueError) as error:
        raise StoreError(
            f"a reading in the database cannot be read ({error}): {RESTORE}"
        ) from error
