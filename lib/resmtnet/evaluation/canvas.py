"""Colours, axes and PNG output that all plots of the reports share."""

from __future__ import annotations

import io
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MODEL, SIZE_ONLY, READERS, GUIDE = "#1f5fa8", "#b35900", "#3a7d44", "#888888"


def square(x: str, y: str) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, and the titles of both."""
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def diagonal(axes: Axes, low: float, high: float) -> None:
    """Draw the line on which both axes agree."""
    axes.plot([low, high], [low, high], color=GUIDE, lw=0.8, ls=":")


Place = Literal["best", "upper left", "lower left", "lower right"]


def legend(axes: Axes, place: Place = "best") -> None:
    """Draw a small legend in the axes."""
    axes.legend(loc=place, frameon=False, fontsize=8)


def legend_above(figure: Figure) -> None:
    """Draw a small legend above the axes, where it hides no point; the layout makes room for it."""
    figure.legend(loc="outside upper left", frameon=False, fontsize=8)


def png(figure: Figure) -> bytes:
    """Return the picture; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=110, format="png", metadata={"Software": None})
    return buffer.getvalue()
