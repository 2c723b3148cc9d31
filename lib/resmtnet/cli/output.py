"""Output of the commands: JSON on stdout, progress and warnings on stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from resmtnet.types import Json

if TYPE_CHECKING:
    from rich.console import Console

Tell = Callable[[str, int, int | None, str], None]
"""Called with the name of the work, the amount done, the total (None: unknown), and a note."""

Entry = TypeVar("Entry")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:N or auto; default: auto, cuda where there is one."),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model", help="Folder of a model; default: RESMTNET_MODEL_DIR, else the shipped one."
    ),
]

PLAIN_EVERY_S = 10.0
"""If stderr is no terminal, progress is one line every so many seconds."""


def printable(text: str) -> str:
    r"""Return a text without what steers a terminal, as a name or remark of a client may hold it.

    Line breaks and tabs stay.

    >>> printable("Smith\x1b[2J\nnodule")
    'Smith [2J\nnodule'
    """
    steers = (n for n in (*range(32), *range(127, 160)) if chr(n) not in "\n\t")
    return text.translate(dict.fromkeys(steers, " "))


def echo(text: str, err: bool = False) -> None:
    """Print a text on stdout, or on stderr."""
    typer.echo(printable(text), err=err)


def print_json(document: Json) -> None:
    """Print a document on stdout; its numbers are finite or null."""
    echo(json.dumps(document, indent=1, allow_nan=False))


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings on stderr, one line each."""
    for line in lines:
        echo(f"warning: {line}", err=True)


@contextmanager
def progress() -> Iterator[Tell]:
    """Show the progress of long work: bars on a terminal, plain lines otherwise.

    Yields:
        A function to call after each step.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as tell:
            yield tell
    else:
        yield _PlainLines()


@contextmanager
def _bars(console: Console) -> Iterator[Tell]:
    from rich import progress as shapes

    columns = (
        shapes.TextColumn("{task.description}"),
        shapes.BarColumn(),
        shapes.MofNCompleteColumn(),
        shapes.TimeRemainingColumn(),
        shapes.TextColumn("{task.fields[note]}"),
    )
    tasks: dict[str, shapes.TaskID] = {}
    with shapes.Progress(*columns, console=console) as shown:

        def tell(title: str, done: int, of: int | None, note: str) -> None:
            if title not in tasks:
                tasks[title] = shown.add_task(title, total=None, note="")
            shown.update(tasks[title], completed=done, total=of, note=note)

        yield tell


class _PlainLines:
    """Prints the first and the last step of each kind of work, and one every few seconds."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def __call__(self, title: str, done: int, of: int | None, note: str) -> None:
        now = time.monotonic()
        if now < self._next.get(title, now) and done != of:
            return
        self._next[title] = now + PLAIN_EVERY_S
        share = f"{done}" if of is None else f"{done}/{of}"
        echo(f"{title}: {share} {note}".rstrip(), err=True)


def counted(title: str, entries: Iterable[Entry], tell: Tell) -> Iterator[Entry]:
    """Yield the entries, and report how many there were."""
    for done, entry in enumerate(entries, start=1):
        yield entry
        tell(title, done, None, "")
