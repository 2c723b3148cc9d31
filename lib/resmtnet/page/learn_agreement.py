"""Agreement of model and readers on the page: figures, calibration and differences."""

from __future__ import annotations

import base64

from nicegui import run, ui

from resmtnet.page.agreement import Agreement, Group, agreement_of
from resmtnet.page.frame import notice
from resmtnet.page.parts import heading, in_words, plain_table
from resmtnet.page.services import Services

BLINDED = (
    "Studies that you have not ended are left out: you read blinded, and they would tell what "
    "others and the model say."
)


async def agreement_section(section: ui.element, services: Services) -> None:
    """Draw the section anew.

    Args:
        section: its element.
        services: see there.
    """

    def find() -> tuple[Agreement | None, int]:
        store = services.inbox.store
        hidden = services.blinding.hidden(store.images(), services.visitor.reader)
        return agreement_of(store, hidden), len(hidden)

    found: Agreement | None = None
    hidden, failed = 0, ""
    try:
        found, hidden = await run.io_bound(find) or (None, 0)
    except Exception as error:
        failed = in_words(error)
    section.clear()
    with section:
        heading("Agreement of model and readers")
        if hidden:
            ui.label(BLINDED).classes("quiet")
        if failed:
            notice("error", "This cannot be shown", failed)
        elif found is None or not found.compared:
            notice(
                "empty",
                "Nothing to compare yet",
                "Each reading of a nodule that the model has answered is compared here.",
            )
        else:
            for warning in found.warnings:
                ui.label(warning).classes("warning")
            for group in found.groups:
                _group(group)


def _group(group: Group) -> None:
    heading(group.title, 3)
    ui.label(f"{group.readings} readings of {group.patients} patients.").classes("quiet")
    if not group.figures:
        return
    with ui.element("div").classes("plots"):
        for plot in group.plots:
            with ui.element("figure"):
                data = base64.b64encode(plot.png).decode("ascii")
                ui.element("img").props(
                    f'src="data:image/png;base64,{data}" alt="{plot.caption}" width="420"'
                )
                with ui.element("figcaption"):
                    ui.label(plot.caption)
    with ui.expansion("All figures").classes("learn-table"):
        head = ("Figure", "Readings", "Model and readers", "Two readers")
        rows = [(one.label, str(one.readings), one.model, one.readers) for one in group.figures]
        plain_table(head, rows, f"Figures of {group.title}")
