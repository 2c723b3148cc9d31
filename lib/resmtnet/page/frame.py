"""The frame of every view: header, navigation, the reader's name, light and dark, shortcuts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import unquote

from nicegui import run, ui
from nicegui.events import KeyEventArguments

from resmtnet.page.address import LEARN, ROOT, WORKLIST, within
from resmtnet.page.blinding import Blinding
from resmtnet.page.services import Visitor

NAVIGATION = (("worklist", "Worklist", WORKLIST), ("learn", "Learn", LEARN))

EVERYWHERE = {"g w": "worklist", "g l": "learn", "?": "this help", "d": "light or dark"}
"""Shortcuts of every view."""

NOT_A_DEVICE = (
    "For research. Class, score and sizes estimate what radiologists would say of the picture; "
    "they are no proven risk of cancer."
)

_COOKIE_DAYS = 365


@contextmanager
def frame(
    visitor: Visitor,
    current: str,
    shortcuts: Mapping[str, str] | None = None,
    blinding: Blinding | None = None,
) -> Iterator[None]:
    """Put a view into the frame.

    Args:
        visitor: who looks.
        current: "worklist", "learn" or "case": which entry of the navigation is marked.
        shortcuts: keys of this view, and what each does; the view acts on them itself.
        blinding: of the site; None where it cannot be asked.
    """
    dark = ui.dark_mode(visitor.dark)
    with ui.header().classes("page-header"):
        ui.link("Res-MTNet", within(WORKLIST)).classes("brand")
        with ui.element("nav").props('aria-label="Views"'):
            for name, title, address in NAVIGATION:
                link = ui.link(title, within(address)).classes("nav-link")
                if name == current:
                    link.props('aria-current="page"')
        ui.element("div").classes("spring")
        with ui.label("Not a medical device").classes("quiet not-a-device"):
            ui.tooltip(NOT_A_DEVICE)
        _reader_name(visitor)
        if blinding is not None:
            _blinded_switch(visitor, blinding)
        with ui.button(icon="contrast", on_click=lambda: _toggle(dark)).props(
            'flat round dense aria-label="Light or dark"'
        ):
            ui.tooltip("Light or dark (d)")
        help_dialog = _help({**(shortcuts or {}), **EVERYWHERE})
        with ui.button(icon="keyboard", on_click=help_dialog.open).props(
            'flat round dense aria-label="Keyboard shortcuts"'
        ):
            ui.tooltip("Keyboard shortcuts (?)")
    keys = _Keys(dark, help_dialog)
    ui.keyboard(on_key=keys.press, ignore=["input", "select", "textarea"], repeating=False)
    with ui.element("div").classes(f"view view-{current}"):  # NiceGUI puts a main around it
        yield


def notice(kind: str, title: str, told: str) -> ui.element:
    """Show in plain words that something is empty, loading or wrong.

    Args:
        kind: "empty", "loading" or "error".
        title: what it is, in a few words.
        told: why, and what to do.
    """
    icon = {"empty": "inbox", "loading": "hourglass_empty", "error": "error_outline"}[kind]
    role = "alert" if kind == "error" else "status"
    with ui.element("section").classes(f"notice notice-{kind}").props(f'role="{role}"') as shown:
        if kind == "loading":
            ui.spinner(size="28px").props('aria-hidden="true"')
        else:
            ui.icon(icon).props('aria-hidden="true"')
        with ui.element("div"):
            ui.label(title).classes("notice-title")
            ui.label(told)
    return shown


def cookie(name: str) -> str:
    """Return a choice that `set_cookie` has kept in the visitor's browser; "" without one."""
    request = ui.context.client.request
    return "" if request is None else unquote(request.cookies.get(f"resmtnet-{name}", ""))


def set_cookie(name: str, value: str) -> None:
    """Keep a choice of the visitor in their browser."""
    seconds = _COOKIE_DAYS * 24 * 3600
    text = f"; path={ROOT}; max-age={seconds}; SameSite=Strict"
    ui.run_javascript(
        f"document.cookie = 'resmtnet-{name}=' + encodeURIComponent({json.dumps(value)}) + "
        f"{json.dumps(text)}"
    )


def _reader_name(visitor: Visitor) -> None:
    def keep() -> None:
        set_cookie("reader", str(field.value or "").strip())
        ui.navigate.reload()

    with ui.button().props("flat no-caps dense").classes("reader") as button:
        ui.icon("person").props('aria-hidden="true"')
        ui.label(visitor.reader or "Who reads?").classes("reader-name")
        with ui.menu().props("no-parent-event") as menu, ui.card().classes("reader-card"):
            field = ui.input("Your name", value=visitor.reader).props("autofocus maxlength=100")
            field.on("keydown.enter", keep)
            ui.label("Kept in this browser; your readings bear it.").classes("quiet")
            ui.button("Keep", on_click=keep).props("unelevated no-caps")
    button.on("click", menu.open)


def _blinded_switch(visitor: Visitor, blinding: Blinding) -> None:
    async def keep(value: bool) -> None:
        await run.io_bound(blinding.switch, visitor.reader, value)
        ui.navigate.reload()

    switch = ui.switch("Blinded", value=visitor.blinded, on_change=lambda e: keep(bool(e.value)))
    switch.props("dense").classes("blinded")
    if blinding.always or not visitor.reader:
        switch.disable()
    with switch:
        ui.tooltip(
            "Every reader of this site reads blinded"
            if blinding.always
            else "Hide what the model and other readers say until you have said yours"
            if visitor.reader
            else "Give your name first: it is kept who reads blinded"
        )


def _toggle(dark: ui.dark_mode) -> None:
    dark.value = not dark.value
    set_cookie("dark", "1" if dark.value else "")


def _help(shortcuts: Mapping[str, str]) -> ui.dialog:
    with ui.dialog() as dialog, ui.card().classes("help-card"):
        ui.label("Keyboard shortcuts").classes("view-title")
        with ui.element("dl").classes("shortcuts"):
            for keys, told in shortcuts.items():
                with ui.element("dt"):
                    for key in keys.split():
                        with ui.element("kbd"):
                            ui.label(key)
                with ui.element("dd"):
                    ui.label(told)
    return dialog


class _Keys:
    """The shortcuts of every view; "g" waits for the key after it."""

    def __init__(self, dark: ui.dark_mode, help_dialog: ui.dialog) -> None:
        self._dark, self._help, self._before = dark, help_dialog, ""

    def press(self, event: KeyEventArguments) -> None:
        modified = event.modifiers.ctrl or event.modifiers.alt or event.modifiers.meta
        if not event.action.keydown or modified:
            return
        key, before = event.key.name, self._before
        self._before = key
        if before == "g" and key in ("w", "l"):
            ui.navigate.to(within({"w": WORKLIST, "l": LEARN}[key]))
        elif key == "?":
            self._help.open()
        elif key == "d":
            _toggle(self._dark)
