"""When a CT was made and of whom, as far as its DICOM headers or the user say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from resmtnet.ct import CTVolume
from resmtnet.errors import InputError
from resmtnet.readings.patients import header_texts, patient_of

_DATES = ("AcquisitionDate", "AcquisitionDateTime", "SeriesDate", "StudyDate")
"""The first that is there counts."""


@dataclass(frozen=True)
class Visit:
    """One CT of a patient."""

    image_id: str
    """SeriesInstanceUID, or file name without extension."""
    day: date | None = None
    """When it was made; None where nobody says."""
    patient: str | None = None
    """Pseudonym; None where no PatientID is known."""

    @classmethod
    def of(cls, ct: CTVolume, given: str | None = None, name: str = "date") -> Visit:
        """Read the headers of a CT.

        Args:
            ct: the CT.
            given: its date as the user tells it, which goes first; None: that of the headers.
            name: of the user's option or field, for the message.

        Raises:
            InputError: the date is none.
        """
        day = None if given is None else parse_day(given, name)
        if ct.path is None:
            return cls(ct.image_id, day)
        found = cls.of_file(ct.image_id, ct.path)
        return found if day is None else replace(found, day=day)

    @classmethod
    def of_file(cls, image_id: str, path: Path) -> Visit:
        """Read the headers of a CT that is not open.

        Args:
            image_id: of the CT.
            path: what `CTVolume.open` takes.
        """
        return cls(image_id, _day_of(header_texts(path, _DATES)), patient_of(path))


def parse_day(text: str, name: str = "date") -> date:
    """Read a date, 2025-01-31 or 20250131.

    Raises:
        InputError: it is none.

    >>> parse_day("20250131")
    datetime.date(2025, 1, 31)
    """
    digits = str(text).strip().replace("-", "")
    try:
        if len(digits) != 8:
            raise ValueError
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        raise InputError(f"{name} is {text!r}; a date as 2025-01-31 is needed") from None


def days_between(prior: Visit, current: Visit, *, any_patient: bool = False) -> int | None:
    """Return the days from a prior to a current CT; None where a date is not known.

    Args:
        prior: the earlier CT.
        current: the later one.
        any_patient: the user says that both are of one patient, whatever the headers say.

    Raises:
        InputError: they are of different patients, or the prior is the later one.
    """
    known = prior.patient is not None and current.patient is not None
    if known and prior.patient != current.patient and not any_patient:
        raise InputError(
            "the two CTs are of different patients (their PatientIDs differ); if it is one "
            "patient under two ids, say so with --any-patient"
        )
    if prior.day is None or current.day is None:
        return None
    days = (current.day - prior.day).days
    if days < 0:
        raise InputError(
            f"the prior CT is of {prior.day}, the current one of {current.day}, which is earlier: "
            "give the earlier CT first, or correct the dates with --prior-date and --date"
        )
    return days


def _day_of(headers: dict[str, str]) -> date | None:
    for name in _DATES:
        try:
            return parse_day(headers.get(name, "")[:8])
        except InputError:
            continue
    return None
