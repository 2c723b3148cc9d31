"""From embeddings to the few numbers that choosing looks at; made without labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.types import Array

COMPONENTS = 64
"""Principal components that are kept."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Principal components of embeddings."""

    mean: Array
    axes: Array
    """[D, K]"""

    @classmethod
    def of(cls, embeddings: NDArray[Any], components: int = COMPONENTS) -> Projection:
        """Find the components of the embeddings [N, D] that may be labelled.

        Embeddings are outputs of a ReLU; their square roots are less skewed.
        """
        x = _roots(embeddings)
        mean = x.mean(0)
        _, axes = np.linalg.eigh((x - mean).T @ (x - mean))  # the greatest last
        axes = axes[:, ::-1][:, : min(components, len(x))]
        scale = np.sqrt((((x - mean) @ axes) ** 2).sum(1).mean())
        return cls(mean, axes / max(scale, 1e-12))

    def __call__(self, embeddings: NDArray[Any]) -> Array:
        """Return features [N, K] of mean squared length 1."""
        return np.asarray((_roots(embeddings) - self.mean) @ self.axes)


def _roots(embeddings: NDArray[Any]) -> Array:
    return np.asarray(np.sqrt(np.maximum(embeddings.astype(float), 0)))
