"""Which studies are earlier CTs of the patient of a case, and what is asked to compare with one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from resmtnet.types import Json


@dataclass(frozen=True)
class OtherStudy:
    """A study with which a case may be compared."""

    image: str
    name: str
    """What a reader calls it."""
    day: date | None = None
    """When it was made; None where its headers do not say."""
    patient: str | None = None
    """Pseudonym; None where no PatientID is known."""

    @property
    def told(self) -> str:
        """The study in one line.

        >>> OtherStudy("1.2", "chest", date(2026, 1, 31)).told
        '2026-01-31, chest'
        """
        return f"{self.day.isoformat()}, {self.name}" if self.day else self.name


@dataclass(frozen=True)
class EarlierStudies:
    """The studies with which one case may be compared."""

    name: str = ""
    """Of the case itself, as a reader calls it; "" where it is not known yet."""
    day: date | None = None
    """Of the case itself."""
    of_patient: tuple[OtherStudy, ...] = ()
    """Of the same PatientID and not later, the latest first."""
    of_unknown: tuple[OtherStudy, ...] = ()
    """Of which the headers do not say whether it is the same patient: a reader has to."""


def earlier_studies(this: OtherStudy, every: Iterable[OtherStudy]) -> EarlierStudies:
    """Sort the studies by whether a case may be compared with them.

    Studies of another PatientID, of the same day and later ones are left out.

    >>> now = OtherStudy("b", "b", date(2026, 6, 1), "P")
    >>> then = OtherStudy("a", "a", date(2026, 1, 1), "P")
    >>> other = OtherStudy("c", "c", date(2026, 1, 1), "Q")
    >>> [one.image for one in earlier_studies(now, [then, now, other]).of_patient]
    ['a']
    """
    of_patient, of_unknown = [], []
    for one in every:
        if one.image == this.image or (this.day and one.day and one.day >= this.day):
            continue
        if this.patient is None or one.patient is None:
            of_unknown.append(one)
        elif one.patient == this.patient:
            of_patient.append(one)
    of_patient.sort(key=lambda one: one.day or date.min, reverse=True)
    return EarlierStudies(this.name, this.day, tuple(of_patient), tuple(of_unknown))


def prior_asked(
    study: OtherStudy, *, one_patient: bool = False, date_then: str = "", date_now: str = ""
) -> Json:
    """Return the field `prior` of a request that compares with a study.

    Args:
        study: the earlier one.
        one_patient: the reader says that both are of one patient.
        date_then: of the earlier study, where its headers do not say.
        date_now: of the case, where its headers do not say.

    >>> prior_asked(OtherStudy("a", "a"), one_patient=True, date_then=" 2026-01-31 ")
    {'image': 'a', 'any_patient': True, 'date': '2026-01-31'}
    """
    asked: Json = {"image": study.image}
    if one_patient:
        asked["any_patient"] = True
    dates = {"date": date_then.strip(), "current_date": date_now.strip()}
    return asked | {name: text for name, text in dates.items() if text}
