"""`resmtnet compare`: two CTs of one patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resmtnet.cli.nodules import Context, ContextOption
from resmtnet.cli.output import DeviceOption, JsonOption, ModelOption, print_json, print_warnings
from resmtnet.cli.points import Frame, parse_point, to_lps
from resmtnet.errors import InputError

if TYPE_CHECKING:
    from resmtnet.ct import CTVolume
    from resmtnet.followup.compare import Comparison
    from resmtnet.inference.characterizer import Characterizer
    from resmtnet.types import Point

PriorArgument = Annotated[Path, typer.Argument(help="The earlier CT, in any format of `find`.")]
CurrentArgument = Annotated[Path, typer.Argument(help="The later CT.")]
PriorPoints = Annotated[
    list[str] | None,
    typer.Option(
        "--prior-at", metavar="X,Y,Z", help="A point in a nodule of the prior; may be repeated."
    ),
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        "--at", metavar="X,Y,Z", help="A point in a nodule of the current CT; may be repeated."
    ),
]
PriorDate = Annotated[
    str | None,
    typer.Option(metavar="YYYY-MM-DD", help="When the prior was made, if DICOM does not say."),
]
CurrentDate = Annotated[
    str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="The same of the current CT.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: resmtnet compare prior/ current/ --at 56.2,86.2,-115.9")(compare)


def compare(
    prior: PriorArgument,
    current: CurrentArgument,
    prior_at: PriorPoints = None,
    at: Points = None,
    frame: Annotated[
        Frame,
        typer.Option(help="Of the points: lps or ras in mm, ijk: voxel index of their own CT."),
    ] = Frame.lps,
    prior_date: PriorDate = None,
    current_date: CurrentDate = None,
    context: ContextOption = Context.none,
    prior_category: Annotated[
        str | None, typer.Option(help="Lung-RADS category of the prior, for stable nodules.")
    ] = None,
    any_patient: Annotated[
        bool, typer.Option("--any-patient", help="It is one patient, whatever DICOM says.")
    ] = False,
    max_candidates: Annotated[
        int, typer.Option(min=1, max=200, help="Greatest number of nodules of a search.")
    ] = 10,
    picture: Annotated[
        Path | None, typer.Option(help="Write a PNG: each nodule before and now, with outlines.")
    ] = None,
    sr: Annotated[
        Path | None,
        typer.Option(
            help="Write a DICOM SR of the current nodules, under the tracking UIDs of their priors."
        ),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two CTs of one patient: which nodule is which, what is new, what has grown.

    Nodules are given by points in one CT or in both; without any, both CTs are searched. A nodule
    that is given in one CT alone is looked for in the other.
    """
    from resmtnet import Characterizer, CTVolume
    from resmtnet.followup.compare import compare as compare_cts
    from resmtnet.followup.text import comparison_lines
    from resmtnet.followup.visit import Visit, days_between

    before, now = CTVolume.open(prior), CTVolume.open(current)
    visits = Visit.of(before, prior_date, "--prior-date"), Visit.of(now, current_date, "--date")
    days_between(*visits, any_patient=any_patient)
    if picture is not None and picture.suffix.lower() != ".png":
        raise InputError(f"--picture {picture}: the name of a .png file is needed")
    characterizer = Characterizer.load(model, device)
    found = compare_cts(
        characterizer,
        before,
        now,
        prior_points=_points(prior_at, frame, before, "--prior-at "),
        points=_points(at, frame, now, "--at "),
        context=None if context is Context.none else context.value,
        visits=visits,
        any_patient=any_patient,
        prior_category=prior_category,
        max_candidates=max_candidates,
    )
    document = found.to_json(characterizer, before, now)
    if picture is not None:
        from resmtnet.followup.picture import save_picture

        save_picture(picture, found, before, now)
    if sr is not None:
        _write_sr(sr, found, current, now, characterizer)
    if as_json:
        print_json(document)
        return
    for line in comparison_lines(document):
        typer.echo(line)
    typer.echo("Estimates of what readers would say; no diagnosis, not a medical device.")
    print_warnings(document["warnings"])


def _points(given: list[str] | None, frame: Frame, ct: CTVolume, option: str) -> list[Point] | None:
    if not given:
        return None
    return [to_lps(parse_point(text, option), frame, ct) for text in given]


def _write_sr(
    path: Path, found: Comparison, folder: Path, ct: CTVolume, characterizer: Characterizer
) -> None:
    from resmtnet.followup.tracking import nodules_with_tracking
    from resmtnet.readings.dicom.identity import Author, new_place
    from resmtnet.readings.dicom.source_series import SourceSeries
    from resmtnet.readings.dicom.sr_write import write_sr

    nodules = nodules_with_tracking(found)
    if not nodules:
        raise InputError("--sr: a search's candidates go into no SR: give their points with --at")
    source = SourceSeries.open(folder, ct)
    place = new_place(max(1000, int(source.any.get("SeriesNumber") or 0)))
    write_sr(nodules, source, Author(characterizer.info), place).save_as(
        path, write_like_original=False
    )
