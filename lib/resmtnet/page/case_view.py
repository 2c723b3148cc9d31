"""A case: its CT, its nodules, and what a reader says of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from nicegui import background_tasks, run, ui

from resmtnet.errors import ResMTNetError
from resmtnet.page.address import ROOT, WORKLIST, within
from resmtnet.page.case_desk import CaseDesk
from resmtnet.page.case_keys import listen
from resmtnet.page.frame import notice
from resmtnet.page.parts import in_words
from resmtnet.page.services import Services
from resmtnet.page.viewer import WINDOWS

logger = logging.getLogger(__name__)

PREPARE_S = 3.0
"""After which the study that follows is prepared, and how often it is tried while there is work."""
EARLIER_AFTER_S = 0.5
"""Headers of all studies may have to be read for it: the picture comes first."""
LOOK_S = 3.0
"""How often a case looks for what other readers have said meanwhile."""

_open: Counter[tuple[str, str]] = Counter()
"""How many pages show a study to a reader; of the event loop alone."""


async def case_view(services: Services, study_id: str) -> None:
    """Show a case.

    Args:
        services: see there.
        study_id: id of the image.
    """
    ui.add_head_html(f'<link rel="stylesheet" href="{ROOT}/static/case.css">')
    ui.add_head_html(f'<link rel="modulepreload" href="{ROOT}/niivue.js">')
    desk = CaseDesk(services, study_id)
    try:
        await run.io_bound(desk.load)
    except ResMTNetError as error:
        notice("error", "This study cannot be opened", in_words(error))
        ui.link("Back to the worklist", within(WORKLIST))
        return
    with ui.element("div").classes("case"):
        with ui.element("section").classes("case-picture").props('aria-label="Pictures"'):
            _head(desk)
            desk.build_viewer()
            _tools(desk)
        with ui.element("aside").classes("case-panel").props('aria-label="Nodules and reading"'):
            desk.build_panel()
    listen(desk)
    desk.begin(ui.context.client.request.query_params.get("at", ""))
    ui.timer(LOOK_S, desk.look_for_news)
    ui.timer(EARLIER_AFTER_S, desk.look_for_earlier, once=True)
    preparing = ui.timer(PREPARE_S, lambda: _prepare(desk, preparing))
    reader = services.visitor.reader
    _open[study_id, reader] += 1
    await run.io_bound(desk.opened)
    ui.context.client.on_delete(lambda: background_tasks.create(_leave(desk)))


async def _prepare(desk: CaseDesk, timer: ui.timer) -> None:
    if await desk.prepare():
        timer.deactivate()


async def _leave(desk: CaseDesk) -> None:
    """Free the case for others, and the study that was kept to follow it, unless it is open now."""
    reader = desk.services.visitor.reader
    _open[desk.image, reader] -= 1
    for image in (desk.image, desk.following.kept):
        if image and reader and _open[image, reader] <= 0:
            _open.pop((image, reader), None)
            await asyncio.to_thread(desk.services.close_for, image, reader)


def _head(desk: CaseDesk) -> None:
    with ui.element("header").classes("case-head"):
        back = ui.link(target=within(WORKLIST)).classes("back")
        with back.props('aria-label="Back to the worklist"'):
            ui.icon("arrow_back").props('aria-hidden="true"')
        with ui.element("h1").classes("view-title case-title") as title:
            desk.name = ui.label(desk.title)
        title.props(f'title="{_attribute(desk.image)}"')
        served = desk.services.now()
        ui.label(f"Model {served.model.info.version}").classes("chip")
        for told in served.warnings:
            with ui.icon("warning_amber").classes("chip-warning"):
                ui.tooltip(told)
        ui.element("div").classes("spring")
        desk.others = ui.label("").classes("quiet")
        ui.button("Next study", icon="skip_next", on_click=desk.next_case).props(
            "flat no-caps dense"
        ).tooltip("Open the next unread study (])")


def _attribute(text: str) -> str:
    """A text without what would end an attribute of a `props` string."""
    return "".join(c for c in text if c not in "\"'\\<>")


def _tools(desk: CaseDesk) -> None:
    with ui.element("div").classes("case-tools").props('role="toolbar" aria-label="Picture tools"'):
        desk.window = ui.toggle(list(WINDOWS), value="Lung", on_change=desk.change_window)
        desk.window.props("no-caps dense unelevated").classes("choice")
        ui.element("div").classes("divider")
        desk.contour = ui.checkbox("Contour", value=True, on_change=desk.change_overlays)
        desk.axes = ui.checkbox("Axes", value=True, on_change=desk.change_overlays)
        desk.whole = ui.checkbox("Whole CT", value=False, on_change=desk.change_extent)
        for box in (desk.contour, desk.axes, desk.whole):
            box.props("dense")
        ui.element("div").classes("spring")
        _tool(desk, "add_location_alt", "Add a nodule: click it (a)", "place")
        ui.element("div").classes("divider")
        _tool(desk, "brush", "Brush: paint the mask on a slice (p)", "brush")
        _tool(desk, "cleaning_services", "Eraser (e)", "eraser")
        _step(desk, "remove", "Mask smaller (-)", -1)
        _step(desk, "add", "Mask larger (+)", 1)
        ui.button(icon="undo", on_click=desk.undo_stroke).props(
            'flat round dense aria-label="Undo the last stroke"'
        ).tooltip("Undo the last stroke")


def _tool(desk: CaseDesk, icon: str, told: str, name: str) -> None:
    button = ui.button(icon=icon, on_click=lambda: desk.use(name))  # type: ignore[arg-type]
    button.props(f'flat round dense aria-label="{told.split(":")[0].split(" (")[0]}"')
    button.props('aria-pressed="false"').tooltip(told)
    desk.tool_buttons[name] = button


def _step(desk: CaseDesk, icon: str, told: str, step: int) -> None:
    button = ui.button(icon=icon, on_click=lambda: desk.grow(step))
    button.props(f'flat round dense aria-label="{told.split(" (")[0]}"').tooltip(told)
