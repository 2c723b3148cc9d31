"""How much a label of each nodule would teach: pure functions of predictions; larger is more.

Settles, Active Learning Literature Survey (2009).
"""

from __future__ import annotations

import numpy as np

from resmtnet.errors import InputError
from resmtnet.types import Array


def expected_information(epistemic: Array, aleatoric: Array) -> Array:
    """Return the information that one reading gives about several quantities together.

    For a normally distributed quantity with variance v, a reading with noise variance s gives
    log(1 + v / s) / 2 nats (MacKay, Information-Based Objective Functions for Active Data
    Selection, 1992). The information about several quantities adds up. A very noisy reading
    (large s) gives almost none.

    Args:
        epistemic: [N, T] variance of the mean of each quantity, such as score, log size, logit.
        aleatoric: [N, T] or [T] variance of a reading about that mean; of a logit with
            probability p, 1 / (p (1 - p)).

    Returns:
        [N] nats.

    Raises:
        InputError: shapes differ, or a variance cannot be one.

    >>> expected_information(np.array([[3.0, 0.0], [1.0, 1.0]]), np.ones(2)).round(3).tolist()
    [0.693, 0.693]
    """
    v, s = np.asarray(epistemic, float), np.asarray(aleatoric, float)
    if v.ndim != 2 or s.shape not in (v.shape, v.shape[1:]):
        raise InputError(f"epistemic is {v.shape}, aleatoric {s.shape}; allowed: [N, T] and [T]")
    if not (v >= 0).all() or not (s > 0).all():
        raise InputError(
            "a variance is negative or NaN, or a noise variance is 0; epistemic must be 0 or more, "
            "aleatoric above 0"
        )
    return np.asarray(0.5 * np.log1p(v / s).sum(1))


def joint_doubt(
    class_residual: Array, score_width: Array, log_size_width: Array, texture_entropy: Array
) -> Array:
    """Return one number for the doubt about class, score, size and texture together.

    Each part is divided by its greatest sensible value, and the parts are averaged. A part that is
    not known (NaN) is left out.

    Args:
        class_residual: [N] probability of the less probable class, 0..0.5.
        score_width: [N] width of the 90% interval of the malignancy score, 0..4.
        log_size_width: [N] log(high / low) of the 90% interval of a size; log 4 counts as 1.
        texture_entropy: [N] nats over five levels.

    Returns:
        [N] 0..1.

    >>> one = [np.array([x]) for x in (0.5, 2.0, np.log(2.0), np.nan)]
    >>> joint_doubt(*one).round(3).tolist()
    [0.667]
    """
    greatest = (0.5, 4.0, np.log(4.0), np.log(5.0))
    given = (class_residual, score_width, log_size_width, texture_entropy)
    parts = np.stack(
        [
            np.clip(np.asarray(x, float) / most, 0, 1)
            for x, most in zip(given, greatest, strict=True)
        ]
    )
    known = np.isfinite(parts)
    return np.asarray(np.where(known, parts, 0).sum(0) / np.maximum(known.sum(0), 1))
