"""Who made a DICOM object, which object it is, and how we know our own objects again."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from resmtnet.findings import ModelInfo
from resmtnet.readings.dicom.codes import MANUFACTURER, MODEL_NAME


@dataclass(frozen=True)
class Author:
    """Who says what an object holds: a model, or a reader."""

    model: ModelInfo | None = None
    reader: str | None = None

    @property
    def name(self) -> str:
        """Return the name for attributes that hold a person's name."""
        return self.reader or MANUFACTURER


@dataclass(frozen=True)
class ObjectPlace:
    """Where a new object goes within its study."""

    series_number: int
    """Above every other one of the study: OHIF would show the object in place of the CT."""
    series_uid: str
    instance_number: int = 1
    predecessor: Dataset | None = None
    """The object of which this is a new version."""


def new_place(highest_series_number: int) -> ObjectPlace:
    """Return the place of an object in a series of its own.

    Args:
        highest_series_number: of the study.
    """
    return ObjectPlace(highest_series_number + 1, generate_uid())


def is_ours(header: Dataset) -> bool:
    """Whether this package has written an object."""
    return (
        str(header.get("Manufacturer", "")) == MANUFACTURER
        and str(header.get("ManufacturerModelName", "")) == MODEL_NAME
    )


def person_name(name: str) -> str:
    """Return a name as PN takes it: one component of at most 60 characters, without delimiters.

    >>> person_name("dr=ann")
    'dr ann^'
    """
    plain = "".join(
        " " if letter in "\\=^" or not letter.isprintable() else letter for letter in name
    )
    return (plain[:60].strip() or "unknown") + "^"
