"""Turns the curves of all games into a document of schema resmtnet.active_learning/1.

Its fields are described in docs/experiments/active_learning.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.active.simulation.rounds import Curves, Game
from resmtnet.active.simulation.strategies import BASELINE, BASELINES
from resmtnet.errors import InputError
from resmtnet.findings import finite
from resmtnet.types import Array, Json

SCHEMA = "resmtnet.active_learning/1"
SHARE_OF_GAIN = 0.95
GOAL_FIGURE, GOAL_SHARE = "all: score_mae", 0.6
"""The goal: 95% of the gain with at most this share of the labels of stratified random."""
RESAMPLES = 2000
CONFIDENCE = 0.95
_DIGITS = 5


@dataclass(frozen=True, eq=False)
class Games:
    """All games: by strategy and figure [games, budgets + 1]; games are paired by strategy."""

    curves: Mapping[str, Mapping[str, Array]]
    budgets: tuple[int, ...]
    whole: float
    """Mean number of nodules that may be labelled."""

    @classmethod
    def of(cls, played: Mapping[str, Sequence[Curves]], game: Game, whole: float) -> Games:
        """Stack the curves of `rounds.play` of all pools.

        Raises:
            InputError: the strategies have different numbers of games.
        """
        numbers = {len(curves) for curves in played.values()}
        if len(numbers) != 1 or not min(numbers):
            raise InputError(f"numbers of games differ between strategies, or are 0: {numbers}")
        stacked = {
            name: {figure: np.stack([one[figure] for one in curves]) for figure in curves[0]}
            for name, curves in played.items()
        }
        return cls(stacked, game.budgets, whole)

    @property
    def figures(self) -> tuple[str, ...]:
        """Names such as "all: auc" or "sub-solid: score_mae"."""
        return tuple(next(iter(self.curves.values())))

    @property
    def labels(self) -> Array:
        """[budgets + 1] of the points of a curve."""
        return np.array([*self.budgets, self.whole], float)


def summarise(games: Games, pools: Sequence[Json], seeds: Sequence[int]) -> Json:
    """Return the document.

    Args:
        games: of all pools and seeds.
        pools: description of each pool.
        seeds: used on each pool.
    """
    draws = _draws(len(games.curves[next(iter(games.curves))][games.figures[0]]))
    strategies = {name: _strategy(games, name, draws) for name in games.curves}
    return {
        "schema": SCHEMA,
        "pools": list(pools),
        "seeds": list(seeds),
        "budgets": list(games.budgets),
        "whole_pool": finite(games.whole, 1),
        "interval": {
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "unit": "game (trunk and seed); games share patients",
        },
        "strategies": strategies,
        "never_worse": [name for name, found in strategies.items() if _never_worse(name, found)],
        "goal": _goal(strategies),
    }


def labels_needed(labels: Array, curve: Array, share: float = SHARE_OF_GAIN) -> float:
    """Return the labels from which a curve keeps a share of the gain of the whole pool.

    Args:
        labels: [B], increasing.
        curve: [B], its last value with the whole pool labelled.
        share: of the gain.

    Returns:
        Interpolated between budgets; the last of `labels` if the curve stays below the share; NaN
        if the whole pool gains nothing.

    >>> labels_needed(np.array([50.0, 100.0, 200.0]), np.array([0.5, 0.4, 0.4]))
    97.5
    """
    gain = curve[-1] - curve[0]
    if not np.isfinite(gain) or gain == 0:
        return np.nan
    got = (curve - curve[0]) / gain
    short = np.flatnonzero(got < share)
    last = int(short[-1])  # the first is always short, the last never
    step = (share - got[last]) / (got[last + 1] - got[last])
    return float(labels[last] + step * (labels[last + 1] - labels[last]))


def _strategy(games: Games, name: str, draws: NDArray[np.intp]) -> Json:
    own = games.curves[name]
    return {
        "curves": {figure: _curve(own[figure], draws) for figure in games.figures},
        "labels_needed": {
            figure: _needed(games, name, figure, draws)
            for figure in games.figures
            if figure.startswith("all: ")
        },
        "compared_with": {
            other: {
                figure: _difference(own[figure], games.curves[other][figure], draws)
                for figure in games.figures
            }
            for other in BASELINES
            if other in games.curves and other != name
        },
    }


def _curve(values: Array, draws: NDArray[np.intp]) -> Json:
    low, high = _interval(_mean(values[draws], 1))
    return {"mean": _plain(_mean(values, 0)), "low": _plain(low), "high": _plain(high)}


def _difference(own: Array, other: Array, draws: NDArray[np.intp]) -> Json:
    """Return the mean over the budgets between the first, which all share, and the whole pool."""
    gaps = _mean((own - other)[:, 1:-1], 1)
    low, high = _interval(_mean(gaps[draws], 1))
    return {
        "mean": finite(float(_mean(gaps, 0)), _DIGITS),
        "low": finite(float(low), _DIGITS),
        "high": finite(float(high), _DIGITS),
    }


def _needed(games: Games, name: str, figure: str, draws: NDArray[np.intp]) -> Json:
    """Return the labels needed on the mean curve, and their share of stratified random's."""

    def of(strategy: str) -> tuple[float, Array]:
        values = games.curves[strategy][figure]
        means = _mean(values[draws], 1)
        every = np.array([labels_needed(games.labels, mean) for mean in means])
        return labels_needed(games.labels, _mean(values, 0)), every

    labels, drawn = of(name)
    low, high = _interval(drawn)
    found: Json = {
        "labels": finite(labels, 0),
        "low": finite(float(low), 0),
        "high": finite(float(high), 0),
    }
    if BASELINE in games.curves:
        base, base_drawn = of(BASELINE)
        low, high = _interval(drawn / base_drawn)
        found["share_of_stratified"] = {
            "value": finite(labels / base, 3),
            "low": finite(float(low), 3),
            "high": finite(float(high), 3),
        }
    return found


