"""How much a reader varies: what was said at first beside what was said when reading again."""

from __future__ import annotations

from collections.abc import Sequence

from resmtnet.evaluation.agreement.measures import MEASURES, estimate_of, patient_of
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.readings.record import REPEAT, Reading
from resmtnet.readings.supersede import by_reader, effective
from resmtnet.types import Json


def repeats(readings: Sequence[Reading], config: BootstrapConfig) -> Json:
    """Return how much readers vary when they read the same nodule again.

    Args:
        readings: every single one of a store, in order of arrival.
        config: of the bootstrap.

    Returns:
        Number of repeats, and the figures of all and of each reader.
    """
    pairs_of = _repeated(readings)
    readers = sorted({again.reader for _, again in pairs_of})
    return {
        "repeats": len(pairs_of),
        "figures": _repeat_figures(pairs_of, config),
        "by_reader": {
            name: _repeat_figures([pair for pair in pairs_of if pair[1].reader == name], config)
            for name in readers
        },
    }


def _repeated(readings: Sequence[Reading]) -> list[tuple[Reading, Reading]]:
    """Return what a reader said at first and when reading again, for each repeat."""
    stand = [effective(chain) for chain in by_reader(readings)]
    first = {
        (one.image, one.nodule, one.reader, one.evidence): one
        for one in stand
        if one.purpose != REPEAT
    }
    return [
        (first[key], one)
        for one in stand
        if one.purpose == REPEAT
        and (key := (one.image, one.nodule, one.reader, one.evidence)) in first
    ]


def _repeat_figures(pairs_of: Sequence[tuple[Reading, Reading]], config: BootstrapConfig) -> Json:
    found = {}
    for measure in MEASURES:
        if measure.between_readers:
            rows = [
                (before, again, patient_of(one))
                for one, other in pairs_of
                if (before := measure.said(one)) is not None
                and (again := measure.said(other)) is not None
            ]
            found[measure.name] = {"n": len(rows), **estimate_of(measure, rows, config)}
    return found
