"""What a model must beat: predictors that know only the size, or nothing at all.

They are fitted on training nodules and kept with a model's calibration. The size they are given
is the readers' own, which no user has: an oracle that makes the comparison strict.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from resmtnet.errors import InputError, ModelError
from resmtnet.evaluation.records import Case

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BaselineAnswers:
    """What the baselines answer, [N] each."""

    size_only_probability: Array
    size_only_score: Array
    constant_probability: Array
    constant_score: Array
    constant_diameter_mm: Array
    constant_long_axis_mm: Array
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
    median_diameter_mm: float
    median_long_axis_mm: float
    majority_texture: str
    nodules: int
    """Training nodules in all."""
    protocol_nodules: int
    """Of these, in protocol P."""

    def predict(self, cases: Sequence[Case]) -> BaselineAnswers:
        """Answer for nodules, given the readers' size of each.

        >>> case = Case("a", "p", (4, 4, 5), 10.0, 12.0, 5.0, 1.0)
        >>> fitted = Baselines(5.5, -12.0, 1.5, -0.5, 0.4, 2.9, 7.0, 9.0, "solid", 2000, 700)
        >>> answer = fitted.predict([case])
        >>> answer.size_only_probability.round(3).item(), answer.size_only_score.round(2).item()
        (0.66, 2.95)
        """
        log_mm = np.log([case.equivalent_diameter_mm for case in cases])
        return BaselineAnswers(
            expit(self.class_slope * log_mm + self.class_intercept),
            np.clip(self.score_slope * log_mm + self.score_intercept, 1, 5),
            np.full(len(cases), self.malignant_share),
            np.full(len(cases), self.mean_score),
            np.full(len(cases), self.median_diameter_mm),
            np.full(len(cases), self.median_long_axis_mm),
            (self.majority_texture,) * len(cases),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Baselines:
        """Read what to_json gave.

        Raises:
            ModelError: other fields than these.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            differing = ", ".join(sorted(set(values) ^ names))
            raise ModelError(
                f"the baselines in the model's calibration miss or add {differing}; fit them anew"
            )
        return cls(**values)


def fit_baselines(cases: Sequence[Case]) -> Baselines:
    """Fit the baselines on training nodules, never on those that are evaluated.

    The class is fitted on protocol P, the score on the nodules with at least three readers, sizes
    and texture on all.

    Raises:
        InputError: protocol P has fewer than two nodules of a class, or no texture is rated.
    """
    from sklearn.linear_model import LinearRegression, LogisticRegression

    protocol = [case for case in cases if case.in_protocol]
    malignant = np.array([case.malignant for case in protocol], int)
    rated = [case for case in cases if case.enough_readers]
    textures = Counter(case.texture_class for case in cases if case.texture_class)
    if min(malignant.sum(), len(malignant) - malignant.sum()) < 2 or not textures:
        raise InputError(
            "baselines need two benign and two malignant training nodules with at least three "
            f"readers, and rated textures; got {len(malignant) - malignant.sum()} benign, "
            f"{malignant.sum()} malignant and {textures.total()} textures"
        )
    score = np.array([np.mean(case.malignancy) for case in rated])
    by_class = LogisticRegression(C=1e6).fit(_log_mm(protocol), malignant)
    by_score = LinearRegression().fit(_log_mm(rated), score)
    return Baselines(
        class_slope=float(by_class.coef_[0, 0]),
        class_intercept=float(by_class.intercept_[0]),
        score_slope=float(by_score.coef_[0]),
        score_intercept=float(by_score.intercept_),
        malignant_share=float(malignant.mean()),
        mean_score=float(score.mean()),
        median_diameter_mm=float(np.median([case.equivalent_diameter_mm for case in cases])),
        median_long_axis_mm=float(np.median([case.long_axis_mm for case in cases])),
        majority_texture=textures.most_common(1)[0][0],
        nodules=len(cases),
        protocol_nodules=len(protocol),
    )


def _log_mm(cases: Sequence[Case]) -> Array:
    return np.log([[case.equivalent_diameter_mm] for case in cases])
