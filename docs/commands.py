"""Hook of MkDocs: puts every command and option of `resmtnet` where cli.md asks for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

PLACEHOLDER = "<!-- every command -->"
LIB = Path(__file__).resolve().parents[1] / "lib"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the placeholder of a page by the reference of all commands."""
    return markdown.replace(PLACEHOLDER, reference()) if PLACEHOLDER in markdown else markdown


def reference() -> str:
    """Return a section of Markdown for each command, made from the real command line."""
    if str(LIB) not in sys.path:
        sys.path.insert(0, str(LIB))
    from typer.main import get_command

    from resmtnet.cli import app

    return "\n".join(_sections("resmtnet", get_command(app)))


def _sections(name: str, command: Any) -> Iterator[str]:
    nested = getattr(command, "commands", None)
    if nested is None:
        yield from _section(name, command)
        return
    for child, found in sorted(nested.items()):
        yield from _sections(f"{name} {child}", found)


def _section(name: str, command: Any) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"{(command.help or '').strip()}\n"
    for line in (command.epilog or "").split("\n\n"):
        if line.strip():
            yield f"    {line.strip().removeprefix('Example: ')}\n"
    yield "| option | meaning | default |"
    yield "| --- | --- | --- |"
    for parameter in command.params:
        yield _row(parameter)
    yield ""


def _row(parameter: Any) -> str:
    option = parameter.param_type_name == "option"
    names = ", ".join(parameter.opts) if option else str(parameter.name).upper()
    kind = "" if getattr(parameter, "is_flag", False) or not option else _kind(parameter)
    meaning = " ".join((getattr(parameter, "help", "") or "").split()).replace("|", "\\|")
    shown = f"`{names}{' ' + kind if kind else ''}`".replace("|", "\\|")
    return f"| {shown} | {meaning} | {_default(parameter)} |"


def _kind(parameter: Any) -> str:
    """Return what an option takes, from its type annotation."""
    if parameter.metavar:
        return str(parameter.metavar)
    wanted = parameter.type_descriptor.annotation
    wanted = (get_args(wanted) or (wanted,))[0]
    if issubclass(wanted, Enum):
        return "|".join(str(choice.value) for choice in wanted)
    return {Path: "PATH", int: "N", float: "NUMBER"}.get(wanted, "TEXT")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "**required**"
    value = parameter.default
    if value is None or value is False or value in ((), []) or callable(value):
        return ""
    return f"`{getattr(value, 'value', value)}`"
