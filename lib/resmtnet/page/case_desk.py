"""What a reader does at a case: correct, save, undo, add a nodule, search, go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from nicegui import run, ui

from resmtnet.errors import ResMTNetError
from resmtnet.page import case_actions as actions
from resmtnet.page.address import ALL_READ, WORKLIST, case_address, within
from resmtnet.page.case_board import CaseBoard
from resmtnet.page.case_prior import ask_which
from resmtnet.page.parts import in_words
from resmtnet.page.pictures import to_ras
from resmtnet.readings.reply import Reply
from resmtnet.types import Point

logger = logging.getLogger(__name__)


class CaseDesk(CaseBoard):
    """One open case of one visitor, and what the visitor does there."""

    def build_viewer(self) -> None:
        """Put the picture into the page."""
        super().build_viewer()
        self.viewer.when("place", self._placed)
        self.viewer.when("axes", self._axes_dragged)
        self.viewer.when("mask", self._mask_drawn)

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
        with self.viewer.client, ui.dialog() as dialog, ui.card().classes("help-card"):
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
        if self._shows_nodule() and self.chosen is not None:
            spec = self.spec(self.chosen)  # the mask is on the screen as it was saved
            self.viewer.set_marks({name: spec[name] for name in ("axes", "points")})
        self._refresh()

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

    async def look_for_earlier(self) -> None:
        """Find out with which studies this one may be compared, and say so."""
        try:
            found = await run.io_bound(self.services.earlier, self.image)
        except Exception as error:  # the case can be read without
            logger.warning("Earlier CTs of %s are not known: %s", self.image, error)
            return
        if found is not None:
            self.earlier = found
            if found.name and found.name != self.image:
                self.name.text = found.name
            self._list.refresh()

    async def compare(self) -> None:
        """Ask with which earlier CT to compare, and compare all nodules."""
        await self.look_for_earlier()
        with self.viewer.client:  # the list, and the button in it, may be drawn anew meanwhile
            asked = await ask_which(self.earlier)
        if asked is None or self.comparing or not self.can_compare():
            return
        every = (*self.earlier.of_patient, *self.earlier.of_unknown)
        self.comparing = next(one.told for one in every if one.image == asked["image"])
        self._list.refresh()
        try:
            await run.io_bound(self.compare_now, asked)
            await run.io_bound(self.load)
        except Exception as error:
            self._say(f"Not compared: {in_words(error)}", "error")
        else:
            self._say(f"Compared with {self.comparing}.", "saved")
        self.comparing = ""
        self._refresh()

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

    # -- going on ------------------------------------------------------------------------------

    async def look_for_news(self) -> None:
        """Show what other readers have said of this case since the last look."""
        if not self._busy and await run.io_bound(self.has_news):
            await run.io_bound(self.load)
            self._refresh()

    async def prepare(self) -> bool:
        """Prepare the study that follows, when the server has time for it.

        Returns:
            Whether it was tried.
        """
        if self.searching or self.comparing or self._busy:
            return False
        try:
            await run.io_bound(self.following.prepare)
        except Exception as error:  # it is opened, or refused in words, when it is asked for
            logger.info("The study after %s is not prepared: %s", self.image, error)
        return True

    async def next_case(self) -> None:
        """Open the study that is to be read next."""
        try:
            found = await run.io_bound(self.following.image)
        except ResMTNetError as error:
            self._say(in_words(error), "error")
            return
        if found == self.image:
            self._say("This is the last study that is left to read.", "busy")
        elif found is None:
            ui.navigate.to(f"{within(WORKLIST)}?{ALL_READ}=1")
        else:
            ui.navigate.to(within(case_address(found)))


def _three(values: Any) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
