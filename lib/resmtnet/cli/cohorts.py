"""`resmtnet score`: every CT of a cohort."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from resmtnet.cli.output import DeviceOption, JsonOption, ModelOption, echo, print_json, progress


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: resmtnet score --studies studies/ --out results/")(score)


def score(
    studies: Annotated[
        str,
        typer.Option(
            help="Folder of the CTs; or a CSV with the column path, and maybe x, y, z (LPS mm): "
            "one row for each point, and no search."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run continues.")],
    max_candidates: Annotated[
        int, typer.Option(min=1, max=200, help="Greatest number of nodules of a search.")
    ] = 10,
    model: ModelOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search or characterise every CT of a cohort: a Parquet row for each nodule, and a summary."""
    import pyarrow  # noqa: F401  # told before hours of work, not after

    from resmtnet import Characterizer
    from resmtnet.cohort.score import ROWS, SUMMARY, score_cohort
    from resmtnet.cohort.studies import list_studies

    found = list_studies(studies)
    with progress() as tell:
        outcome = score_cohort(
            found,
            Characterizer.load(model, device),
            out,
            max_candidates=max_candidates,
            tell=lambda done, of, note: tell("studies", done, of, note),
        )
    if as_json:
        print_json(asdict(outcome))
        return
    echo(
        f"{outcome.studies} studies, {outcome.scored} scored now, {outcome.failed} failed; "
        f"{outcome.rows} rows"
    )
    echo(f"{out / ROWS}\n{out / SUMMARY}")
