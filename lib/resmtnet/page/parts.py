"""Small parts that the views share: headings, tables with proper heads, errors in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nicegui import ui


def heading(text: str, level: int = 2) -> ui.element:
    """Write a heading that a screen reader lists.

    Args:
        text: of the heading.
        level: 1 for the view, 2 for a section.
    """
    with ui.element(f"h{level}").classes("view-title" if level == 1 else "section-title") as shown:
        ui.label(text)
    return shown


def plain_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, numbers: int = 0
) -> ui.element:
    """Write a small table; all cells are text.

    Args:
        head: of the columns.
        rows: cells.
        caption: what it shows, for a screen reader.
        numbers: how many of the last columns are numbers, aligned to the right.
    """
    first = len(head) - numbers
    # Tab stops at it, since a narrow window must scroll it.
    with (
        ui.element("div")
        .classes("wide")
        .props(f'tabindex="0" role="region" aria-label="{caption}"'),
        ui.element("table").classes("plain-table") as table,
    ):
        with ui.element("thead"), ui.element("tr"):
            for n, name in enumerate(head):
                with ui.element("th").props('scope="col"').classes("number" if n >= first else ""):
                    ui.label(name)
        with ui.element("tbody"):
            for row in rows:
                with ui.element("tr"):
                    for n, cell in enumerate(row):
                        with ui.element("td").classes("number" if n >= first else ""):
                            ui.label(cell)
    return table


def figure(title: str, value: str, more: str = "") -> None:
    """Write one line of a list of figures, a `dl`.

    Args:
        title: what it is.
        value: with its unit.
        more: its interval, or what follows from it.
    """
    with ui.element("dt"):
        ui.label(title)
    with ui.element("dd"):
        ui.label(value)
        if more:
            ui.label(more).classes("quiet")


def in_words(error: Exception) -> str:
    """Return what an error says in one line."""
    detail: Any = getattr(error, "detail", error)
    return " ".join(str(detail).split())[:500] or type(error).__name__
