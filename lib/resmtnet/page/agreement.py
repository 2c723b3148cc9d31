"""How model and readers agree, for the page: the figures and the plots of evaluation.agreement."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

from resmtnet.evaluation.agreement import plots
from resmtnet.evaluation.agreement.document import LEAST_READINGS, agreement, grouped
from resmtnet.evaluation.agreement.page import NAMES
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.text import estimate_text, label_text
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore

RESAMPLES = 200
"""Fewer than in a report, so that the page does not wait."""


@dataclass(frozen=True)
class Figure:
    """One figure of a group."""

    label: str
    readings: int
    model: str
    """Of the model and the readers, with its interval; or why it is left out."""
    readers: str
    """The same between two readers; "" where there are too few."""


@dataclass(frozen=True)
class Plot:
    """A picture with what it shows."""

    caption: str
    png: bytes


@dataclass(frozen=True)
class Group:
    """Readings of one evidence, of readers who had seen the answer or had not."""

    title: str
    readings: int
    patients: int
    figures: tuple[Figure, ...]
    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Agreement:
    """What there is to show."""

    compared: int
    warnings: tuple[str, ...]
    groups: tuple[Group, ...]


def agreement_of(store: ReadingStore, hidden: Set[str]) -> Agreement | None:
    """Return how model and readers agree; None before the first reading.

    Args:
        store: the readings.
        hidden: images of which the visitor may not see what others say; they are left out.
    """
    return _agreement_of(store, store.revision(), store.count(), frozenset(hidden))


@lru_cache(maxsize=4)
def _agreement_of(
    store: ReadingStore, revision: int, count: int, hidden: frozenset[str]
) -> Agreement | None:
    """Revision and count say when it has to be computed anew."""
    readings = [one for one in store.readings(every=True) if one.image not in hidden]
    if not readings:
        return None
    document = agreement(readings, config=BootstrapConfig(RESAMPLES))
    members = grouped(readings)
    groups = [
        Group(
            f"{group['evidence'].replace('_', '-').capitalize()}: {NAMES[group['answer']]}",
            group["readings"],
            group["patients"],
            tuple(
                Figure(
                    label_text(row),
                    row["n"],
                    row["left_out"] or estimate_text(row["model"]),
                    estimate_text(row["readers"]),
                )
                for row in group["figures"].values()
                if row["n"] >= LEAST_READINGS
            ),
            _plots(members[group["evidence"], group["answer"]]),
        )
        for group in document["groups"]
    ]
    return Agreement(document["readings"]["compared"], tuple(document["warnings"]), tuple(groups))


def _plots(members: Sequence[Reading]) -> tuple[Plot, ...]:
    drawn = (
        (
            "Calibration: how often readers say malignant where the model gives a probability",
            plots.class_calibration(members),
        ),
        (
            "Malignancy score: model minus reader",
            plots.differences("score_mae", "malignancy score", members),
        ),
        (
            "Long axis: model minus reader, mm",
            plots.differences("long_axis_mae_mm", "long axis, mm", members),
        ),
    )
    return tuple(Plot(caption, png) for caption, png in drawn if png is not None)
