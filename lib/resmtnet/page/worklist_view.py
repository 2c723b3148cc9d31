"""The worklist: all studies, what was read of them, and which is next; kept up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from nicegui import run, ui

from resmtnet.errors import ResMTNetError
from resmtnet.page.address import ALL_READ, ROOT, case_address, within
from resmtnet.page.frame import cookie, notice, set_cookie
from resmtnet.page.parts import heading, in_words
from resmtnet.page.services import Services
from resmtnet.page.worklist import (
    ALL,
    BY_DATE,
    BY_NAME,
    BY_SCORE,
    BY_STRATEGY,
    CANDIDATES,
    CORRECTED,
    MINE,
    NEW,
    NOT_MINE,
    READ,
    Row,
)
from resmtnet.types import Json

logger = logging.getLogger(__name__)

SHORTCUTS = {
    "j": "next study in the list",
    "k": "study before",
    "Enter": "open the study",
    "n": "open the study to read next",
    "/": "search",
}
ORDER_NAMES = {
    BY_STRATEGY: "What to read next",
    BY_SCORE: "Highest score first",
    BY_DATE: "Newest first",
    BY_NAME: "By name",
}
FILTER_NAMES = {
    ALL: "All studies",
    NOT_MINE: "Not read by me",
    MINE: "Read by me",
    NEW: "New",
    CANDIDATES: "With candidates",
    READ: "Read",
    CORRECTED: "Corrected",
}
STATUS_NAMES = {NEW: "New", CANDIDATES: "Candidates", READ: "Read", CORRECTED: "Corrected"}
HIDDEN = "hidden"
NOT_YET = "not yet"
"""The model has not looked at the study; it does so in the background, the most wanted first."""
LOOK_AGAIN_S = 2.0
LOOK_AT_ALL_S = 20.0
"""Scores that arrive in the background do not change the stamp."""
ROWS_SHOWN = 50

_COLUMNS: list[dict[str, Any]] = [
    {"name": name, "label": label, "field": name, "align": align}
    for name, label, align in (
        ("place", "Read next", "right"),
        ("name", "Study", "left"),
        ("status", "Status", "left"),
        ("readers", "Read by", "left"),
        ("now", "Being read by", "left"),
        ("nodules", "Nodules read", "right"),
        ("candidates", "Found by the model", "right"),
        ("score", "Highest score", "right"),
        ("date", "Date", "left"),
    )
]


async def worklist_view(services: Services) -> None:
    """Show the studies."""
    ui.add_head_html(f'<link rel="stylesheet" href="{ROOT}/static/worklist.css">')
    ui.add_head_html(f'<script defer src="{ROOT}/static/worklist.js"></script>')
    await WorklistView(services).show()


class WorklistView:
    """The list in one browser tab."""

    def __init__(self, services: Services) -> None:
        self._services, self._reader = services, services.visitor.reader
        self._stamp: object = None
        self._looked_s = 0.0

    async def show(self) -> None:
        """Draw the view, and look for what is new from then on."""
        with ui.element("div").classes("view-head"):
            heading("Worklist", 1)
            self._count = ui.label("").classes("quiet").props('role="status"')
        self._tell_of_reader()
        self._controls()
        self._told = ui.element("div")
        with self._told:
            notice("loading", "Looking for the studies", "A moment, please.")
        self._table = _table()
        self._table.set_visibility(False)
        ui.timer(0.05, self._refresh, once=True)
        ui.timer(LOOK_AGAIN_S, self._look)

    def _tell_of_reader(self) -> None:
        visitor = self._services.visitor
        request = ui.context.client.request
        if request is not None and ALL_READ in request.query_params:
            notice(
                "empty",
                "No study is left",
                "All have been read, or others are reading them now. Learn says whether there is "
                "enough to train.",
            )
        if not visitor.reader:
            notice(
                "empty",
                "Who reads?",
                "Give your name at the top right before you read: each reading bears a name.",
            )
        elif visitor.blinded:
            notice(
                "empty",
                "You read blinded",
                "What the model has found, its scores and its order stay hidden until you have "
                "said what you see in a study and ended it.",
            )

    def _controls(self) -> None:
        choose = self._refresh
        with ui.element("div").classes("worklist-controls"):
            self._search = ui.input("Search").props(
                'debounce=250 clearable outlined dense type="search" aria-label="Search"'
            )
            self._search.classes("worklist-search").on_value_change(choose)
            self._only = _choice("Show", FILTER_NAMES, "show", choose)
            self._order = _choice("Order", ORDER_NAMES, "order", choose)
            ui.element("div").classes("spring")
            self._next = ui.button("Next study", on_click=self._open_next, icon="arrow_forward")
            self._next.props("unelevated no-caps").classes("worklist-next")

    async def _look(self) -> None:
        """Draw the list again if something may have changed."""
        try:
            stamp = await run.io_bound(self._services.worklist.stamp)
        except ResMTNetError:
            stamp = None  # drawn again, which says what is wrong
        except Exception:
            logger.exception("Whether the worklist has changed is not known")
            stamp = None
        late = time.monotonic() - self._looked_s > LOOK_AT_ALL_S
        if stamp is None or stamp != self._stamp or late:
            self._stamp = stamp
            await self._refresh()

    async def _refresh(self) -> None:
        self._looked_s = time.monotonic()
        choice = (self._order.value, self._search.value or "", self._only.value)
        try:
            rows = await run.io_bound(self._services.worklist.rows, self._reader, *choice)
            every = rows if choice[1:] == ("", ALL) else None
            if every is None:
                every = await run.io_bound(self._services.worklist.rows, self._reader)
        except Exception as error:
            logger.warning("The worklist cannot be shown: %s", error)
            self._say("error", "The studies cannot be listed", in_words(error))
            self._table.set_visibility(False)
            return
        if rows is not None and every is not None:  # None: the server stops
            self._draw(rows, every)

    def _draw(self, rows: Sequence[Row], every: Sequence[Row]) -> None:
        mine = sum(self._reader in row.readers for row in every) if self._reader else 0
        self._count.text = _counted(len(rows), len(every), mine)
        self._table.rows = [_cells(row) for row in rows]
        self._table.set_visibility(bool(rows))
        if not every:
            self._say(
                "empty",
                "No studies yet",
                "Copy CTs into the folder of the studies, or send them to the PACS: they appear "
                "here by themselves.",
            )
        elif not rows:
            self._say("empty", "No study fits", "Change the search or what is shown.")
        else:
            self._told.clear()

    def _say(self, kind: str, title: str, told: str) -> None:
        self._told.clear()
        with self._told:
            notice(kind, title, told)

    async def _open_next(self) -> None:
        names = [*self._services.strategies]
        if not names:
            ui.notify("No strategy is switched on; open a study from the list.", type="warning")
            return
        self._next.disable()
        try:
            found = await run.io_bound(self._services.next_study, names[0], self._reader)
        except Exception as error:
            ui.notify(in_words(error), type="negative", timeout=0, close_button="Close")
            return
        finally:
            self._next.enable()
        if found is None:
            ui.notify("All studies have been read, or others are reading them now.", type="info")
        else:
            ui.navigate.to(within(case_address(str(found["id"]))))


def _choice(label: str, names: dict[str, str], kept_as: str, choose: Any) -> ui.select:
    """A choice that the visitor's browser keeps, so that it holds when the page is loaded again."""
    kept = cookie(kept_as)
    found = ui.select(names, label=label, value=kept if kept in names else next(iter(names)))
    found.on_value_change(lambda e: set_cookie(kept_as, str(e.value)))
    found.on_value_change(choose)
    return found.props("outlined dense options-dense").classes("worklist-choice")


