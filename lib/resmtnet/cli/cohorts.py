"""`resmtnet score`: every CT of a cohort."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from resmtnet.cli.output import DeviceOption, JsonOption, ModelOption, echo, print_json, progress
from resmtnet.errors import ConfigError


class EngineName(str, Enum):
    """How the studies are worked off."""

    LOCAL = "local"
    RAY = "ray"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: resmtnet score --studies studies/ --out results/")(score)


def score(
    studies: Annotated[
        str,
        typer.Option(
            metavar="DIR|URL|CSV",
            help="Folder of the CTs; or URL of a DICOMweb service; or a CSV with the column path, "
            "and maybe x, y, z (LPS mm): one row for each point, and no search.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results; a stopped run continues.")],
    max_candidates: Annotated[
        int, typer.Option(min=1, max=200, help="Greatest number of nodules of a search.")
    ] = 10,
    engine: Annotated[
        EngineName,
        typer.Option(help="local: one study after the other; ray: by several workers."),
    ] = EngineName.LOCAL,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of Ray. Default: one for each core of this machine.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Cores of each worker of Ray.")] = 1,
    gpus: Annotated[
        float, typer.Option(min=0, help="GPUs of each worker of Ray, such as 1 or 0.5.")
    ] = 0,
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster. Default: one is started on this machine."),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search or characterise every CT of a cohort: a Parquet row for each nodule, and a summary."""
    import pyarrow  # noqa: F401  # told before hours of work, not after

    from resmtnet import Characterizer
    from resmtnet.cohort.engines import OnRay
    from resmtnet.cohort.score import ROWS, SUMMARY, score_cohort
    from resmtnet.cohort.studies import list_studies

    folder = None if model is None else model.absolute()  # workers may run in another folder
    load, chosen = partial(Characterizer.load, folder, device), None
    if engine is EngineName.RAY:
        import ray  # noqa: F401  # the same

        # A worker without a GPU of its own takes none; this process needs the name of the model.
        there = partial(Characterizer.load, folder, device or ("cuda" if gpus else "cpu"))
        load = partial(Characterizer.load, folder, "cpu")
        cores = os.cpu_count() or 1
        chosen = OnRay(workers or max(1, cores // threads), threads, gpus, address, there)
    elif workers is not None or address is not None or threads != 1 or gpus:
        raise ConfigError("--workers, --threads, --gpus and --address are of --engine ray")
    with progress() as tell:
        found = list_studies(studies, lambda count: tell("CTs found", count, None, ""))
        outcome = score_cohort(
            found,
            load,
            out,
            max_candidates=max_candidates,
            engine=chosen,
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
