"""The words of a label, such as "N1 malignant; texture=solid; stable"; see docs/readings.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from resmtnet.characteristics import MALIGNANCY, Task
from resmtnet.errors import ReadingError
from resmtnet.findings import SIZE_NAMES
from resmtnet.readings.record import CLASSES, EVIDENCE, RATINGS, Reading

_CLASS = re.compile(
    r"(?P<not_a_nodule>(?:not|no)[\s_-]+(?:an?[\s_-]+)?nodule|non[\s_-]*nodule"
    r"|false[\s_-]+positive)|(?P<malignant>malignant)|(?P<benign>benign)"
    r"|(?P<indeterminate>indeterminate)",
    re.IGNORECASE,
)
_NUMBER_AFTER = re.compile(r"[\s_-]*\(?\d+(?:\.\d+)?\s*%?(?:\s+malignant)?\)?(?=\s|$)", re.I)
"""What follows a class in "malignant 83%", "benign_2", "indeterminate (48% malignant)"."""
_ACCEPT = re.compile(
    rf"(?P<class>(?:{_CLASS.pattern})(?:{_NUMBER_AFTER.pattern})?)?[\s_-]*accept(?:ed)?", re.I
)
"""The word "accept", alone or after a class."""
_TOLD = re.compile(r"\s*\[Res-MTNet:[^\]]*\]")
"""What the model has written for the reader; no word of the reading."""
_NODULE = re.compile(r"\s*(N\d+)(?![A-Za-z0-9])[\s:,_-]*", re.IGNORECASE)
_BREAK = re.compile(r"[;|,\n]|\s+(?=[A-Za-z_]\w*\s*=)")
_ASSIGNED = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*(.*)", re.DOTALL)
_VALUE = re.compile(r"[-+]?\d+(?:\.\d+)?(?=\s|$|mm)")
_NO_NAME = re.compile(r"(?:f|n|nodule|segment|lesion|point|detection roi|r)?[ \d]*")
"""What viewers call a segment or a point by themselves: Segment_1, F-1, Detection ROI - 0."""

DIAMETER = "diameter_mm"
SOLID = "solid_mm"
"""Written by the model only: a reader's solid part is solid_component_mm."""
"""Key of the model's own description; whether the reader has changed it, the caller knows."""


@dataclass(frozen=True)
class LabelText:
    """What a text says of a nodule."""

    nodule: str | None = None
    """The name it begins with, such as N1."""
    class_name: str | None = None
    malignancy: int | None = None
    sizes: Mapping[str, float] = field(default_factory=dict)
    """By name; also `diameter_mm`."""
    characteristics: Mapping[str, int] = field(default_factory=dict)
    evidence: str | None = None
    comment: str = ""
    problems: tuple[str, ...] = ()
    agrees: bool = False
    """The word "accept": the reader agrees with what the model answered."""

    @property
    def says_nothing(self) -> bool:
        """Whether it is a name that a viewer gives by itself."""
        return self == LabelText(nodule=self.nodule)


def parse(text: str) -> LabelText:
    """Read a label; words that have no meaning here are kept as the comment.

    >>> text = parse("N1 Malignant 83%; malignancy=4 texture=part-solid, grows")
    >>> text.nodule, text.class_name, text.malignancy, dict(text.characteristics), text.comment
    ('N1', 'malignant', 4, {'texture': 3}, 'grows')
    >>> parse("not_a_nodule-2").class_name, parse("Segment_1").says_nothing
    ('not_a_nodule', True)
    >>> parse("N2 benign 90% accept").agrees, parse("acceptable image quality").agrees
    (True, False)
    """
    reader, text = _Reader(), _TOLD.sub("", text)
    named = _NODULE.match(text)
    if named:
        reader.nodule, text = named[1].upper(), text[named.end() :]
    if not _NO_NAME.fullmatch(_plain(text)):
        for part in _BREAK.split(text):
            reader.read(part.strip())
    return reader.text()


