"""Baselines that a model must beat: predictors that know only the size, or nothing at all.

They are fitted on other nodules than those that are evaluated. The size they are given is the
readers' own, which no user has: an oracle that makes the comparison strict.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from resmtnet.errors import InputError, ModelError
from resmtnet.evaluation.records import Case
from resmtnet.types import Array

SIZES: Mapping[str, Callable[[Case], float]] = {
    "equivalent_diameter_mm": lambda case: case.equivalent_diameter_mm,
    "long_axis_mm": lambda case: case.long_axis_mm,
    "mean_axis_mm": lambda case: case.mean_axis_mm,
    "short_axis_mm": lambda case: case.short_axis_mm,
}
"""The readers' sizes of a nodule, NaN where unknown."""

BY_SIZE = ("equivalent_diameter_mm", "long_axis_mm", "mean_axis_mm")
"""The sizes from which class and score are predicted."""

Line = tuple[float, float]
"""Slope and intercept on log(size / mm)."""


@dataclass(frozen=True, eq=False)
class BaselineAnswers:
    """What the baselines answer, [N] each; NaN where the readers' size is unknown."""

    probability_by_size: Mapping[str, Array]
    """P(malignant) by each of BY_SIZE."""
    score_by_size: Mapping[str, Array]
    """Malignancy score by each of BY_SIZE."""
    constant_probability: Array
    constant_score: Array
    constant_mm: Mapping[str, Array]
    """By each of SIZES."""
    majority_texture: tuple[str, ...]


@dataclass(frozen=True)
class Baselines:
    """Fitted constants."""

    class_slope: float
    """P(malignant) = sigmoid(slope * log(equivalent diameter / mm) + intercept)."""
    class_intercept: float
    score_slope: float
    """Score = slope * log(equivalent diameter / mm) + intercept, kept within 1..5."""
    score_intercept: float
    malignant_share: float
    """Of the nodules of protocol P."""
    mean_score: float
    """Of the nodules with at least three readers."""
    median_diameter_mm: float | None
    median_long_axis_mm: float | None
    majority_texture: str
    nodules: int
    """Training nodules in all."""
    protocol_nodules: int
    """Of these, in protocol P."""
    class_by_long_axis: Line | None = None
    """As for the equivalent diameter; None where the sizes were not known."""
    class_by_mean_axis: Line | None = None
    score_by_long_axis: Line | None = None
    score_by_mean_axis: Line | None = None
    median_mean_axis_mm: float | None = None
    median_short_axis_mm: float | None = None

    def predict(self, cases: Sequence[Case]) -> BaselineAnswers:
        """Answer for nodules, given the readers' size of each.

        >>> case = Case("a", "p", (4, 4, 5), 10.0, 12.0, 5.0, 1.0)
        >>> fitted = Baselines(5.5, -12.0, 1.5, -0.5, 0.4, 2.9, 7.0, 9.0, "solid", 2000, 700)
        >>> answer = fitted.predict([case])
        >>> answer.probability_by_size["equivalent_diameter_mm"].round(3).item()
        0.66
        >>> answer.score_by_size["equivalent_diameter_mm"].round(2).item()
        2.95
        """
        by_class = (
            (self.class_slope, self.class_intercept),
            self.class_by_long_axis,
            self.class_by_mean_axis,
        )
        by_score = (
            (self.score_slope, self.score_intercept),
            self.score_by_long_axis,
            self.score_by_mean_axis,
        )
        medians_mm = (
            self.median_diameter_mm,
            self.median_long_axis_mm,
            self.median_mean_axis_mm,
            self.median_short_axis_mm,
        )

        def along(lines: tuple[Line | None, ...]) -> dict[str, Array]:
            known = [line or (math.nan, math.nan) for line in lines]
            return {
                name: slope * _log_mm(cases, name) + intercept
                for name, (slope, intercept) in zip(BY_SIZE, known, strict=True)
            }

        def everywhere(value: float | None) -> Array:
            return np.full(len(cases), math.nan if value is None else value)

        return BaselineAnswers(
            {name: expit(margin) for name, margin in along(by_class).items()},
            {name: np.clip(score, 1, 5) for name, score in along(by_score).items()},
            everywhere(self.malignant_share),
            everywhere(self.mean_score),
            {name: everywhere(mm) for name, mm in zip(SIZES, medians_mm, strict=True)},
            (self.majority_texture,) * len(cases),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Baselines:
        """Read what to_json gave; what an older model does not know stays None.

        Raises:
            ModelError: other fields than these.
        """
        fields = dataclasses.fields(cls)
        needed = {field.name for field in fields if field.default is dataclasses.MISSING}
        wrong = (needed - set(values)) | (set(values) - {field.name for field in fields})
        if wrong:
            raise ModelError(
                f"the baselines in the model's calibration miss or add {', '.join(sorted(wrong))}; "
                "fit them again"
            )
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**given)


