"""What a site's readings are enough for, and what is missing: said before a training starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from resmtnet.retraining.margins import Margins
from resmtnet.retraining.samples import Consensus
from resmtnet.types import Json

Stage = Literal["nothing", "habit", "weights"]
NOTHING: Stage = "nothing"
HABIT_ALONE: Stage = "habit"
"""A recalibration to the site's readers; the weights stay."""
WEIGHTS: Stage = "weights"


@dataclass(frozen=True)
class Row:
    """One thing that is needed."""

    what: str
    there: int
    needed: int
    for_what: str

    @property
    def met(self) -> bool:
        """Whether there is enough of it."""
        return self.there >= self.needed

    def to_json(self) -> Json:
        """Return plain values."""
        return {**vars(self), "met": self.met}


@dataclass(frozen=True)
class Evidence:
    """What is there, and what is needed."""

    readings: int
    patients: int
    least_readings: int
    margins: Margins

    @classmethod
    def of(
        cls, said: Sequence[Consensus], readings: int, least_readings: int, margins: Margins
    ) -> Evidence:
        """Count.

        Args:
            said: nodules that train and judge.
            readings: that may train.
            least_readings: with fewer nothing is tried.
            margins: says how many patients are needed.
        """
        return cls(readings, len({one.patient_id for one in said}), least_readings, margins)

    @property
    def rows(self) -> tuple[Row, ...]:
        """What is needed for what."""
        margins = self.margins
        least = min(margins.least_patients, margins.least_patients_of_weights)
        return (
            Row("readings", self.readings, self.least_readings, "a training"),
            Row("patients", self.patients, least, "learning the habits of your readers"),
            Row(
                "patients",
                self.patients,
                margins.least_patients_of_weights,
                "training new weights",
            ),
        )

    @property
    def stage(self) -> Stage:
        """For what the evidence suffices."""
        readings, habit, weights = self.rows
        if not readings.met or not habit.met:
            return NOTHING
        return WEIGHTS if weights.met else HABIT_ALONE

    @property
    def missing(self) -> str:
        """The first thing that is missing, in a few words; empty where nothing is.

        >>> Evidence(40, 12, 10, Margins()).missing
        '12 of 15 patients for learning the habits of your readers'
        """
        return next(
            (f"{r.there} of {r.needed} {r.what} for {r.for_what}" for r in self.rows if not r.met),
            "",
        )

    @property
    def told(self) -> str:
        """What a training would do now, in sentences for a radiologist.

        >>> print(Evidence(40, 12, 10, Margins()).told)
        Nothing can be learnt yet: 12 of 15 patients for learning the habits of your readers.
        """
        if self.stage == NOTHING:
            return f"Nothing can be learnt yet: {self.missing}."
        there = f"{self.readings} readings of {self.patients} patients can train."
        if self.stage == HABIT_ALONE:
            return (
                f"{there} The model can learn the habits of your readers: how severe they are and "
                f"how large they measure. Its weights stay: {self.missing}."
            )
        return (
            f"{there} The model can learn the habits of your readers, and new weights from what "
            "they say."
        )

    def to_json(self) -> Json:
        """Return plain values, for the viewers."""
        return {
            "stage": self.stage,
            "told": self.told,
            "missing": self.missing,
            "rows": [row.to_json() for row in self.rows],
        }
