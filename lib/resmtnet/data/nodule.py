"""The record of one nodule of an archive, written to and read from a row of nodules.csv."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.errors import ArchiveError

MISSING = 0
"""In a tuple of ratings: this reader gave none, or one that cannot be trusted."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Nodule:
    """One nodule of an archive, without its voxels.

    What is not known is NaN (a size), None, or an empty tuple or text. Readers stand in the same
    order in `ratings` and in every `reader_` tuple.
    """

    id: str
    patient_id: str
    split: str
    """"train" or "val"; no patient is in both."""
    fold: int
    """Group of patients for cross-validation, -1 if there is none."""
    context: str
    """"full": the crop shows what surrounds the nodule; "none": it ends where the nodule ends."""
    shape_kji: tuple[int, int, int]
    spacing_kji_mm: Triple
    centre_kji: Triple
    """Voxel index of the nodule's centre in the crop."""
    slice_thickness_mm: float
    volume_mm3: float
    """Mean over readers of contour area times slice spacing; NaN if unknown."""
    long_axis_mm: float
    """Mean over readers of the greatest in-plane extent; NaN if unknown."""
    offset: int = 0
    """First voxel of the crop in voxels.npy."""
    ratings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Every reader's rating by characteristic, MISSING (0) where there is none to be trusted."""
    reader_volumes_mm3: tuple[float, ...] = ()
    """Every reader's contour area times slice spacing."""
    reader_long_axes_mm: tuple[float, ...] = ()
    """Every reader's greatest in-plane extent."""
    reader_short_axes_mm: tuple[float, ...] = ()
    """Every reader's greatest extent perpendicular to the long axis, in its slice."""
    reader_dice: float | None = None
    """Mean Dice of the pairs of readers' masks; None with fewer than two readers."""
    mask_readers: int | None = None
    """Readers behind the mask; 0: there is no mask, what is stored is empty; None: not recorded."""
    malignant_label: int | None = None
    """Label of the source, 1 malignant or 0 benign, that is no reader's rating (an outcome, say).

    The archive's provenance says under "label_evidence" what it rests on."""
    nodule_label: int | None = None
    """0: a place without a nodule, of which nothing else is known; 1 or None: a nodule."""
    series_uid: str = ""
    """SeriesInstanceUID, or name of the image."""
    centre_lps_mm: Triple | None = None
    """The centre in the patient."""

    @property
    def equivalent_diameter_mm(self) -> float:
        """Diameter of the sphere of volume_mm3."""
        return float((6 * self.volume_mm3 / math.pi) ** (1 / 3))

    @property
    def short_axis_mm(self) -> float:
        """Mean over readers of the short axis; NaN if unknown."""
        axes = self.reader_short_axes_mm
        return math.fsum(axes) / len(axes) if axes else math.nan

    @property
    def mean_diameter_mm(self) -> float:
        """Mean of long and short axis; NaN if either is unknown."""
        return (self.long_axis_mm + self.short_axis_mm) / 2

    @property
    def malignancy(self) -> tuple[int, ...]:
        """The malignancy of every reader who gave one."""
        return self.given("malignancy")

    def given(self, characteristic: str) -> tuple[int, ...]:
        """Return the ratings of a characteristic that are not missing; readers' places are lost."""
        return tuple(r for r in self.ratings.get(characteristic, ()) if r != MISSING)


COLUMNS: tuple[str, ...] = tuple(
    name
    for entry in dataclasses.fields(Nodule)
    for name in ([t.name for t in LIDC_RATINGS] if entry.name == "ratings" else [entry.name])
)
"""The columns of nodules.csv: the fields of Nodule, with one column for each rating."""


def to_row(nodule: Nodule) -> dict[str, str]:
    """Return a nodule as a row of nodules.csv; what is unknown is empty."""
    values = {entry.name: getattr(nodule, entry.name) for entry in dataclasses.fields(nodule)}
    ratings = values.pop("ratings")
    values |= {task.name: ratings.get(task.name, ()) for task in LIDC_RATINGS}
    return {name: _text(values[name]) for name in COLUMNS}


def from_row(row: Mapping[str, str]) -> Nodule:
    """Return the nodule of a row; columns that an older archive lacks are unknown.

    Raises:
        ArchiveError: a value is missing, or not of its kind.
    """
    values: dict[str, Any] = {}
    try:
        for name, parse in _PARSERS.items():
            if name in row:
                values[name] = parse(row[name])
        values["ratings"] = {
            task.name: _many(int)(row[task.name]) for task in LIDC_RATINGS if task.name in row
        }
        return Nodule(**values)
    except (TypeError, ValueError) as error:
        raise ArchiveError(
            f"nodules.csv: the row of nodule {row.get('id')!r} cannot be read ({error}); "
            "prepare the archive again"
        ) from error


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(str(part) for part in value)
    return str(value)


def _many(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    return lambda text: tuple(kind(part) for part in text.split())


def _three(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, Any, Any]]:
    def parse(text: str) -> tuple[Any, Any, Any]:
        a, b, c = (kind(part) for part in text.split())
        return a, b, c

    return parse


def _or_none(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: parse(text) if text else None


def _size(text: str) -> float:
    return float(text) if text else math.nan


_PARSERS: dict[str, Callable[[str], Any]] = {
    "id": str,
    "patient_id": str,
    "split": str,
    "fold": int,
    "context": str,
    "shape_kji": _three(int),
    "spacing_kji_mm": _three(float),
    "centre_kji": _three(float),
    "slice_thickness_mm": _size,
    "volume_mm3": _size,
    "long_axis_mm": _size,
    "offset": int,
    "reader_volumes_mm3": _many(float),
    "reader_long_axes_mm": _many(float),
    "reader_short_axes_mm": _many(float),
    "reader_dice": _or_none(float),
    "mask_readers": _or_none(int),
    "malignant_label": _or_none(int),
    "nodule_label": _or_none(int),
    "series_uid": str,
    "centre_lps_mm": _or_none(_three(float)),
}
