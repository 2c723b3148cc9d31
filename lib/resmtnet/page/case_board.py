"""The elements of an open case: picture, list, figures and form, and what is shown in them."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod

from nicegui import ui

from resmtnet.page.case import CaseNodule
from resmtnet.page.case_data import CaseData
from resmtnet.page.case_form import CorrectionForm
from resmtnet.page.case_panel import nodule_details, nodule_list, search_notice
from resmtnet.page.case_prior import earlier_notice, prior_details
from resmtnet.page.services import Services
from resmtnet.page.viewer import WINDOWS, Tool, Viewer
from resmtnet.types import Point

NO_NAME = "Give your name first, at the top right: each reading bears a name."
_TO_CHOSEN = "document.querySelector('.nodule.is-chosen')?.scrollIntoView({block: 'nearest'})"


class CaseBoard(CaseData, ABC):
    """One open case of one visitor, as it is shown; what its buttons do is in `case_desk`."""

    viewer: Viewer
    form: CorrectionForm
    window: ui.toggle
    contour: ui.checkbox
    axes: ui.checkbox
    whole: ui.checkbox
    others: ui.label
    name: ui.label

    def __init__(self, services: Services, image: str) -> None:
        """Open a case; see `load`."""
        super().__init__(services, image)
        self.tool_buttons: dict[str, ui.button] = {}
        self._dragged: dict[str, list[Point]] = {}
        self._tool: Tool = ""
        self._busy = False
        self._prior_shown = False
        """Whether the picture is of the earlier CT."""

    # -- building ------------------------------------------------------------------------------

    def build_viewer(self) -> None:
        """Put the picture into the page."""
        self.viewer = Viewer()
        self.viewer.when("tool", lambda told: self._tool_taken(told["name"]))

    def build_panel(self) -> None:
        """Put list, figures and form into the page."""
        if not self.services.visitor.reader:
            ui.label(NO_NAME).classes("no-name").props('role="note"')
        with (
            ui.element("div")
            .classes("panel-scroll")
            .props('tabindex="0" role="region" aria-label="Nodules"')
        ):
            self._list()
            self._details()
        with ui.element("div").classes("panel-form"):
            self.form = CorrectionForm(self._changed)
            with ui.element("div").classes("form-buttons"):
                self._save_button = ui.button("Accept", on_click=self.save)
                self._save_button.props("unelevated no-caps color=primary").classes("save")
                self._reject_button = ui.button("Not a nodule", on_click=self.reject)
                self._reject_button.props("outline no-caps")
                self._undo_button = ui.button("Undo", on_click=self.undo).props("flat no-caps")
            self._status = ui.label("").classes("save-status").props('role="status"')

    def _list_head(self) -> None:
        with ui.element("div").classes("list-head"):
            count = len(self.nodules)
            ui.label(f"{count} nodule{'s' if count != 1 else ''}").classes("section-title")
            ui.element("div").classes("spring")
            if self.hidden:
                ui.button("Show answers", on_click=self.reveal).props("flat no-caps dense").tooltip(
                    "What you say afterwards is kept as said after seeing them"
                )
                return
            if self.can_compare() and not self.comparing:
                ui.button("Compare…", on_click=self.compare).props("flat no-caps dense").tooltip(
                    "With an earlier CT of this patient"
                )
            if len(self.acceptable()) > 1:
                ui.button("Accept all", on_click=self.accept_all).props("flat no-caps dense")

    @ui.refreshable_method
    def _list(self) -> None:
        self._list_head()
        earlier_notice(self)
        search_notice(self, self.search)
        nodule_list(self.nodules, self.chosen, self.choose, self.is_hidden)

    @ui.refreshable_method
    def _details(self) -> None:
        if self.chosen is None:
            return
        with ui.element("div").classes("details"):
            if self.is_hidden(self.chosen):
                ui.label(
                    "The model's answer and other readers' words are hidden until you have saved "
                    "your reading of this nodule."
                ).classes("quiet")
            else:
                prior_details(self.chosen, self.toggle_prior, self._prior_shown)
                nodule_details(self.chosen)

    def begin(self, at: str) -> None:
        """Show the place that the address names, the first nodule, or the whole CT."""
        place = _point(at)
        first = self.nearest(place) if place else next(iter(self.nodules), None)
        if first is not None:
            self.choose(first)
        else:
            self.whole.value = True
            self._show()
            self._changed()
        self._tell_unsaved()
        if self.needs_search():
            ui.timer(0.2, self.search, once=True)

    # -- showing -------------------------------------------------------------------------------

    def choose(self, nodule: CaseNodule) -> None:
        """Choose a nodule: show it, its figures and the form for it."""
        self.chosen, self._dragged = nodule, {}
        self.form.start(nodule)
        if self.whole.value:
            self.whole.value = False  # which shows it
        else:
            self._show()
        self._refresh()
        ui.run_javascript(f"setTimeout(() => {_TO_CHOSEN}, 100)")

    def move(self, by: int) -> None:
        """Choose the next nodule (1), or the one before (-1)."""
        if self.nodules:
            now = self.nodules.index(self.chosen) if self.chosen in self.nodules else -by
            self.choose(self.nodules[(now + by) % len(self.nodules)])

    def change_window(self) -> None:
        """Show the HU of the chosen preset."""
        self.viewer.window(*WINDOWS[self.window.value])

    def change_overlays(self) -> None:
        """Show or hide contour and axes."""
        self.viewer.overlays(bool(self.contour.value), bool(self.axes.value))

    def change_extent(self) -> None:
        """Show the whole CT, or the chosen nodule."""
        if not self.whole.value and self.chosen is None:
            self.whole.value = True
        self._show()

    def toggle_prior(self) -> None:
        """Show the place of the chosen nodule in the earlier CT, or this CT again."""
        spec = self.prior_spec(self.chosen) if self.chosen and not self.hidden else None
        if self._prior_shown or spec is None:
            self._show()
        else:
            self._prior_shown = True
            self.viewer.show(spec)
            self._details.refresh()

    def use(self, tool: Tool) -> None:
        """Take a tool into the hand; the same again puts it away."""
        draws = tool in ("brush", "eraser")
        if tool and self._prior_shown:
            self._say("This is the earlier CT. Press h to go back to the one you read.", "error")
            return
        if draws and (self.whole.value or self.chosen is None):
            self._say("Choose a nodule first: its mask is drawn at full resolution.", "error")
            return
        self.viewer.use("" if tool == self._tool else tool)

    def _shows_nodule(self) -> bool:
        """Whether the picture is of the chosen nodule at full resolution."""
        return self.chosen is not None and not self.whole.value and not self._prior_shown

    def grow(self, step: int) -> None:
        """Make the mask larger or smaller."""
        if self._shows_nodule():
            self.viewer.grow(step)

    def undo_stroke(self) -> None:
        """Take back the last stroke."""
        if self._shows_nodule():
            self.viewer.undo_stroke()

    def _show(self) -> None:
        if self._prior_shown:
            self._prior_shown = False
            self._details.refresh()
        chosen = None if self.whole.value else self.chosen
        self.viewer.show(self.spec(chosen))

    def _refresh(self) -> None:
        self._list.refresh()
        self._details.refresh()
        self._changed()

    def _changed(self) -> None:
        anything, nodule = self.form.said.anything, self.chosen
        hidden = nodule is not None and self.is_hidden(nodule)
        can_accept = nodule is not None and not hidden and nodule in self.acceptable()
        self._save_button.text = "Save" if anything or not can_accept else "Accept"
        self._save_button.set_enabled(nodule is not None and (anything or can_accept))
        self._reject_button.set_enabled(nodule is not None)
        self._undo_button.set_enabled(nodule is not None and nodule.said is not None)
        self._note_unsaved(f"nodule {nodule.name}" if anything and nodule else "")

    def _note_unsaved(self, told: str) -> None:
        """Let the browser remember that something is not saved, in case this page is lost."""
        noted = json.dumps({"image": self.image, "told": told}) if told else ""
        ui.run_javascript(f"sessionStorage.setItem('resmtnet-unsaved', {json.dumps(noted)})")

    def _tell_unsaved(self) -> None:
        async def ask() -> None:
            found = await ui.run_javascript("window.resmtnetUnsaved || ''", timeout=5.0)
            try:
                left = json.loads(found or "{}")
            except ValueError:
                return
            if left.get("image") == self.image:
                self._say(
                    f"What you had entered for {str(left.get('told'))[:40]} was not saved before "
                    "the page was left or the connection was lost. Everything shown is saved.",
                    "error",
                )

        # Read before this visit writes its own.
        ui.add_head_html(
            "<script>window.resmtnetUnsaved = sessionStorage.getItem('resmtnet-unsaved') || '';"
            "</script>"
        )
        ui.timer(0.5, ask, once=True)

    def _say(self, told: str, kind: str) -> None:
        """Tell how the last action ended; kind: "saved", "error" or "busy"."""
        self._status.text = told
        self._status.classes(replace=f"save-status is-{kind}")

    def _tool_taken(self, name: Tool) -> None:
        self._tool = name
        for tool, button in self.tool_buttons.items():
            pressed = tool == name
            button.props(f'aria-pressed="{str(pressed).lower()}"')
            button.classes(add="is-on" if pressed else "", remove="" if pressed else "is-on")

    # -- what the buttons do -------------------------------------------------------------------

    @abstractmethod
    async def save(self) -> None:
        """Save what was set, or accept the answer where nothing was."""

    @abstractmethod
    async def reject(self) -> None:
        """Save that there is no nodule."""

    @abstractmethod
    async def undo(self) -> None:
        """Take back the last reading of the chosen nodule."""

    @abstractmethod
    async def accept_all(self) -> None:
        """Accept all answers that this reader has not read yet, after asking once."""

    @abstractmethod
    async def compare(self) -> None:
        """Ask with which earlier CT to compare, and compare all nodules."""

    @abstractmethod
    async def search(self) -> None:
        """Search the whole CT, and show the candidates."""

    @abstractmethod
    async def reveal(self) -> None:
        """End blinded reading of this study: show everything."""


def _point(text: str) -> Point | None:
    """The place of an address; None for anything but three finite numbers."""
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        return None
    return (x, y, z) if all(math.isfinite(mm) for mm in (x, y, z)) else None
