"""`resmtnet export`, `resmtnet readings` and `resmtnet agreement`: what readers said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resmtnet.cli.output import JsonOption, echo, print_json, print_warnings
from resmtnet.cli.site import DatabaseOption, StudiesOption, database_of
from resmtnet.errors import InputError

if TYPE_CHECKING:
    from resmtnet.readings.store import ReadingStore, StoredReading

export_app = typer.Typer(help="Export the readings, or the model.")
readings_app = typer.Typer(help="Manage the readings.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(export_app, name="export")
    app.add_typer(readings_app, name="readings")
    app.command(epilog="Example: resmtnet agreement --studies studies/ --out agreement/")(agreement)


@export_app.command("csv", epilog="Example: resmtnet export csv --studies studies/ --out all.csv")
def export_csv(
    studies: StudiesOption = None,
    database: DatabaseOption = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: print on stdout.")
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Write every single reading as it was sent, including corrected ones."
        ),
    ] = False,
    columns: Annotated[
        bool, typer.Option("--columns", help="Say what each column means, and exit.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write what each reader says of each nodule as a row of CSV.

    --json without --out prints whole readings instead.
    """
    from resmtnet.readings.export import COLUMNS, write_csv

    if columns:
        _print_columns({column.name: column.meaning for column in COLUMNS}, as_json)
        return
    with open_readings(studies, database) as store:
        rows = store.kept(every=every)
    if out is not None:
        _write_whole(out, rows)
        if as_json:
            print_json({"file": str(out), "readings": len(rows)})
        else:
            echo(f"{out}: {len(rows)} readings")
    elif as_json:
        print_json({"readings": [_document(kept) for kept in rows]})
    else:
        write_csv(sys.stdout, rows)


@readings_app.command(
    epilog="Example: resmtnet readings backup --studies studies/ --out /backup/readings.sqlite"
)
def backup(
    out: Annotated[
        Path, typer.Option(help="File to write; the masks lie beside it, in FILE-masks.")
    ],
    studies: StudiesOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the readings and their masks while the server runs; to restore, copy them back."""
    with open_readings(studies, database) as store:
        count = store.backup(out)
    if as_json:
        print_json({"file": str(out), "readings": count})
    else:
        echo(f"{out}: {count} readings")


@readings_app.command(epilog="Example: resmtnet readings verify --studies studies/")
def verify(
    studies: StudiesOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that no reading is missing: each number of arrival has its reading or its tombstone."""
    with open_readings(studies, database) as store:
        problems, count = store.problems(), store.count()
    if as_json:
        print_json({"readings": count, "ok": not problems, "problems": problems})
    else:
        echo("\n".join(problems) or f"{count} readings, none is missing")
    if problems:
        raise typer.Exit(1)


def agreement(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    studies: StudiesOption = None,
    database: DatabaseOption = None,
    period: Annotated[str, typer.Option(help="day, week or month: of the figures over time.")] = (
        "month"
    ),
    as_json: JsonOption = False,
) -> None:
    """Write agreement.json and agreement.html: how far readers and model agree, over time."""
    from resmtnet.evaluation.agreement.document import agreement as summarise
    from resmtnet.evaluation.agreement.page import write_agreement

    with open_readings(studies, database) as store:
        readings = store.readings(every=True)
    document = summarise(readings, period)
    files = write_agreement(out, document, readings)
    if as_json:
        print_json(document)
        return
    counts = document["readings"]
    print_warnings(document["warnings"])
    echo(f"{counts['standing']} readings in force, {counts['compared']} compared")
    echo("\n".join(str(file) for file in files))


def open_readings(studies: str | None, database: Path | None) -> ReadingStore:
    """Open the readings that are named; none are made."""
    from resmtnet.readings.store import ReadingStore

    path = database_of(studies, database)
    if not path.is_file():
        raise InputError(f"there are no readings at {path}: none has been saved yet")
    return ReadingStore.open(path)


def _write_whole(out: Path, rows: list[StoredReading]) -> None:
    """Write the CSV beside its place and move it there, so that it is never half of one."""
    from resmtnet.files import atomic_file
    from resmtnet.readings.export import write_csv

    with atomic_file(out) as draft, draft.open("w", encoding="utf-8", newline="") as target:
        write_csv(target, rows)


def _document(kept: StoredReading) -> dict[str, object]:
    return {
        **kept.reading.to_json(),
        "sequence": kept.sequence,
        "arrived_at": kept.arrived_at,
        "superseded": kept.superseded,
    }


def _print_columns(meanings: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json({"columns": meanings})
        return
    for name, meaning in meanings.items():
        echo(f"{name}: {meaning}")