class _Reader:
    """Reads a label part by part."""

    def __init__(self) -> None:
        self.nodule: str | None = None
        self.class_name: str | None = None
        self.malignancy: int | None = None
        self.evidence: str | None = None
        self.sizes: dict[str, float] = {}
        self.characteristics: dict[str, int] = {}
        self.comment: list[str] = []
        self.problems: list[str] = []
        self.agrees = False

    def text(self) -> LabelText:
        return LabelText(
            self.nodule,
            self.class_name,
            self.malignancy,
            self.sizes,
            self.characteristics,
            self.evidence,
            "; ".join(self.comment),
            tuple(self.problems),
            self.agrees,
        )

    def read(self, part: str) -> None:
        found = _ACCEPT.fullmatch(part)
        if found:
            self.agrees, part = True, found["class"] or ""
        assigned = _ASSIGNED.fullmatch(part)
        rest = self._assign(part, assigned[1].lower(), assigned[2]) if assigned else None
        if not assigned:
            rest = self._class(part)
        if rest:
            self.comment.append(rest)

    def _class(self, part: str) -> str:
        """Take the class that a part begins with; return what is left of it."""
        found = _CLASS.match(part)
        if found:
            after = part[found.end() :]
            number = _NUMBER_AFTER.match(after)
            rest = after[number.end() :] if number else after
            unsure = "?" in rest or after[:1].isalpha() or _CLASS.search(rest)
            if not unsure and self.class_name in (None, found.lastgroup):
                self.class_name = found.lastgroup
                return rest.strip(" \t_-.:()")
        if _CLASS.search(part):
            self.problems.append(
                f"{part!r} does not name one class: begin with {', '.join(CLASSES)}"
            )
        return part

    def _assign(self, part: str, key: str, value: str) -> str:
        """Take `key=value`; return what is left of it as a comment."""
        try:
            return self._taken(key, value.strip())
        except ReadingError as error:
            self.problems.append(str(error))
            return part

    def _taken(self, key: str, value: str) -> str:
        if key in ("comment", "note"):
            return value
        if key == "score" and re.match(r"\d+\.\d", value):
            return ""  # the model's: it has a decimal, a reader's rating has none
        if key == SOLID:
            return ""
        if key in ("malignancy", "score"):
            self.malignancy, rest = _rating("malignancy", value, MALIGNANCY)
        elif key in RATINGS:
            self.characteristics[key], rest = _rating(key, value, RATINGS[key])
        elif key in (*SIZE_NAMES, DIAMETER):
            self.sizes[key], rest = _size(key, value)
        elif key == "class":
            before, self.class_name = self.class_name, None
            rest = self._class(value)
            if self.class_name is None:
                self.class_name = before
        elif key == "evidence":
            self.evidence, rest = _word(key, value, EVIDENCE)
        else:
            allowed = ("class", "malignancy", *RATINGS, *SIZE_NAMES, "evidence", "comment")
            raise ReadingError(key, f"is not a key; allowed are {', '.join(allowed)}")
        return rest


def _plain(text: str) -> str:
    """Lower case, words separated by one space.

    >>> _plain(" Not_a-Nodule  (2)")
    'not a nodule (2)'
    """
    return re.sub(r"[\s_-]+", " ", text).strip().lower()


def _word(key: str, value: str, words: tuple[str, ...]) -> tuple[str, str]:
    """The word that a value begins with, and the rest of the value."""
    for word in sorted(words, key=len, reverse=True):
        pattern = r"[\s_-]+".join(re.escape(part) for part in re.split(r"[\s_-]+", word))
        found = re.match(rf"{pattern}(?=\s|$)", value, re.IGNORECASE)
        if found:
            return word, value[found.end() :].strip()
    raise ReadingError(key, f"is {value!r}; allowed are {', '.join(words)}")


def _rating(key: str, value: str, task: Task) -> tuple[int, str]:
    """A rating by its number or by the name of its level, and the rest of the value.

    >>> _rating("texture", "3 stable", RATINGS["texture"])
    (3, 'stable')
    """
    number = re.match(r"(\d+)(?![\d.])\s*", value)
    if number and 1 <= int(number[1]) <= len(task.levels):
        return int(number[1]), value[number.end() :].strip()
    try:
        level, rest = _word(key, value, task.levels)
    except ReadingError:
        raise ReadingError(
            key,
            f"is {value!r}; a whole number from 1 to {len(task.levels)}, or one of "
            f"{', '.join(task.levels)}",
        ) from None
    return task.levels.index(level) + 1, rest


def _size(key: str, value: str) -> tuple[float, str]:
    number = _VALUE.match(value)
    name = "mean_diameter_mm" if key == DIAMETER else key
    if not number:
        raise ReadingError(key, f"is {value!r}; a number of mm (mm3 of a volume)")
    # A reading refuses what is out of range, with the reason.
    Reading("i", "r", centre_lps_mm=(0.0, 0.0, 0.0), sizes={name: float(number[0])})
    rest = re.sub(r"^\s*mm3?\b", "", value[number.end() :])
    return float(number[0]), rest.strip()
