"""Every reading as a row of a CSV file, and what each column means."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import TextIO

from resmtnet.findings import SIZE_NAMES
from resmtnet.readings.record import RATINGS
from resmtnet.readings.store import StoredReading

_FORMULA = ("=", "+", "-", "@")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tabulator and line feed."""

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """One column of the export."""

    name: str
    meaning: str
    value: Callable[[StoredReading], Cell]
    """None is an empty cell."""


def _field(path: str) -> Callable[[StoredReading], Cell]:
    """Return what is read at "reading.mask.file"; None where a part of it is None."""

    def value(kept: StoredReading) -> Cell:
        found: object = kept
        for name in path.split("."):
            found = None if found is None else getattr(found, name)
        return found  # type: ignore[return-value]

    return value


def _centre(axis: int) -> Callable[[StoredReading], Cell]:
    def value(kept: StoredReading) -> Cell:
        centre = kept.reading.centre_lps_mm
        return None if centre is None else centre[axis]

    return value


def _entry(mapping: str, name: str) -> Callable[[StoredReading], Cell]:
    mapped = attrgetter(mapping)
    return lambda kept: mapped(kept.reading).get(name)


def _answer(*path: str) -> Callable[[StoredReading], Cell]:
    """Return what the answered finding says at a place, None where it says nothing there."""

    def value(kept: StoredReading) -> Cell:
        found: object = kept.reading.answered and kept.reading.answered.finding
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, (str, int, float)) else None

    return value


def _unit(size: str) -> str:
    return "mm3" if size.endswith("mm3") else "mm"


def _said(size: str) -> str:
    return size.rsplit("_", 1)[0].replace("_", " ")


COLUMNS = (
    Column("sequence", "order of arrival in the database", _field("sequence")),
    Column("arrived_at", "when it was kept; UTC, ISO 8601", _field("arrived_at")),
    Column("id", "of the reading", _field("reading.id")),
    Column("image", "id of the image, as the datastore names it", _field("reading.image")),
    Column("patient", "pseudonym, if one was given", _field("reading.study_patient")),
    Column("nodule", "id of the nodule; readings of one nodule share it", _field("reading.nodule")),
    *(
        Column(f"{axis}_lps_mm", f"{axis} of the reading's centre, LPS mm", _centre(n))
        for n, axis in enumerate("xyz")
    ),
    Column("reader", "who read", _field("reading.reader")),
    Column(
        "made_at",
        "when it was read, ISO 8601 with time zone",
        lambda kept: kept.reading.made_at.isoformat(),
    ),
    Column(
        "source",
        "the way in: mask, markups, rest, label, dicom_sr, dicom_seg or review",
        _field("reading.source"),
    ),
    Column(
        "evidence",
        "what the class rests on: impression, histology or follow_up",
        _field("reading.evidence"),
    ),
    Column(
        "acceptance", "single, or bulk: accepted with many others", _field("reading.acceptance")
    ),
    Column("purpose", "repeat: read again to see how the reader varies", _field("reading.purpose")),
    Column("excluded", "True: not to be trained on", _field("reading.excluded")),
    Column(
        "superseded",
        "True: the same reader sent something later of this nodule on the same evidence",
        _field("superseded"),
    ),
    Column(
        "class", "benign, malignant, indeterminate or not_a_nodule", _field("reading.class_name")
    ),
    Column("malignancy", "rating, 1 to 5", _field("reading.malignancy")),
    *(
        Column(size, f"{_said(size)}, {_unit(size)}, as read", _entry("sizes", size))
        for size in SIZE_NAMES
    ),
    *(
        Column(name, f"rating, 1 to {len(task.levels)}", _entry("characteristics", name))
        for name, task in RATINGS.items()
    ),
    Column("mask_file", "in the folder of masks beside the database", _field("reading.mask.file")),
    Column("mask_sha256", "of that file", _field("reading.mask.sha256")),
    Column("mask_value", "voxel value of this nodule in it", _field("reading.mask.value")),
    Column(
        "model_version",
        "of the model that the reading answers; this and the columns that follow are empty where "
        "it answers none",
        _field("reading.answered.model_version"),
    ),
    Column("model_sha256", "of that model", _field("reading.answered.model_sha256")),
    Column(
        "answer_seen",
        "whether the reader had seen the answer; empty: not known",
        _field("reading.answered.seen"),
    ),
    Column("model_class", "the class that was answered", _answer("class", "name")),
    Column(
        "model_probability_malignant",
        "0 to 1",
        _answer("class", "probabilities", "malignant"),
    ),
    Column("model_malignancy_score", "1 to 5", _answer("malignancy", "score")),
    *(
        Column(f"model_{size}", f"{_said(size)}, {_unit(size)}, as answered", _answer("size", size))
        for size in SIZE_NAMES
    ),
    Column("comment", "free text", _field("reading.comment")),
)
"""In the order of the file."""


def harmless(cell: Cell) -> Cell:
    r"""Return a cell whose text is no formula for a spreadsheet and no command for a terminal.

    Text that begins as a formula gets an apostrophe before it; control characters become spaces.

    >>> harmless("=HYPERLINK(1)"), harmless("a\x1b[2J"), harmless(-3.5)
    ("'=HYPERLINK(1)", 'a [2J', -3.5)

    References:
        https://owasp.org/www-community/attacks/CSV_Injection
    """
    if not isinstance(cell, str):
        return cell
    text = _CONTROL.sub(" ", cell)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def write_csv(target: TextIO, rows: Iterable[StoredReading]) -> int:
    """Write readings as CSV (RFC 4180) with a head; an empty cell is what was not said.

    Args:
        target: text file, opened with newline="".
        rows: as ReadingStore.kept gives them.

    Returns:
        Number of rows without the head.
    """
    writer, count = csv.writer(target), 0
    writer.writerow([column.name for column in COLUMNS])
    for kept in rows:
        writer.writerow([harmless(column.value(kept)) for column in COLUMNS])
        count += 1
    return count
