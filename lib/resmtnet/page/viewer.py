"""The picture of a case as an element of the page; static/viewer.js draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from nicegui import ui
from nicegui.events import GenericEventArguments

from resmtnet.page.images import NIIVUE

WINDOWS = {"Lung": (-1350, 150), "Soft tissue": (-160, 240), "Ground glass": (-1050, -450)}
"""Lowest and highest HU of each preset: 1500/-600, 400/40 and 600/-750."""

Tool = Literal["", "place", "brush", "eraser"]


class Viewer(ui.element, component="static/viewer.js"):
    """Three planes of a CT, with mask, axes and marks; points are RAS mm."""

    def __init__(self) -> None:
        super().__init__()
        self._props["niivue"] = NIIVUE

    def show(self, spec: dict[str, Any]) -> None:
        """Load a picture and what lies on it; see `show` in viewer.js."""
        self.run_method("show", spec)

    def set_marks(self, spec: dict[str, Any]) -> None:
        """Change what lies on the picture."""
        self.run_method("setMarks", spec)

    def window(self, low_hu: float, high_hu: float) -> None:
        """Show HU from black to white."""
        self.run_method("setRange", low_hu, high_hu)

    def overlays(self, contour: bool, axes: bool) -> None:
        """Show or hide the contour of the mask and the axes."""
        self.run_method("setShown", contour, axes)

    def use(self, tool: Tool) -> None:
        """Take a tool into the hand."""
        self.run_method("setTool", tool)

    def grow(self, step: int) -> None:
        """Make the mask one layer larger (1) or smaller (-1)."""
        self.run_method("grow", step)

    def undo_stroke(self) -> None:
        """Take back the last stroke of brush or eraser."""
        self.run_method("undoStroke")

    def go_to(self, at_ras_mm: Sequence[float]) -> None:
        """Move the crosshair."""
        self.run_method("goTo", list(at_ras_mm))

    def when(self, event: str, handle: Callable[[dict[str, Any]], Any]) -> None:
        """Call a function with what the browser tells: place, axes, mask, moved, shown, failed."""

        async def call(arguments: GenericEventArguments) -> None:
            result = handle(arguments.args)
            if hasattr(result, "__await__"):
                await result

        self.on(event, call)
