"""Learns from a site's checked readings: what comes of them, and what is decided of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resmtnet.inference.model_folder import Model
from resmtnet.retraining.candidate import FineTuned, as_served
from resmtnet.retraining.choice_of_version import SiteTraining, best_version
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.nodule_or_not import with_rejected
from resmtnet.retraining.reading_check import Check
from resmtnet.retraining.samples import Sample
from resmtnet.retraining.site_calibration import habits_apart
from resmtnet.retraining.verdict import Verdict
from resmtnet.retraining.verdict_text import (
    kept_text,
    published_text,
    table_of,
    with_rejected_text,
)
from resmtnet.types import Json


@dataclass(frozen=True, eq=False)
class Learnt:
    """What was learnt, and what was decided of it."""

    candidate: FineTuned | None
    """To be served; None: the served version stays."""
    text: str
    """One or more sentences for the user."""
    decided: Verdict
    """Of the candidate, or of the last version that was tried."""
    tried: Sequence[Verdict]
    """Of everything that was tried."""

    def to_json(
        self, checks: Sequence[Check], parent: Model, samples: Sequence[Sample], margins: Margins
    ) -> Json:
        """Return the verdict with its figures, as it is kept beside the version.

        Args:
            checks: of the readings.
            parent: the served version.
            samples: of the site, by which the habits of readers who had seen the model's answer
                and of those who had not are told.
            margins: that were used.
        """
        apart = habits_apart(parent.calibration, samples, LinearHeads.of(parent.networks))
        return {
            **self.decided.to_json(),
            "reason": self.text,
            "readings": [check.to_json() for check in checks],
            "table": table_of(self.tried, checks, margins),
            "habits": {name: habit.to_json() for name, habit in apart.items()},
        }


def learn(training: SiteTraining, rejected: Sequence[Sample]) -> Learnt:
    """Fine-tune, recalibrate and judge: new weights, else the habit of the readers alone.

    Args:
        training: what it starts from.
        rejected: places that readers called no nodule; they are learnt from in addition, whatever
            else was learnt.
    """
    candidate, verdicts = best_version(training)
    text = kept_text(verdicts) if candidate is None else published_text(candidate, verdicts)
    sharper, of_rejected = with_rejected(
        candidate or as_served(training.parent),
        training.shipped,
        rejected,
        training.site.samples,
        training.reference,
        training.margins,
    )
    tried = [*verdicts, *([of_rejected] if of_rejected else [])]
    text = with_rejected_text(text, of_rejected, alone=candidate is None)
    decided = tried[-1] if sharper else verdicts[-1]
    return Learnt(sharper or candidate, text, decided, tried)
