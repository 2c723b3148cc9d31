"""Draws the central slice of a nodule with the readers' and the model's outline, or a saliency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from resmtnet.evaluation.canvas import png, square
from resmtnet.evaluation.occlusion import STEP_MM, centres_mm

WINDOW_HU = (-1350.0, 150.0)
"""The lung window: level -600, width 1500."""
READERS, MODEL = "#35e06f", "#ffa020"
"""Bright, because they are drawn on grey."""
LEAST_CHANGE = 0.05
"""The colours of a saliency reach at least so far, so that noise is not painted as a finding."""


@dataclass(frozen=True, eq=False)
class SlicePicture:
    """One axial slice around the centre of a nodule."""

    id: str
    caption: str
    hu: NDArray[np.int16]
    """[rows, columns]"""
    pixel_mm: tuple[float, float]
    """Between rows, between columns."""
    centre_px: tuple[float, float]
    """Row and column of the nodule's centre."""
    readers: NDArray[np.float64] | None = None
    """[rows, columns] share of the readers."""
    model: NDArray[np.bool_] | None = None
    """[rows, columns] the model's mask."""
    added: NDArray[np.float64] | None = None
    """[N, N] saliency at occlusion.centres_mm()."""


def draw(picture: SlicePicture) -> bytes:
    """Draw a slice with the readers' outline (half of them) and the model's, or its saliency.

    Returns:
        PNG.
    """
    figure, axes = square("mm", "mm")
    rows, columns = picture.hu.shape
    y = (np.arange(rows) - picture.centre_px[0]) * picture.pixel_mm[0]
    x = (np.arange(columns) - picture.centre_px[1]) * picture.pixel_mm[1]
    dy, dx = (mm / 2 for mm in picture.pixel_mm)
    axes.imshow(
        picture.hu,
        cmap="gray",
        vmin=WINDOW_HU[0],
        vmax=WINDOW_HU[1],
        extent=(x[0] - dx, x[-1] + dx, y[-1] + dy, y[0] - dy),
        interpolation="nearest",
    )
    if picture.added is not None:
        _saliency(axes, picture.added)
    _outline(axes, x, y, picture.readers, READERS, "-")
    model = None if picture.model is None else picture.model.astype(float)
    _outline(axes, x, y, model, MODEL, "--")
    return png(figure)


def _outline(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    share: NDArray[np.float64] | None,
    colour: str,
    style: str,
) -> None:
    if share is not None and share.max() >= 0.5 > share.min():
        axes.contour(x, y, share, levels=[0.5], colors=[colour], linewidths=1.6, linestyles=style)


def _saliency(axes: Axes, added: NDArray[np.float64]) -> None:
    reach = max(LEAST_CHANGE, float(np.abs(added).max()))
    edge = float(centres_mm()[-1]) + STEP_MM / 2
    shown = axes.imshow(
        added,
        cmap="RdBu_r",
        vmin=-reach,
        vmax=reach,
        alpha=0.7 * np.abs(added) / reach,
        extent=(-edge, edge, edge, -edge),
        interpolation="bilinear",
    )
    figure = axes.figure
    figure.colorbar(shown, ax=axes, shrink=0.8, label="Adds to the probability of malignant")
