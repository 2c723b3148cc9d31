"""The constants that turn raw outputs into calibrated findings, with their JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import TEXTURE_CLASS
from resmtnet.inference.conformal import Bands, LogInterval
from resmtnet.inference.out_of_distribution import OutOfDistribution
from resmtnet.inference.presence import NodulePresence
from resmtnet.inference.site_habit import NO_HABIT, SiteHabit
from resmtnet.inference.solid_component import SolidCalibration
from resmtnet.network.uncertainty import sigmoid, softmax
from resmtnet.types import Array

SPEAKING = ("spiculation", "lobulation", "margin", "texture", "subtlety", "sphericity")
"""Ratings that speak for or against malignancy."""
NO_LONGER_USED = ("size_scales",)
"""Values that older calibrations hold and that change nothing any more."""
FAMILIARITY = "familiarity"
"""Key of the out-of-distribution score in calibration.json, whose schema does not change."""
RATING = "rating."
"""Before their names among the class's features."""


@dataclass(frozen=True)
class TextureCalibration:
    """Vector scaling of the three texture classes, and the rule that names one."""

    temperature: float = 1.0
    """Divides the logits."""
    offsets: tuple[float, ...] = (0.0,) * len(TEXTURE_CLASS.levels)
    """Added to them: undoes the class weights of training, so that probabilities are true."""
    shares: tuple[float, ...] = (1.0,) * len(TEXTURE_CLASS.levels)
    """Of the classes among the calibration nodules; the named class divides by them."""

    def probabilities(self, logits: Array) -> Array:
        """Return calibrated probabilities [..., 3] of logits [..., 3]."""
        return softmax(logits / self.temperature + np.array(self.offsets))

    def named(self, probabilities: Array) -> int:
        """Return the index of the class that is named: of the greatest probability / share.

        Rare classes would hardly ever be the most probable. This rule is right equally often in
        each class, and where it departs from the most probable class the probabilities show it.

        >>> TextureCalibration(shares=(0.1, 0.1, 0.8)).named(np.array([0.05, 0.3, 0.65]))
        1
        """
        return int((probabilities / np.array(self.shares)).argmax())


