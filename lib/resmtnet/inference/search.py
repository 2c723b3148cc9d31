"""The search of a whole CT: places are proposed, glimpsed at, judged, and thinned out.

Most places that a search proposes are vessels, which one look by one member tells. Only what may
pass the threshold is judged by all members and views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from resmtnet.ct.volume import CTVolume
from resmtnet.inference.ensemble import Ensemble
from resmtnet.inference.point import PointPrediction, predict_points
from resmtnet.inference.presence import NodulePresence
from resmtnet.inference.sizes import regressed_diameter_of
from resmtnet.types import Point

PROPOSED = 60
"""Places that a search proposes to a model that judges them."""
GLIMPSE_LOG_ODDS = 3.0
"""A glimpse dismisses a place this far below the threshold. The judgement of 40 nodules and 660
other places was above their glimpse by at most 2.0, where it came near the threshold."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A place that is probably enough a nodule."""

    number: int
    """Of the place in the list that was judged."""
    scene: PointPrediction
    probability: float
    """Of a nodule, of a place that a search proposed."""


def judge(
    inference: Ensemble,
    presence: NodulePresence,
    ct: CTVolume,
    places: Sequence[Point],
    threshold: float | None = None,
) -> list[Judged]:
    """Return the places that are probable enough, one on each nodule, the most probable first.

    Args:
        inference: the members, with the task "nodule or not".
        presence: its calibration.
        ct: the CT.
        places: LPS mm.
        threshold: least probability, 0 to 1; None: the model's own.

    Raises:
        ConfigError: a threshold outside 0 to 1.
    """
    least = presence.least_candidate_log_odds(threshold)
    samplers = [inference.sampler(ct, place) for place in places]
    glimpsed = [presence.log_odds(o, candidate=True) for o in inference.glimpse(samplers)]
    likely = [n for n, odds in enumerate(glimpsed) if odds >= least - GLIMPSE_LOG_ODDS]
    scenes = predict_points(inference, ct, [places[n] for n in likely])
    outputs = [scene.observation.outputs for scene in scenes]
    shown = presence.probable_candidates(outputs, threshold)
    diameters_mm = [regressed_diameter_of(scene.observation) for scene in scenes]
    kept = apart(shown, [places[n] for n in likely], diameters_mm)
    return [
        Judged(likely[n], scenes[n], presence.probability(outputs[n], candidate=True)) for n in kept
    ]


def apart(
    ranked: Sequence[int], places: Sequence[Point], diameters_mm: Sequence[float]
) -> list[int]:
    """Return the places that lie on no better one (non-maximum suppression).

    Args:
        ranked: numbers of the places, the best first.
        places: LPS mm.
        diameters_mm: of the nodule at each place, as the network regresses it.

    >>> apart([1, 0, 2], [(0, 0, 0), (0, 0, 4), (0, 0, 30)], [10.0, 10.0, 10.0])
    [1, 2]
    """
    kept: list[int] = []
    for n in ranked:
        if all(math.dist(places[n], places[m]) > diameters_mm[m] / 2 for m in kept):
            kept.append(n)
    return kept