def _goal(strategies: Json) -> Json:
    """Judge the goal by the intervals as well: one of many strategies looks best by luck."""
    shares: Json = {
        name: found["labels_needed"][GOAL_FIGURE]["share_of_stratified"]
        for name, found in strategies.items()
        if name not in BASELINES
        and "share_of_stratified" in found["labels_needed"].get(GOAL_FIGURE, {})
    }
    known = {name: share for name, share in shares.items() if share["value"] is not None}
    return {
        "figure": GOAL_FIGURE,
        "share_of_gain": SHARE_OF_GAIN,
        "allowed_share_of_stratified": GOAL_SHARE,
        "share_of_stratified": shares,
        "best_strategy": min(known, key=lambda n: known[n]["value"]) if known else None,
        "reached_by": [
            name
            for name, share in known.items()
            if share["value"] <= GOAL_SHARE and share["high"] is not None and share["high"] < 1
        ],
    }


def _never_worse(name: str, found: Json) -> bool:
    """Whether no figure is significantly worse than stratified random's."""
    if name == BASELINE:
        return True
    compared = found["compared_with"].get(BASELINE, {})
    return bool(compared) and not any(verdict(f, d) == "worse" for f, d in compared.items())


def verdict(figure: str, difference: Json) -> str:
    """Say whether a difference of a figure is "better", "worse" or "" (its interval holds 0).

    >>> verdict("all: score_mae", {"mean": -0.1, "low": -0.2, "high": -0.05})
    'better'
    """
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low <= 0 <= high:
        return ""
    return "better" if (low > 0) == figure.endswith("auc") else "worse"


def _draws(games: int) -> NDArray[np.intp]:
    """Return the games of each bootstrap resample [resamples, games]."""
    return np.random.default_rng(0).integers(games, size=(RESAMPLES, games))


def _mean(values: Array, axis: int) -> Array:
    """Return the mean of what is defined; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _interval(drawn: Array) -> tuple[Array, Array]:
    """Return both ends over the first axis; NaN where too few draws are defined."""
    tail = (1 - CONFIDENCE) / 2
    enough = np.isfinite(drawn).mean(0) >= CONFIDENCE
    filled = np.where(np.isfinite(drawn), drawn, np.nan)
    ends = []
    for share in (tail, 1 - tail):
        safe = np.where(enough, filled, 0.0)
        ends.append(np.where(enough, np.nanquantile(safe, share, axis=0), np.nan))
    return ends[0], ends[1]


def _plain(values: Array) -> list[float | None]:
    return [finite(float(value), _DIGITS) for value in values]
