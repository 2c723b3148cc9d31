"""What a reader does at a case: choose a nodule, correct it, save, undo, add one, go on."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from nicegui import run, ui

from resmtnet.errors import ResMTNetError
from resmtnet.page import case_actions as actions
from resmtnet.page.address import ROOT, case_address
from resmtnet.page.case import CaseNodule
from resmtnet.page.case_data import CaseData
from resmtnet.page.case_form import CorrectionForm
from resmtnet.page.case_panel import nodule_details, nodule_list
from resmtnet.page.frame import notice
from resmtnet.page.parts import in_words
from resmtnet.page.pictures import to_ras
from resmtnet.page.services import Services
from resmtnet.page.viewer import WINDOWS, Tool, Viewer
from resmtnet.readings.reply import Reply
from resmtnet.types import Point

logger = logging.getLogger(__name__)


class CaseDesk(CaseData):
    """One open case of one visitor: the elements of its view, and what they do."""

    viewer: Viewer
    form: CorrectionForm
    window: ui.toggle
    contour: ui.checkbox
    axes: ui.checkbox
    whole: ui.checkbox
    others: ui.label

    def __init__(self, services: Services, image: str) -> None:
        """Open a case; see `load`."""
        super().__init__(services, image)
        self.tool_buttons: dict[str, ui.button] = {}
        self._dragged: dict[str, list[Point]] = {}
        self._tool: Tool = ""
        self._busy = False

    # -- building ------------------------------------------------------------------------------

    def build_viewer(self) -> None:
        """Put the picture into the page."""
        self.viewer = Viewer()
        self.viewer.when("place", self._placed)
        self.viewer.when("axes", self._axes_dragged)
        self.viewer.when("mask", self._mask_drawn)
        self.viewer.when("tool", self._tool_taken)

    def build_panel(self) -> None:
        """Put list, figures and form into the page."""
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

    @ui.refreshable_method
    def _list(self) -> None:
        with ui.element("div").classes("list-head"):
            count = len(self.nodules)
            ui.label(f"{count} nodule{'s' if count != 1 else ''}").classes("section-title")
            ui.element("div").classes("spring")
            if self.hidden:
                ui.button("Show answers", on_click=self.reveal).props("flat no-caps dense").tooltip(
                    "What you say afterwards is kept as said after seeing them"
                )
            elif len(self.acceptable()) > 1:
                ui.button("Accept all", on_click=self.accept_all).props("flat no-caps dense")
        if self.searching:
            notice("loading", "Searching the whole CT", "Candidates appear here when it is done.")
        elif self.failed:
            notice("error", "The search has failed", self.failed)
        elif not self.nodules:
            told = (
                "Answers are hidden. Add each nodule that you see: press a, and click it."
                if self.hidden
                else "The search has found none. If you see one, press a and click it."
                if self.searched
                else "Press a and click a nodule, or search the whole CT."
            )
            notice("empty", "No nodules yet", told)
            if not self.hidden and not self.searched:
                ui.button("Search the whole CT", on_click=self.search).props("outline no-caps")
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

    def use(self, tool: Tool) -> None:
        """Take a tool into the hand; the same again puts it away."""
        draws = tool in ("brush", "eraser")
        if draws and (self.whole.value or self.chosen is None):
            self._say("Choose a nodule first: its mask is drawn at full resolution.", "error")
            return
        self.viewer.use("" if tool == self._tool else tool)

    def grow(self, step: int) -> None:
        """Make the mask larger or smaller."""
        if self.chosen is not None and not self.whole.value:
            self.viewer.grow(step)

    def undo_stroke(self) -> None:
        """Take back the last stroke."""
        if self.chosen is not None and not self.whole.value:
            self.viewer.undo_stroke()

    def _show(self) -> None:
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

    # -- saving --------------------------------------------------------------------------------

    async def save(self) -> None:
        """Save what was set, or accept the answer where nothing was."""
        nodule, said = self.chosen, self.form.said
        if nodule is None:
            return
        if said.anything:
            await self._keep(
                lambda: actions.correct(self.services, self.image, nodule, said, self.seen(nodule))
            )
        elif nodule in self.acceptable() and not self.is_hidden(nodule):
            await self._keep(lambda: actions.accept(self.services, self.image, [nodule]))

    async def reject(self) -> None:
        """Save that there is no nodule."""
        nodule, comment = self.chosen, self.form.said.comment
        if nodule is not None:
            await self._keep(
                lambda: actions.reject(
                    self.services, self.image, nodule, comment, self.seen(nodule)
                )
            )

    async def undo(self) -> None:
        """Take back the last reading of the chosen nodule."""
        nodule = self.chosen
        if nodule is not None and nodule.said is not None:
            await self._keep(lambda: actions.undo(self.services, self.image, nodule), "Undone")
            if not self.whole.value:
                self._show()

    async def accept_all(self) -> None:
        """Accept all answers that this reader has not read yet, after asking once."""
        nodules = self.acceptable()
        with ui.dialog() as dialog, ui.card().classes("help-card"):
            ui.label(f"Accept the answers for {len(nodules)} nodules at once?").classes(
                "section-title"
            )
            ui.label("Kept as a bulk reading, which does not train unless a training asks for it.")
            with ui.element("div").classes("form-buttons"):
                ui.button("Accept all", on_click=lambda: dialog.submit(True)).props(
                    "unelevated no-caps"
                )
                ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
        if await dialog:
            await self._keep(lambda: actions.accept(self.services, self.image, nodules))

    async def _keep(self, act: Callable[[], Reply], word: str = "Saved") -> None:
        if self._busy:
            return
        self._busy = True
        self._say("Saving…", "busy")
        try:
            reply = await run.io_bound(act) or Reply()
            await run.io_bound(self.load)
        except ResMTNetError as error:
            self._say(f"Not saved: {in_words(error)}", "error")
            return
        except Exception as error:
            logger.exception("A reading of the page is not kept")
            self._say(f"Not saved: {in_words(error)}", "error")
            return
        finally:
            self._busy = False
        wrong = "; ".join(f"{one.what} {one.why}" for one in reply.not_understood)
        if wrong:
            self._say(f"Not saved: {wrong}", "error")
        else:
            more = " ".join(reply.warnings)
            self._say(f"{word} {time.strftime('%H:%M:%S')}. {more}".strip(), "saved")
        self.form.start(self.chosen)
        self._dragged = {}
        if not self.whole.value and self.chosen is not None:
            spec = self.spec(self.chosen)  # the mask is on the screen as it was saved
            self.viewer.set_marks({name: spec[name] for name in ("axes", "points")})
        self._refresh()

    def _say(self, told: str, kind: str) -> None:
        self._status.text = told
        self._status.classes(replace=f"save-status is-{kind}")

    # -- asking the model ----------------------------------------------------------------------

    async def search(self) -> None:
        """Search the whole CT, and show the candidates."""
        if self.searching:
            return
        self.searching, self.failed = True, ""
        self._list.refresh()
        try:
            await run.io_bound(self.search_now)
            await run.io_bound(self.load)
        except Exception as error:
            logger.warning("The search of %s has failed: %s", self.image, error)
            self.failed = in_words(error)
        self.searching = False
        if self.chosen is None and self.nodules:
            self.choose(self.nodules[0])
        else:
            self._refresh()
            self.viewer.set_marks(
                {"points": self.points(None if self.whole.value else self.chosen)}
            )

    async def reveal(self) -> None:
        """End blinded reading of this study: show everything."""
        await run.io_bound(self.services.blinding.show, self.image, self.services.visitor.reader)
        await run.io_bound(self.load)
        self._show()
        self._refresh()
        if self.needs_search():
            await self.search()

    async def _placed(self, told: dict[str, Any]) -> None:
        place = to_ras(_three(told["at"]))
        self._say("Asking the model…", "busy")
        try:
            await run.io_bound(self.click_now, place)
            await run.io_bound(self.load)
        except Exception as error:
            self._say(f"No answer: {in_words(error)}", "error")
            return
        self._say("Answered. Accept it, or say what you see.", "busy")
        found = self.nearest(place)
        if found is not None:
            self.choose(found)

    # -- what the reader draws -----------------------------------------------------------------

    def _axes_dragged(self, told: dict[str, Any]) -> None:
        axes = {n: [_three(e) for e in told[n]] for n in ("long", "short") if told.get(n)}
        if len(axes) == 2:
            self._dragged = axes
            self.form.drew(actions.dragged_sizes(axes))

    async def _mask_drawn(self, told: dict[str, Any]) -> None:
        nodule = self.chosen
        if nodule is None:
            return
        drawn = await run.io_bound(self.mask_of_bits, nodule, str(told["bits"]))
        if drawn is None or nodule is not self.chosen:
            return
        mask, grid = drawn
        self.form.said.mask, self.form.said.grid = mask, grid
        self.form.drew({})
        if not np.any(mask):
            self._say("The mask is empty: say 'Not a nodule' if there is none.", "error")

    def _tool_taken(self, told: dict[str, Any]) -> None:
        self._tool = told["name"]
        for name, button in self.tool_buttons.items():
            pressed = name == self._tool
            button.props(f'aria-pressed="{str(pressed).lower()}"')
            button.classes(add="is-on" if pressed else "", remove="" if pressed else "is-on")

    # -- going on ------------------------------------------------------------------------------

    async def look_for_news(self) -> None:
        """Show what other readers have said of this case since the last look."""
        if not self._busy and await run.io_bound(self.has_news):
            await run.io_bound(self.load)
            self._refresh()

    async def next_case(self) -> None:
        """Open the study that is to be read next."""
        try:
            found = await run.io_bound(self.next_image)
        except ResMTNetError as error:
            self._say(in_words(error), "error")
            return
        if found is None:
            ui.notify("Every study is read, or being read by others.")
            ui.navigate.to(f"{ROOT}/")
        else:
            ui.navigate.to(case_address(found))


def _point(text: str) -> Point | None:
    parts = text.split(",")
    try:
        place = _three([float(part) for part in parts])
    except (ValueError, TypeError):
        return None
    return place if all(math.isfinite(x) for x in place) else None


def _three(values: Any) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