def fit_baselines(cases: Sequence[Case]) -> Baselines:
    """Fit the baselines on training nodules, never on those that are evaluated.

    The class is fitted on protocol P, the score on the nodules with at least three readers, sizes
    and texture on all.

    Raises:
        InputError: protocol P has fewer than two nodules of a class, or no texture is rated.
    """
    protocol = [case for case in cases if case.in_protocol and _sized(case)]
    malignant = np.array([case.malignant for case in protocol], int)
    rated = [case for case in cases if case.enough_readers and _sized(case)]
    textures = Counter(case.texture_class for case in cases if case.texture_class)
    if min(malignant.sum(), len(malignant) - malignant.sum()) < 2 or not textures:
        raise InputError(
            "baselines need two benign and two malignant training nodules with at least three "
            f"readers, and rated textures; got {len(malignant) - malignant.sum()} benign, "
            f"{malignant.sum()} malignant and {textures.total()} textures"
        )
    score = np.array([np.mean(case.malignancy) for case in rated])
    of_class = {name: _fit_class(_log_mm(protocol, name), malignant) for name in BY_SIZE}
    of_score = {name: _fit_score(_log_mm(rated, name), score) for name in BY_SIZE}
    by_class, by_score = of_class[BY_SIZE[0]], of_score[BY_SIZE[0]]
    assert by_class is not None  # for the type checker: these nodules have that size
    assert by_score is not None
    medians_mm = {name: _median([of(case) for case in cases]) for name, of in SIZES.items()}
    return Baselines(
        class_slope=by_class[0],
        class_intercept=by_class[1],
        score_slope=by_score[0],
        score_intercept=by_score[1],
        malignant_share=float(malignant.mean()),
        mean_score=float(score.mean()),
        median_diameter_mm=medians_mm["equivalent_diameter_mm"],
        median_long_axis_mm=medians_mm["long_axis_mm"],
        majority_texture=textures.most_common(1)[0][0],
        nodules=len(cases),
        protocol_nodules=len(protocol),
        class_by_long_axis=of_class["long_axis_mm"],
        class_by_mean_axis=of_class["mean_axis_mm"],
        score_by_long_axis=of_score["long_axis_mm"],
        score_by_mean_axis=of_score["mean_axis_mm"],
        median_mean_axis_mm=medians_mm["mean_axis_mm"],
        median_short_axis_mm=medians_mm["short_axis_mm"],
    )


def joined(parts: Sequence[BaselineAnswers]) -> BaselineAnswers:
    """Return the answers for several lists of nodules, one after the other."""

    def chain(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], Mapping):
            return {key: np.concatenate([value[key] for value in values]) for key in values[0]}
        if isinstance(values[0], tuple):
            return tuple(entry for value in values for entry in value)
        return np.concatenate(values)

    names = [field.name for field in dataclasses.fields(BaselineAnswers)]
    return BaselineAnswers(**{name: chain(name) for name in names})


def _sized(case: Case) -> bool:
    return math.isfinite(case.equivalent_diameter_mm) and case.equivalent_diameter_mm > 0


def _log_mm(cases: Sequence[Case], name: str) -> Array:
    mm = np.array([SIZES[name](case) for case in cases], np.float64)
    return np.asarray(np.log(np.where(mm > 0, mm, math.nan)), np.float64)


def _fit_class(log_mm: Array, malignant: NDArray[np.int_]) -> Line | None:
    from sklearn.linear_model import LogisticRegression

    known = np.isfinite(log_mm)
    if len(np.unique(malignant[known])) < 2:
        return None
    fitted = LogisticRegression(C=1e6).fit(log_mm[known, None], malignant[known])
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def _fit_score(log_mm: Array, score: Array) -> Line | None:
    from sklearn.linear_model import LinearRegression

    known = np.isfinite(log_mm)
    if not known.any():
        return None
    fitted = LinearRegression().fit(log_mm[known, None], score[known])
    return float(fitted.coef_[0]), float(fitted.intercept_)


def _median(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else None
