"""What the readers say of a nodule, what a model answers, and the CSV that keeps both."""

from __future__ import annotations

import csv
import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from resmtnet.characteristics import class_of_rating, texture_class_of
from resmtnet.errors import InputError
from resmtnet.findings import Interval
from resmtnet.guidelines.category import size_band

MINIMUM_READERS = 3
"""Readers that protocol P asks for."""

LUNG_RADS_CUTS_MM = (6, 8, 15)
"""Mean diameters at which the category of a solid nodule of a baseline screening CT changes."""


@dataclass(frozen=True)
class Case:
    """One nodule as the readers see it: the truth of the evaluation."""

    id: str
    patient_id: str
    malignancy: tuple[int, ...]
    """Every reader's rating, 1 to 5."""
    equivalent_diameter_mm: float
    """Diameter of the sphere of the readers' mean volume."""
    long_axis_mm: float
    """Readers' mean greatest in-plane extent."""
    texture_rating: float | None
    """Readers' mean texture, 1 (non-solid) to 5 (solid)."""
    slice_thickness_mm: float
    split: str = "val"
    fold: int = -1
    context: str = "full"
    """"none": the lung above and below the nodule was synthesised."""
    texture_ratings: tuple[int, ...] = ()
    """Every reader's texture."""
    reader_volumes_mm3: tuple[float, ...] = ()
    """Every reader's contour area times slice spacing."""
    reader_long_axes_mm: tuple[float, ...] = ()
    """Every reader's greatest in-plane extent."""
    reader_short_axes_mm: tuple[float, ...] = ()
    """Every reader's greatest extent perpendicular to the long axis, in its slice."""
    reader_dice: float | None = None
    """Mean Dice of the pairs of readers' masks."""
    diagnosis: str | None = None
    """"benign" or "malignant" by pathology or follow-up; of the patient's largest nodule only."""

    @property
    def score(self) -> float | None:
        """Readers' mean malignancy."""
        return statistics.fmean(self.malignancy) if self.malignancy else None

    @property
    def median(self) -> float | None:
        """Readers' median malignancy."""
        return statistics.median(self.malignancy) if self.malignancy else None

    @property
    def class_name(self) -> str | None:
        """Class of the median malignancy; None where nobody rated it."""
        return None if self.median is None else class_of_rating(self.median)

    @property
    def enough_readers(self) -> bool:
        """At least MINIMUM_READERS rated it."""
        return len(self.malignancy) >= MINIMUM_READERS

    @property
    def in_protocol(self) -> bool:
        """Protocol P: enough readers, and their median malignancy is not 3."""
        return self.enough_readers and self.class_name != "indeterminate"

    @property
    def malignant(self) -> bool:
        """The median is above 3; says nothing of a nodule outside protocol P."""
        return self.class_name == "malignant"

    @property
    def volume_mm3(self) -> float:
        """Volume of the sphere of the equivalent diameter, which is the readers' mean volume."""
        return math.pi / 6 * self.equivalent_diameter_mm**3

    @property
    def short_axis_mm(self) -> float:
        """Readers' mean short axis; NaN if unknown."""
        axes = self.reader_short_axes_mm
        return statistics.fmean(axes) if axes else math.nan

    @property
    def mean_axis_mm(self) -> float:
        """Readers' mean of (long axis + short axis) / 2; NaN if unknown."""
        axes = self.reader_mean_axes_mm
        return statistics.fmean(axes) if axes else math.nan

    @property
    def reader_mean_axes_mm(self) -> tuple[float, ...]:
        """Every reader's mean of long and short axis."""
        pairs = zip(self.reader_long_axes_mm, self.reader_short_axes_mm, strict=False)
        return tuple((long + short) / 2 for long, short in pairs)

    @property
    def reader_equivalent_diameters_mm(self) -> tuple[float, ...]:
        """Diameter of the sphere of every reader's volume."""
        return tuple((6 * mm3 / math.pi) ** (1 / 3) for mm3 in self.reader_volumes_mm3)

    @property
    def texture_class(self) -> str | None:
        """Texture class of the mean rating."""
        return None if self.texture_rating is None else texture_class_of(self.texture_rating)


