"""What a reader says of one nodule, and its JSON: schema resmtnet.reading/1, both ways."""

from __future__ import annotations

import reprlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from resmtnet.characteristics import LIDC_RATINGS, MALIGNANCY, Task
from resmtnet.errors import ReadingError
from resmtnet.findings import SIZE_NAMES, finite
from resmtnet.types import Json, Point

SCHEMA = "resmtnet.reading/1"

CLASSES = ("benign", "malignant", "indeterminate", "not_a_nodule")
EVIDENCE = ("impression", "histology", "follow_up")
"""What a class rests on; the three are never pooled silently."""
ACCEPTANCE = ("single", "bulk")
"""bulk: many answers were accepted at once; such readings do not train by default."""
REPEAT = "repeat"
"""Purpose of a reading that shows how much its reader varies: a study read again, blind to what was
said before. It corrects nothing and trains nothing."""
SOURCES = ("mask", "markups", "rest", "label", "dicom_sr", "dicom_seg", "review")
"""The way in: a mask or markups saved in a viewer, POST /resmtnet/readings, a JSON label, the
PACS, the review page."""
RATINGS: Mapping[str, Task] = {task.name: task for task in LIDC_RATINGS if task is not MALIGNANCY}
"""Characteristics that a reader may rate, 1 to the number of their levels."""
LARGEST_MM, LARGEST_MM3 = 500.0, 1e7
FARTHEST_MM = 1e6
"""From the origin, along an axis."""
LONGEST_TEXT = 10_000


@dataclass(frozen=True)
class Answered:
    """The answer of a model that a reading corrects or confirms."""

    model_version: str
    model_sha256: str
    finding: Json
    """The entry of "nodules" in resmtnet.findings/1."""
    seen: bool | None = None
    """Whether the reader had seen it before rating: False = blinded; None = not known."""


@dataclass(frozen=True)
class MaskReference:
    """Where the mask of a reading is kept."""

    file: str
    """Name of the file, relative to the folder of the readings' masks."""
    sha256: str
    value: int = 1
    """Voxel value of this nodule in it."""