def _table() -> ui.table:
    table = ui.table(
        columns=_COLUMNS, rows=[], row_key="image", pagination={"rowsPerPage": ROWS_SHOWN}
    )
    table.props('flat dense wrap-cells :rows-per-page-options="[]"').classes("worklist-table")
    # Vue writes {{ }} as text: nothing that a reader or a PACS has typed becomes markup.
    table.add_slot(
        "body-cell-name",
        '<q-td :props="props"><a class="study-link" :href="props.row.address" '
        ':title="props.row.image">{{ props.value }}</a></q-td>',
    )
    table.add_slot(
        "body-cell-status",
        '<q-td :props="props"><span :class="\'status status-\' + props.row.kind">'
        "{{ props.value }}</span></q-td>",
    )
    return table


def _cells(row: Row) -> Json:
    """Return a row as the table shows it."""

    def told(value: object) -> str:
        if row.hidden and value is None:
            return HIDDEN
        return "" if value is None else str(value)

    score = None if row.highest_score is None else f"{row.highest_score:.1f}"
    return {
        "image": row.image,
        "address": case_address(row.image),
        "place": "" if row.place is None else str(row.place),
        "name": row.name,
        "kind": row.status,
        "status": STATUS_NAMES[row.status],
        "readers": ", ".join(row.readers),
        "now": row.reading_now or "",
        "nodules": told(row.nodules) if row.readers or row.hidden else "",
        "candidates": told(row.candidates) or NOT_YET,
        "score": told(score),
        "date": row.date,
    }


def _counted(shown: int, every: int, mine: int) -> str:
    """Say how many studies there are.

    >>> _counted(2, 12, 3), _counted(1, 1, 0)
    ('2 of 12 studies shown; you have read 3', '1 study')
    """
    studies = f"{every:,} {'study' if every == 1 else 'studies'}"
    told = studies if shown == every else f"{shown:,} of {studies} shown"
    return f"{told}; you have read {mine:,}" if mine else told
