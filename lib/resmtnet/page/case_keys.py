"""The keyboard of a case; the help of the frame lists it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import ui
from nicegui.events import KeyEventArguments

from resmtnet.page.viewer import WINDOWS

if TYPE_CHECKING:
    from resmtnet.page.case_desk import CaseDesk

SHORTCUTS = {
    "j k": "next, previous nodule",
    "1 2 3 4 5": "malignancy",
    "b i m": "benign, indeterminate, malignant",
    "Enter": "save, or accept the answer as it is",
    "x": "not a nodule",
    "u": "undo your last reading of this nodule",
    "a": "add a nodule: click it",
    "p e": "brush, eraser",
    "+ -": "mask larger, smaller",
    "w": "next window: lung, soft tissue, ground glass",
    "c v": "contour, axes on and off",
    "z": "whole CT, or the nodule",
    "h": "earlier CT, and back",
    "]": "next study",
    "Esc": "put the tool away",
}

_CLASSES = {"b": "benign", "i": "indeterminate", "m": "malignant"}
_TOOLS = {"a": "place", "p": "brush", "e": "eraser", "Escape": ""}


def listen(desk: CaseDesk) -> None:
    """Act on the keys of a case."""

    async def on_key(event: KeyEventArguments) -> None:
        modified = event.modifiers.ctrl or event.modifiers.alt or event.modifiers.meta
        if event.action.keydown and not modified:
            await _act(desk, event.key.name)

    # Enter and Space on a button press that button, and nothing else.
    ui.keyboard(on_key=on_key, ignore=["input", "select", "textarea", "button"], repeating=False)


async def _act(desk: CaseDesk, key: str) -> None:
    if key in "12345" and len(key) == 1:
        desk.form.rate(int(key))
    elif key in _CLASSES:
        desk.form.classify(_CLASSES[key])
    elif key in _TOOLS:
        desk.use(_TOOLS[key])  # type: ignore[arg-type]
    elif key in ("j", "k"):
        desk.move(1 if key == "j" else -1)
    elif key == "Enter":
        await desk.save()
    elif key == "x":
        await desk.reject()
    elif key == "u":
        await desk.undo()
    elif key in ("+", "=", "-"):
        desk.grow(-1 if key == "-" else 1)
    elif key == "w":
        names = list(WINDOWS)
        desk.window.value = names[(names.index(desk.window.value) + 1) % len(names)]
    elif key in ("c", "v", "z"):
        box = {"c": desk.contour, "v": desk.axes, "z": desk.whole}[key]
        box.value = not box.value
    elif key == "h":
        desk.toggle_prior()
    elif key == "]":
        await desk.next_case()