@dataclass(frozen=True)
class Reading:
    """One reader's word on one nodule; a field that was not given is None or empty.

    Once built it is valid: every field is within its range.
    """

    image: str
    """Id of the image, as the datastore names it."""
    reader: str
    centre_lps_mm: Point | None = None
    """A point inside the nodule; may be missing where `nodule` is given."""
    nodule: str | None = None
    """Id of the nodule in the readings database; readings of one nodule share it."""
    class_name: str | None = None
    malignancy: int | None = None
    """Rating 1 to 5."""
    sizes: Mapping[str, float] = field(default_factory=dict)
    """mm and mm3 by name; only those that the reader measured or drew."""
    characteristics: Mapping[str, int] = field(default_factory=dict)
    """Ratings by name, 1 to the number of levels."""
    evidence: str = "impression"
    acceptance: str = "single"
    excluded: bool = False
    """Not to be trained on."""
    comment: str = ""
    purpose: str | None = None
    """REPEAT, or None for a reading that corrects and trains."""
    source: str = "rest"
    mask: MaskReference | None = None
    answered: Answered | None = None
    study_patient: str | None = None
    """Pseudonym of the patient, by which training groups; None = the image is its own patient."""
    made_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        _text("image", self.image, least=1)
        _text("reader", self.reader, least=1)
        _text("comment", self.comment)
        _text("id", self.id, least=1)
        for name, text in (("nodule", self.nodule), ("patient", self.study_patient)):
            if text is not None:
                _text(name, text, least=1)
        if self.centre_lps_mm is None and self.nodule is None:
            raise ReadingError("centre_lps_mm", "is missing; give it, or the id of a known nodule")
        if self.centre_lps_mm is not None:
            _point("centre_lps_mm", self.centre_lps_mm)
        if self.class_name is not None:
            _one_of("class", self.class_name, CLASSES)
        if self.malignancy is not None:
            _rating("malignancy", self.malignancy, MALIGNANCY)
        for name, value in self.sizes.items():
            _one_of("size", name, SIZE_NAMES)
            _size(f"size.{name}", value)
        for name, rating in self.characteristics.items():
            _one_of("characteristics", name, tuple(RATINGS))
            _rating(f"characteristics.{name}", rating, RATINGS[name])
        _one_of("evidence", self.evidence, EVIDENCE)
        _one_of("acceptance", self.acceptance, ACCEPTANCE)
        if self.purpose is not None:
            _one_of("purpose", self.purpose, (REPEAT,))
        _one_of("source", self.source, SOURCES)
        if self.made_at.tzinfo is None:
            raise ReadingError("made_at", f"is {self.made_at}; its time zone is missing")
        if self.mask is not None:
            _check_mask(self.mask)
        if self.answered is not None:
            _check_answered(self.answered)

    @property
    def trains(self) -> bool:
        """Whether it is trained on by default: not excluded, not accepted in bulk, no repeat."""
        return not self.excluded and self.acceptance == "single" and self.purpose != REPEAT

    @property
    def says_something(self) -> bool:
        """Whether it says anything of the nodule beyond its place."""
        return bool(self.class_name or self.malignancy or self.sizes or self.characteristics)

    def to_json(self) -> Json:
        """Return the document of schema resmtnet.reading/1."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "image": self.image,
            "nodule": self.nodule,
            "centre_lps_mm": None
            if self.centre_lps_mm is None
            else [finite(mm) for mm in self.centre_lps_mm],
            "reader": self.reader,
            "made_at": self.made_at.isoformat(),
            "source": self.source,
            "class": self.class_name,
            "malignancy": self.malignancy,
            "size": {name: finite(value) for name, value in self.sizes.items()},
            "characteristics": dict(self.characteristics),
            "evidence": self.evidence,
            "acceptance": self.acceptance,
            "excluded": self.excluded,
            "comment": self.comment,
            "purpose": self.purpose,
            "patient": self.study_patient,
            "mask": None if self.mask is None else dict(vars(self.mask)),
            "answered": None if self.answered is None else dict(vars(self.answered)),
        }

    @classmethod
    def from_json(cls, document: Json) -> Reading:
        """Read a document; fields that are missing or null keep their default.

        Raises:
            ReadingError: naming the first field that is unknown, missing or out of range.
        """
        if not isinstance(document, Mapping):
            raise ReadingError("reading", f"is not an object of schema {SCHEMA}")
        unknown = sorted(set(document) - {"schema", *_FIELDS})
        if unknown:
            raise ReadingError(unknown[0], f"is not a field; allowed are {', '.join(_FIELDS)}")
        given = {name: value for name, value in document.items() if value is not None}
        schema = given.get("schema", SCHEMA)
        if schema != SCHEMA:
            raise ReadingError("schema", f"is {_shown(schema)}; allowed is {SCHEMA!r}")
        for name in ("image", "reader"):
            if name not in given:
                raise ReadingError(name, "is missing")
        values: dict[str, Any] = {
            attribute: given[name] for name, attribute in _FIELDS.items() if name in given
        }
        if "centre_lps_mm" in values:
            values["centre_lps_mm"] = _point("centre_lps_mm", values["centre_lps_mm"])
        if "made_at" in values:
            values["made_at"] = _moment("made_at", values["made_at"])
        for name, attribute in (("size", "sizes"), ("characteristics", "characteristics")):
            if attribute in values:
                values[attribute] = _filled(name, values[attribute])
        for name, kind in (("mask", MaskReference), ("answered", Answered)):
            if name in values:
                values[name] = _record(name, values[name], kind)
        _flag("excluded", values.get("excluded", False))
        return cls(**values)


_FIELDS = {
    "id": "id",
    "image": "image",
    "nodule": "nodule",
    "centre_lps_mm": "centre_lps_mm",
    "reader": "reader",
    "made_at": "made_at",
    "source": "source",
    "class": "class_name",
    "malignancy": "malignancy",
    "size": "sizes",
    "characteristics": "characteristics",
    "evidence": "evidence",
    "acceptance": "acceptance",
    "excluded": "excluded",
    "comment": "comment",
    "purpose": "purpose",
    "patient": "study_patient",
    "mask": "mask",
    "answered": "answered",
}
"""Attribute of each field of the JSON."""


def _shown(value: object) -> str:
    """What was got, however long, in a few words."""
    return reprlib.repr(value)


def _text(name: str, value: object, least: int = 0) -> None:
    if not isinstance(value, str) or not least <= len(value.strip()) <= LONGEST_TEXT:
        raise ReadingError(name, f"is {_shown(value)}; a text of {least} to {LONGEST_TEXT} letters")


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ReadingError(name, f"is {_shown(value)}; allowed are {', '.join(allowed)}")


def _rating(name: str, value: object, task: Task) -> None:
    most = len(task.levels)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ReadingError(name, f"is {_shown(value)}; a whole number from 1 to {most}")


def _size(name: str, value: object) -> None:
    most, unit = (LARGEST_MM3, "mm3") if name.endswith("mm3") else (LARGEST_MM, "mm")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= most:  # type: ignore[operator]
        if number and value == 0 and name.endswith("solid_component_mm"):
            return
        raise ReadingError(
            name, f"is {_shown(value)}; a number of {unit} above 0, at most {most:g}"
        )


def _point(name: str, value: object) -> Point:
    numbers = list(value) if isinstance(value, (list, tuple)) and len(value) == 3 else []
    if not numbers or not all(
        isinstance(mm, (int, float)) and not isinstance(mm, bool) and abs(mm) <= FARTHEST_MM
        for mm in numbers
    ):
        raise ReadingError(name, f"is {_shown(value)}; three numbers [x, y, z] in LPS mm")
    x, y, z = (float(mm) for mm in numbers)
    return x, y, z


def _moment(name: str, value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        moment.astimezone(timezone.utc)  # fails in the first and the last year
    except (ValueError, OverflowError) as error:
        why = f"is {_shown(value)}; a time such as 2026-01-31T12:00:00Z"
        raise ReadingError(name, why) from error
    return moment


def _filled(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ReadingError(name, f"is {_shown(value)}; an object of names and numbers")
    return {key: number for key, number in value.items() if number is not None}


def _record(name: str, value: object, kind: type) -> Any:
    try:
        return kind(**value)  # type: ignore[arg-type]
    except TypeError as error:
        fields = ", ".join(kind.__dataclass_fields__)  # type: ignore[attr-defined]
        raise ReadingError(name, f"is {_shown(value)}; an object with {fields}") from error


def _check_mask(mask: MaskReference) -> None:
    _text("mask.file", mask.file, least=1)
    _text("mask.sha256", mask.sha256, least=1)
    if isinstance(mask.value, bool) or not isinstance(mask.value, int) or mask.value < 1:
        raise ReadingError("mask.value", f"is {_shown(mask.value)}; a whole number above 0")


def _check_answered(answered: Answered) -> None:
    _text("answered.model_version", answered.model_version, least=1)
    _text("answered.model_sha256", answered.model_sha256)
    if not isinstance(answered.finding, Mapping):
        raise ReadingError("answered.finding", 'is not an object; the entry of "nodules" is needed')
    if answered.seen is not None:
        _flag("answered.seen", answered.seen)


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ReadingError(name, f"is {_shown(value)}; true or false")
