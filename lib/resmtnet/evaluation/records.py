"""What the readers say of a nodule, what a model answers, and the CSV that keeps both."""

from __future__ import annotations

import csv
import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resmtnet.characteristics import texture_class_of
from resmtnet.errors import InputError

MINIMUM_READERS = 3
"""Readers that protocol P asks for."""

Interval = tuple[float, float]


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

    @property
    def score(self) -> float | None:
        """Readers' mean malignancy."""
        return statistics.fmean(self.malignancy) if self.malignancy else None

    @property
    def median(self) -> float | None:
        """Readers' median malignancy."""
        return statistics.median(self.malignancy) if self.malignancy else None

    @property
    def enough_readers(self) -> bool:
        """At least MINIMUM_READERS rated it."""
        return len(self.malignancy) >= MINIMUM_READERS

    @property
    def in_protocol(self) -> bool:
        """Protocol P: enough readers, and their median malignancy is not 3."""
        return self.enough_readers and self.median != 3

    @property
    def malignant(self) -> bool:
        """The median is above 3; says nothing of a nodule outside protocol P."""
        return self.median is not None and self.median > 3

    @property
    def volume_mm3(self) -> float:
        """Volume of the sphere of the equivalent diameter, which is the readers' mean volume."""
        return math.pi / 6 * self.equivalent_diameter_mm**3

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
    """Read what write_predictions wrote.

    Raises:
        InputError: the file cannot be read, or lacks a column.
    """
    try:
        with path.open(newline="") as file:
            return [(_case(row), _prediction(row)) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: not a predictions.csv of `resmtnet evaluate` ({error!r})"
        ) from error


def _cell(value: object) -> str:
    if value is None:
        return ""
    return " ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)


def _case(row: Mapping[str, str]) -> Case:
    def number(name: str) -> float:
        return float(row[f"reader.{name}"])

    texture = row["reader.texture_rating"]
    return Case(
        id=row["reader.id"],
        patient_id=row["reader.patient_id"],
        malignancy=tuple(int(part) for part in row["reader.malignancy"].split()),
        equivalent_diameter_mm=number("equivalent_diameter_mm"),
        long_axis_mm=number("long_axis_mm"),
        texture_rating=float(texture) if texture else None,
        slice_thickness_mm=number("slice_thickness_mm"),
        split=row["reader.split"],
        fold=int(row["reader.fold"]),
        context=row["reader.context"],
    )


def _prediction(row: Mapping[str, str]) -> Prediction:
    def number(name: str) -> float | None:
        text = row[f"model.{name}"]
        return float(text) if text else None

    def interval(name: str) -> Interval | None:
        parts = [float(part) for part in row[f"model.{name}"].split()]
        return (parts[0], parts[1]) if parts else None

    score_interval = interval("score_interval")
    return Prediction(
        probability_malignant=float(row["model.probability_malignant"]),
        class_name=row["model.class_name"],
        score=float(row["model.score"]),
        score_interval=score_interval or (math.nan, math.nan),
        equivalent_diameter_mm=number("equivalent_diameter_mm"),
        equivalent_diameter_interval_mm=interval("equivalent_diameter_interval_mm"),
        volume_mm3=number("volume_mm3"),
        long_axis_mm=number("long_axis_mm"),
        mean_diameter_mm=number("mean_diameter_mm"),
        entropy=number("entropy"),
        out_of_distribution=number("out_of_distribution"),
        texture_class=row["model.texture_class"] or None,
        warnings=int(row["model.warnings"]),
    )
