"""The verdict of the gate: what was compared by which rule, the decision, and its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from resmtnet.retraining.margins import Margins
from resmtnet.retraining.noninferiority import Loss
from resmtnet.retraining.reading_check import Check
from resmtnet.types import Json

Outcome = Literal["published", "kept"]
Other = Literal["parent", "shipped"]


class JudgedOn(Enum):
    """The nodules on which versions are compared."""

    REFERENCE = "reference"
    SITE = "this site's readings"


class Rule(Enum):
    """When a loss speaks against a candidate."""

    NON_INFERIOR = "unless the loss is shown to stay within the margin"
    """For many nodules: the upper end of the interval must lie within the margin."""
    NO_SHOWN_LOSS = "where a loss beyond several margins is shown"
    """For few nodules, whose intervals are wide."""


@dataclass(frozen=True)
class Comparison:
    """A candidate against another version, on some nodules."""

    population: JudgedOn
    stratum: str | None
    """Part of the population, such as "solid"; None: all of it."""
    other: Other
    rule: Rule
    losses: tuple[Loss, ...]

    @property
    def name(self) -> str:
        """Its key in JSON, such as "reference, solid, against parent"."""
        part = f", {self.stratum}" if self.stratum else ""
        return f"{self.population.value}{part}, against {self.other}"

    def refuses(self, loss: Loss, margins: Margins) -> bool:
        """Whether one of its losses speaks against the candidate."""
        allowed = self.allowed(loss, margins)
        if self.rule is Rule.NON_INFERIOR:
            return not loss.high <= allowed  # also where no interval could be drawn
        return loss.low > 0 and loss.value > allowed

    def allowed(self, loss: Loss, margins: Margins) -> float:
        """Return how large one of its losses may be: several margins where nodules are few."""
        factor = 1.0 if self.rule is Rule.NON_INFERIOR else margins.stratum_factor
        return factor * margins.by_measure[loss.measure]


@dataclass(frozen=True)
class Verdict:
    """What was decided, why, and on which figures."""

    outcome: Outcome
    reason: str
    """One or more sentences for the user."""
    insufficient: bool = False
    """Not published because evidence is missing, not because of what it shows."""
    comparisons: Sequence[Comparison] = ()
    readings: Sequence[Check] = ()
    """Checks of the readings themselves."""

    @property
    def published(self) -> bool:
        """Whether the candidate may be served."""
        return self.outcome == "published"

    @property
    def compared(self) -> Mapping[str, Mapping[str, Loss]]:
        """Losses by the name of the comparison and of the measure, for tables."""
        return {c.name: {loss.measure.name: loss for loss in c.losses} for c in self.comparisons}

    def to_json(self) -> Json:
        """Return plain values, for the train stats and the version's record."""
        return {
            "outcome": self.outcome,
            "reason": self.reason,
            "insufficient": self.insufficient,
            "compared": {
                name: {measure: loss.to_json() for measure, loss in losses.items()}
                for name, losses in self.compared.items()
            },
            "readings": [check.to_json() for check in self.readings],
        }


def not_published(reasons: Sequence[str], advice: str = "") -> str:
    """Return the sentences for a candidate that is not served.

    >>> not_published(["4 readings can train, 10 are needed"])
    'Not published: 4 readings can train, 10 are needed. The current model stays.'
    """
    return f"Not published: {'; '.join(reasons)}. The current model stays.{advice and ' '}{advice}"


def describe_loss(comparison: Comparison, loss: Loss, margins: Margins) -> str:
    """Return why a loss speaks against the candidate, without a full stop."""
    nodules = {
        JudgedOn.REFERENCE: "the reference set",
        JudgedOn.SITE: "the site's readings of other patients",
    }[comparison.population]
    part = f" ({comparison.stratum})" if comparison.stratum else ""
    other = {"parent": "the current model", "shipped": "the shipped model"}[comparison.other]
    return (
        f"{loss.measure.label} {loss.other:.3f} -> {loss.candidate:.3f} on {nodules}{part} against "
        f"{other} (worse by {loss.value:.3f}, interval {loss.low:.3f} to {loss.high:.3f}, allowed "
        f"{comparison.allowed(loss, margins):g})"
    )
