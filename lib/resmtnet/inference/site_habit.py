"""The habits of a site's readers, which a model's answers follow apart from what it knows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from resmtnet.types import Array

LIDC = "the readers of LIDC-IDRI"
"""What a model is calibrated to that has learnt no habit."""


@dataclass(frozen=True)
class SiteHabit:
    """How the readers of a site differ from those whose readings made the model.

    None of it changes which of two nodules looks worse: it moves the class, the score and the size
    of all nodules in one direction.
    """

    score_tilt: float = 0.0
    """Added to the logits of the malignancy ratings, times rating - 3."""
    class_shift: float = 0.0
    """Added to the logit of the class."""
    size_shift: float = 0.0
    """Added to the log of the regressed diameters; the mask follows, and its numbers with it."""
    nodules: int = 0
    """That were read."""
    patients: int = 0

    @property
    def changes_nothing(self) -> bool:
        """Whether the answers are those of the model without it."""
        return not (self.score_tilt or self.class_shift or self.size_shift)

    @property
    def size_factor(self) -> float:
        """Ratio of this site's diameters and the usual ones."""
        return math.exp(self.size_shift)

    def tilted(self, logits: Array) -> Array:
        """Return logits of ratings, [..., levels], as this site's readers give them."""
        levels = logits.shape[-1]
        return logits + self.score_tilt * (np.arange(1, levels + 1) - (levels + 1) / 2)

    def told(self) -> str:
        """Return in a few words what the answers are calibrated to.

        >>> SiteHabit().told()
        'the readers of LIDC-IDRI'
        >>> SiteHabit(size_shift=0.1, nodules=40, patients=16).told()
        'the readers of this site (40 nodules of 16 patients): sizes x 1.11'
        """
        if self.changes_nothing:
            return LIDC
        parts = []
        if self.score_tilt:
            parts.append(f"{'higher' if self.score_tilt > 0 else 'lower'} malignancy ratings")
        if self.class_shift:
            parts.append(f"malignant named {'sooner' if self.class_shift > 0 else 'later'}")
        if self.size_shift:
            parts.append(f"sizes x {self.size_factor:.2f}")
        whose = f"the readers of this site ({self.nodules} nodules of {self.patients} patients)"
        return f"{whose}: {', '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SiteHabit:
        """Read what to_json gave."""
        return cls(**values)


NO_HABIT = SiteHabit()