@dataclass(frozen=True, eq=False)
class Calibration:
    """Fitted constants of one model; the defaults change nothing and give no interval."""

    class_slopes: Mapping[str, float] = field(default_factory=lambda: {"margin": 1.0})
    """P(malignant) = sigmoid(sum of slope * feature + intercept); see class_features."""
    class_intercept: float = 0.0
    decision_threshold: float = 0.5
    """Least probability at which a class is named; below it the name is indeterminate."""
    malignancy_temperature: float = 1.0
    """Divides the logits of the malignancy ratings; of greatest likelihood of the readers'."""
    texture: TextureCalibration = TextureCalibration()
    mask_thresholds: Bands = field(default_factory=lambda: Bands((), (0.4,)))
    """Probability at which the masks of solid nodules are usually cut, by regressed diameter;
    removes the median bias of the volume in each band. See mask_threshold.py."""
    score_widths: Bands | None = None
    """Half width of the score's 90% interval, in standard deviations of its distribution."""
    size_intervals: Mapping[str, LogInterval] = field(default_factory=dict)
    """90% interval of the log of each measured size, by name."""
    regressed_intervals: Mapping[str, LogInterval] = field(default_factory=dict)
    """The same for the sizes that the network regresses."""
    out_of_distribution: OutOfDistribution = field(default_factory=OutOfDistribution)
    nodule: NodulePresence | None = None
    """Whether there is a nodule at all; None where the network has no such task."""
    habit: SiteHabit = NO_HABIT
    """Of the site's readers: all else is calibrated without it."""
    solid: SolidCalibration = field(default_factory=SolidCalibration)
    """Of the solid part of a nodule; models that lack it measure with the defaults."""
    baselines: Mapping[str, Any] = field(default_factory=dict)
    """Size-only and constant predictors fitted on the training nodules, for evaluation."""

    def probability_malignant(self, outputs: Mapping[str, Array]) -> Array:
        """Return the calibrated probability [...] of raw outputs [..., levels] by task."""
        features = class_features(outputs)
        linear = sum(slope * features[name] for name, slope in self.class_slopes.items())
        return sigmoid(linear + self.class_intercept + self.habit.class_shift)

    def probability_nodule(self, outputs: Mapping[str, Array], *, candidate: bool) -> float | None:
        """Return the probability that there is a nodule, None where the network has no such task.

        Args:
            outputs: of one point.
            candidate: the search proposed it; nobody clicked it.
        """
        presence = self.nodule
        return None if presence is None else presence.probability(outputs, candidate=candidate)

    def malignancy(self, outputs: Mapping[str, Array]) -> Array:
        """Return the calibrated shares of the malignancy ratings [..., 5]."""
        return softmax(self.habit.tilted(outputs["malignancy"]) / self.malignancy_temperature)

    def without_habit(self) -> Calibration:
        """Return the calibration to the readers that made the model, not to those of a site."""
        return self if self.habit.changes_nothing else dataclasses.replace(self, habit=NO_HABIT)

    def to_json(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        """Return the plain values and the arrays, for calibration.json and safetensors."""
        ranges, arrays = self.out_of_distribution.to_json()
        widths = self.score_widths
        return {
            "class_slopes": dict(self.class_slopes),
            "class_intercept": self.class_intercept,
            "decision_threshold": self.decision_threshold,
            "malignancy_temperature": self.malignancy_temperature,
            "texture": dataclasses.asdict(self.texture),
            "mask_thresholds": self.mask_thresholds.to_json(),
            "score_widths": widths and widths.to_json(),
            "size_intervals": {k: v.to_json() for k, v in self.size_intervals.items()},
            "regressed_intervals": {k: v.to_json() for k, v in self.regressed_intervals.items()},
            FAMILIARITY: ranges,
            **({"nodule": self.nodule.to_json()} if self.nodule else {}),
            **({} if self.habit.changes_nothing else {"habit": self.habit.to_json()}),
            "solid": self.solid.to_json(),
            "baselines": dict(self.baselines),
        }, arrays

    @classmethod
    def from_json(cls, values: Mapping[str, Any], arrays: Mapping[str, Any]) -> Calibration:
        """Read what to_json gave.

        Models up to version 3 also hold "size_scales", factors of the axes. They are ignored:
        every axis is that of the mask, and only the intervals follow the old correction.
        """
        texture, score = dict(values["texture"]), values["score_widths"]
        nodule = values.get("nodule")
        read: dict[str, Any] = {
            "texture": TextureCalibration(
                texture["temperature"], tuple(texture["offsets"]), tuple(texture["shares"])
            ),
            "mask_thresholds": Bands.from_json(values["mask_thresholds"]),
            "score_widths": score and Bands.from_json(score),
            **{
                name: {k: LogInterval.from_json(v) for k, v in values[name].items()}
                for name in ("size_intervals", "regressed_intervals")
            },
            "out_of_distribution": OutOfDistribution.from_json(values[FAMILIARITY], arrays),
            "nodule": nodule and NodulePresence.from_json(nodule),
            "habit": SiteHabit.from_json(values.get("habit") or {}),
            "solid": SolidCalibration.from_json(values.get("solid", {})),
        }
        left_out = {*NO_LONGER_USED, FAMILIARITY}
        kept = {name: value for name, value in values.items() if name not in left_out}
        return cls(**{**kept, **read})


def class_features(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return what the class is calibrated from, [...] each, given raw outputs [..., levels].

    "margin": logit of malignant less that of benign; "score" and "rating.<name>": mean
    rating less the middle of its scale. What the network says of a nodule's look corrects what it
    says of its class, whose head is surer of itself in one network than in the next.

    >>> outputs = {name: np.zeros(5) for name in ("malignancy", *SPEAKING)}
    >>> found = class_features({**outputs, "class": np.array([0.0, 2.0])})
    >>> float(found["margin"]), round(abs(float(found["rating.spiculation"])), 6)
    (2.0, 0.0)
    """
    logits = outputs["class"]
    return {
        "margin": logits[..., 1] - logits[..., 0],
        "score": _mean_rating(outputs["malignancy"]),
        **{f"{RATING}{name}": _mean_rating(outputs[name]) for name in SPEAKING},
    }


def _mean_rating(logits: Array) -> Array:
    shares = softmax(logits)
    levels = np.arange(1, shares.shape[-1] + 1)
    return np.asarray(shares @ (levels - levels.mean()))
