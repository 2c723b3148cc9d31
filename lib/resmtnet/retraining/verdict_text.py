"""What a training says when it has ended: one paragraph for a radiologist, and the table behind it.

The paragraph is Retrained.reason, the table Retrained.verdict["table"]; viewers show both as they
are.
"""

from __future__ import annotations

from collections.abc import Sequence

from resmtnet.findings import finite
from resmtnet.inference.site_habit import SiteHabit
from resmtnet.retraining.candidate import FineTuned
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.noninferiority import (
    AUC,
    LOG_LOSS,
    SCORE_MAE,
    SHOWN,
    SIZE_ERROR,
    Loss,
)
from resmtnet.retraining.reading_check import Check
from resmtnet.retraining.verdict import JudgedOn, Verdict
from resmtnet.types import Json

CHANGES = {
    SCORE_MAE: "error of the malignancy score",
    LOG_LOSS: "log loss of the class",
    SIZE_ERROR: "error of the log diameter",
}
"""Told of the site's readings, in these words."""
LEAST_TOLD = 0.005
"""Smaller differences are told as none."""
NOTHING_ELSE = (
    "The weights are unchanged, so that which of two nodules looks worse stays as it was."
)
CATEGORIES = "Guideline categories still use the sizes without this habit."


def published_text(candidate: FineTuned, verdicts: Sequence[Verdict]) -> str:
    """Return the paragraph for a version that is served now.

    Args:
        candidate: the version.
        verdicts: of what was tried, that of the version last.
    """
    habit = candidate.calibration.habit
    said = ["Published: a new version is served.", _habit_text(habit)]
    if candidate.same_weights:
        said.append(NOTHING_ELSE)
        if len(verdicts) > 1:
            said.append(f"New weights were tried and not taken: {_why(verdicts[0])}.")
    else:
        said.append(_knowledge_text(verdicts[-1]))
    said.append(_site_text(verdicts[-1]))
    if habit.size_shift:
        said.append(CATEGORIES)
    return " ".join(part for part in said if part)


def kept_text(verdicts: Sequence[Verdict]) -> str:
    """Return the paragraph where nothing that was tried may be served.

    Args:
        verdicts: of what was tried, in that order.
    """
    last = verdicts[-1]
    if len(verdicts) == 1:
        return last.reason
    return f"{last.reason} New weights were tried first and not taken: {_why(verdicts[0])}."


def with_rejected_text(text: str, verdict: Verdict | None, *, alone: bool) -> str:
    """Return the paragraph, with what was learnt from places that readers called no nodule.

    Args:
        text: of all else.
        verdict: of the places; None where there was nothing to learn.
        alone: nothing else is published.
    """
    if verdict is None:
        return text
    if not verdict.published:
        return f"{text} Nothing was learnt from the places called no nodule: {_why(verdict)}."
    shown = next(loss for c in verdict.comparisons for loss in c.losses if loss.measure is SHOWN)
    told = (
        f"It learnt from {shown.nodules} places that your readers called no nodule: of such places "
        f"a search showed {shown.other:.0%}, and shows {shown.candidate:.0%} now, without losing "
        "nodules."
    )
    if not alone:
        return f"{text} {told}"
    return f"Published: a new version is served. {told} Nothing else is new: {_lower(text)}"


def _lower(text: str) -> str:
    """Return why nothing else was published, as the rest of a sentence."""
    return text.removeprefix("Not published: ").replace(" The current model stays.", "")


def table_of(verdicts: Sequence[Verdict], checks: Sequence[Check], margins: Margins) -> list[Json]:
    """Return the table behind the paragraph: what was compared, and what was checked.

    Args:
        verdicts: of what was tried.
        checks: of the readings themselves.
        margins: say what was allowed.
    """
    rows: list[Json] = []
    for verdict in verdicts:
        for comparison in verdict.comparisons:
            for loss in comparison.losses:
                rows.append(
                    {
                        "what": loss.measure.label,
                        "on": comparison.name,
                        "before": finite(loss.other),
                        "after": finite(loss.candidate),
                        "worse_by": finite(loss.value),
                        "interval": [finite(loss.low), finite(loss.high)],
                        "allowed": finite(comparison.allowed(loss, margins)),
                        "nodules": loss.nodules,
                        "passed": not comparison.refuses(loss, margins),
                    }
                )
    for check in checks:
        rows.append(
            {
                "what": check.what,
                "on": "the readings themselves",
                "before": None,
                "after": finite(check.value),
                "worse_by": None,
                "interval": [finite(check.low), finite(check.high)],
                "allowed": [finite(bound) for bound in check.allowed],
                "nodules": check.nodules,
                "passed": not check.complaint,
            }
        )
    return rows


def _habit_text(habit: SiteHabit) -> str:
    """Say what habits of the readers the version follows."""
    there = f"{habit.nodules} nodules of {habit.patients} patients"
    if habit.changes_nothing:
        return f"Your readers show no habit of their own on {there}."
    parts = []
    if habit.score_tilt:
        level = "higher" if habit.score_tilt > 0 else "lower"
        parts.append(f"rate malignancy {level} than the model did")
    if habit.class_shift:
        sooner = "sooner" if habit.class_shift > 0 else "later"
        parts.append(f"call a nodule malignant {sooner}")
    if habit.size_shift:
        percent = abs(habit.size_factor - 1) * 100
        parts.append(f"measure {percent:.0f}% {'larger' if habit.size_shift > 0 else 'smaller'}")
    told = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"It follows the habits of your readers, learnt from {there}: they {told}."


def _knowledge_text(verdict: Verdict) -> str:
    for comparison in verdict.comparisons:
        if comparison.population is JudgedOn.REFERENCE and comparison.stratum is None:
            for loss in comparison.losses:
                if loss.measure is AUC:
                    return (
                        "Its new weights tell malignant from benign as well as before on nodules "
                        f"that no version learnt from (AUC {loss.other:.3f} -> "
                        f"{loss.candidate:.3f})."
                    )
    return "Its new weights are no worse than before on nodules that no version learnt from."


def _site_text(verdict: Verdict) -> str:
    """Say what changed for the site's nodules."""
    losses: list[Loss] = [
        loss
        for comparison in verdict.comparisons
        if comparison.population is JudgedOn.SITE
        for loss in comparison.losses
        if loss.measure in CHANGES
    ]
    if not losses:
        return ""
    told = [
        f"the {CHANGES[loss.measure]} {'falls' if loss.value < 0 else 'rises'} from "
        f"{loss.other:.2f} to {loss.candidate:.2f}"
        for loss in losses
        if abs(loss.value) >= LEAST_TOLD
    ]
    whose = "On your readings of patients from whom it had not learnt"
    return (
        f"{whose}, {', '.join(told)}." if told else f"{whose}, its errors are as large as before."
    )


def _why(verdict: Verdict) -> str:
    """Return the reason of a verdict without the sentences around it."""
    return verdict.reason.removeprefix("Not published: ").partition(". The current model")[0]
