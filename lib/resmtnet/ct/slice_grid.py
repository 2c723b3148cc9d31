"""Places slices of uneven or missing positions on an even grid, with a warning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.errors import VolumeError

_TOLERANCE = 0.1
"""How far a slice may lie from its place in the stack, in slice spacings."""
_TYPICAL_PERCENT = 25
"""At least so many of the gaps are as small as the slice spacing or smaller."""


@dataclass(frozen=True, eq=False)
class SliceGrid:
    """Evenly spaced slices, each one of the given slices or interpolated between two."""

    spacing_mm: float

    below: NDArray[np.int64]
    """For each slice of the stack: the given slice at or below it."""

    weight: NDArray[np.float64]
    """For each slice of the stack: 0 = `below` as it is, else the share of the next one above."""

    warnings: tuple[str, ...]

    @property
    def interpolated(self) -> NDArray[np.bool_]:
        """For each slice of the stack: it is not one of the given slices."""
        return self.weight > 0


def slice_grid(positions_mm: NDArray[np.float64]) -> SliceGrid:
    """The even stack of slices that has given positions along the slice normal.

    Args:
        positions_mm: (n,) ascending, each once, n >= 2.

    Returns:
        A stack from the first to the last position. Its spacing is that of the closer slices if
        all gaps are multiples of it (slices are missing), else the median gap (the spacing is
        uneven).

    Raises:
        VolumeError: most of the stack would be missing.

    Example:
        >>> grid = slice_grid(np.array([0.0, 2.0, 4.0, 8.0, 10.0]))
        >>> grid.spacing_mm, grid.below.tolist(), grid.weight.tolist()
        (2.0, [0, 1, 2, 2, 3, 4], [0.0, 0.0, 0.0, 0.5, 0.0, 0.0])
        >>> grid.warnings
        ('1 slice is missing, interpolated from the neighbours: k = 3 (6.0 mm); ...normal.',)
    """
    gaps = np.diff(positions_mm)
    span = float(positions_mm[-1] - positions_mm[0])
    # Not the smallest gap of all: one slice off the grid is no reason to call the rest missing.
    typical = float(np.percentile(gaps, _TYPICAL_PERCENT, method="lower"))
    steps = np.rint(gaps / typical)
    missing = float(np.maximum(steps - 1, 0).sum())
    if not (np.isfinite(span) and typical > 0 and 2 * missing <= len(positions_mm) + missing):
        raise VolumeError(
            f"Only {len(positions_mm)} of {len(positions_mm) + missing:.0f} slices are there "
            f"(spacing {typical:.3g} mm, over {span:.0f} mm): the series is not one volume, or "
            "incomplete. Transfer it again."
        )
    spacing = span / max(1.0, float(steps.sum()))
    index = np.concatenate([[0.0], np.cumsum(steps)])
    offset = positions_mm - positions_mm[0]
    even = bool((np.abs(offset - index * spacing) <= _TOLERANCE * spacing).all() and steps.min())
    if not even:
        spacing = span / max(1, round(span / max(float(np.median(gaps)), typical)))
        index = offset / spacing
    below, weight = _neighbours(index)
    if even:
        warnings = _missing_warnings(weight > 0, spacing, float(positions_mm[0]))
    else:
        warnings = (_uneven_warning(gaps, spacing, below, weight),)
    return SliceGrid(spacing, below, weight, warnings)


def _uneven_warning(
    gaps_mm: NDArray[np.float64],
    spacing_mm: float,
    below: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> str:
    """What an even stack makes of slices that are not evenly spaced."""
    made = int(np.count_nonzero(weight))
    used = set(below.tolist()) | set((below[weight > 0] + 1).tolist())
    unused = len(gaps_mm) + 1 - len(used)
    between = f"{made} of {len(weight)} slices interpolated between neighbours"
    aside = f", {unused} slices off this grid not used" if unused else ""
    return (
        f"the slice spacing is uneven ({gaps_mm.min():.3g} to {gaps_mm.max():.3g} mm): read as an "
        f"even stack of {spacing_mm:.3g} mm, {between}{aside}."
    )


def _neighbours(index: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each slice k of the stack, the given slice below it and the share of the next one.

    Args:
        index: (n,) place of each given slice in the stack, in slices.

    Example:
        >>> [x.tolist() for x in _neighbours(np.array([0.0, 1.05, 2.5, 3.0]))]
        [[0, 1, 1, 3], [0.0, 0.0, 0.655..., 0.0]]
    """
    k = np.arange(round(float(index[-1])) + 1)
    below = np.clip(np.searchsorted(index, k, side="right") - 1, 0, len(index) - 2)
    down, up = k - index[below], index[below + 1] - k
    at_below, at_above = np.abs(down) <= _TOLERANCE, np.abs(up) <= _TOLERANCE
    weight = np.where(at_below | at_above, 0.0, down / (up + down))
    return (below + (at_above & ~at_below)).astype(np.int64), weight


def _missing_warnings(
    missing: NDArray[np.bool_], spacing_mm: float, first_mm: float
) -> tuple[str, ...]:
    """Which slices are missing, as runs."""
    count = int(missing.sum())
    if count == 0:
        return ()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(int), [0]])))
    runs = []
    for first, end in edges.reshape(-1, 2).tolist():
        low, high = first_mm + first * spacing_mm, first_mm + (end - 1) * spacing_mm
        one = end == first + 1
        runs.append(
            f"{first} ({low:.1f} mm)" if one else f"{first}-{end - 1} ({low:.1f} to {high:.1f} mm)"
        )
    what = "slice is missing" if count == 1 else "slices are missing"
    return (
        f"{count} {what}, interpolated from the neighbours: k = {', '.join(runs)}; positions "
        "along the slice normal.",
    )