@dataclass(frozen=True)
class Prediction:
    """One answer of a model; None where it gave none."""

    probability_malignant: float
    class_name: str
    """"benign", "malignant" or "indeterminate"."""
    score: float
    score_interval: Interval
    equivalent_diameter_mm: float | None = None
    equivalent_diameter_interval_mm: Interval | None = None
    volume_mm3: float | None = None
    long_axis_mm: float | None = None
    mean_diameter_mm: float | None = None
    entropy: float | None = None
    out_of_distribution: float | None = None
    """Distance from the training nodules as a share of the accepted one; above 1 is outside."""
    texture_class: str | None = None
    warnings: int = 0
    """How many warnings the answer carries."""
    short_axis_mm: float | None = None
    long_axis_interval_mm: Interval | None = None
    mutual_information: float | None = None
    mask_dice: float | None = None
    """Overlap with what at least half of the readers marked; 0 without a mask."""
    click_dice: float | None = None
    """Mean overlap of the masks of several clicks on the nodule; None where it was clicked once."""


def size_bin(mean_diameter_mm: float) -> int:
    """Return the number of the size class of Lung-RADS (solid, baseline): < 6, 6-8, 8-15, >= 15 mm.

    Args:
        mean_diameter_mm: mean of long and short axis, compared to one decimal as the guideline
            does; a size that cannot be one has class 0.

    >>> [size_bin(mm) for mm in (5.94, 5.96, 8.0, 14.9, 15.0)]
    [0, 1, 2, 2, 3]
    """
    reached = size_band(mean_diameter_mm, None, 1, dict.fromkeys(LUNG_RADS_CUTS_MM, 0))
    return (0, *LUNG_RADS_CUTS_MM).index(reached or 0)


Answered = tuple[Case, Prediction]

_PREFIXES = {"reader": Case, "model": Prediction}


def write_predictions(path: Path, answered: Sequence[Answered]) -> None:
    """Write one row per nodule; columns are the fields, as `reader.<name>` and `model.<name>`."""
    columns = [
        f"{prefix}.{field.name}"
        for prefix, kind in _PREFIXES.items()
        for field in dataclasses.fields(kind)
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for pair in answered:
            record = [
                getattr(half, f.name) for half in pair for f in dataclasses.fields(type(half))
            ]
            writer.writerow([_cell(value) for value in record])


def read_predictions(path: Path) -> list[Answered]:
    """Read what write_predictions wrote; columns that an older file lacks keep their defaults.

    Raises:
        InputError: the file cannot be read, or lacks a column that has no default.
    """
    try:
        with path.open(newline="") as file:
            return [
                (_record(Case, row, "reader"), _record(Prediction, row, "model"))
                for row in csv.DictReader(file)
            ]
    except (OSError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a predictions.csv of `resmtnet evaluate` ({error})"
        ) from error


def _cell(value: object) -> str:
    if value is None:
        return ""
    return " ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


Record = TypeVar("Record", Case, Prediction)


def _record(kind: type[Record], row: Mapping[str, str], prefix: str) -> Record:
    """Read one half of a row; a missing column fails where the record has no default for it."""
    values = {
        field.name: _PARSERS[str(field.type)](row[f"{prefix}.{field.name}"])
        for field in dataclasses.fields(kind)
        if f"{prefix}.{field.name}" in row
    }
    return kind(**values)


def _many(number: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(number(part) for part in text.split())


def _or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: parse(text) if text else None


def _interval(text: str) -> Interval:
    low, high = (float(part) for part in text.split())
    return low, high


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "str | None": _or_none(str),
    "int": int,
    "float": float,
    "float | None": _or_none(float),
    "tuple[int, ...]": _many(int),
    "tuple[float, ...]": _many(float),
    "Interval": _interval,
    "Interval | None": _or_none(_interval),
}
"""By the annotation of a field."""
