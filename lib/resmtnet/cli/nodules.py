"""`resmtnet characterize` and `resmtnet find`: findings in one CT."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resmtnet.cli.output import (
    DeviceOption,
    JsonOption,
    ModelOption,
    echo,
    print_json,
    print_warnings,
)
from resmtnet.cli.points import Frame, parse_point, read_candidates, to_lps
from resmtnet.errors import InputError

if TYPE_CHECKING:
    from resmtnet.ct import CTVolume
    from resmtnet.findings import Finding
    from resmtnet.inference.characterizer import Characterizer


class Sex(str, Enum):
    """Of the patient, as the Brock risk knows it."""

    female = "female"
    male = "male"


class Context(str, Enum):
    """Why the CT was made; it selects the guideline."""

    screening_baseline = "screening_baseline"
    screening_followup = "screening_followup"
    incidental = "incidental"
    none = "none"


CTArgument = Annotated[
    Path,
    typer.Argument(
        help="A DICOM series (its folder or one of its files), .nii, .nii.gz, .nrrd, .mha or .mhd."
    ),
]
StackOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Which stack of a DICOM series that holds several (phases, kernels, passes); a "
        "warning lists them. Default: the largest.",
    ),
]
SpacingOption = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,Z",
        help="Voxel spacing in mm along i, j, k of a .nrrd or .mha that does not give it.",
    ),
]
ContextOption = Annotated[
    Context,
    typer.Option(help="Why the CT was made: it selects Lung-RADS (screening) or Fleischner."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        epilog="Example: resmtnet characterize ct/ --at 56.2,86.2,-115.9 --context incidental"
    )(characterize)
    app.command(epilog="Example: resmtnet find ct.nii.gz --max-candidates 5 --json")(find)


def characterize(
    ct: CTArgument,
    at: Annotated[
        list[str],
        typer.Option("--at", metavar="X,Y,Z", help="A point in a nodule; may be repeated."),
    ],
    frame: Annotated[
        Frame,
        typer.Option(help="lps or ras: mm; ijk: voxel index (column, row, slice) from 0."),
    ] = Frame.lps,
    context: ContextOption = Context.none,
    age: Annotated[
        float | None, typer.Option(help="Brock risk: age of the patient, years.")
    ] = None,
    sex: Annotated[Sex | None, typer.Option(help="Brock risk: sex of the patient.")] = None,
    family_history: Annotated[
        bool | None,
        typer.Option("--family-history/--no-family-history", help="Brock risk: of lung cancer."),
    ] = None,
    emphysema: Annotated[
        bool | None, typer.Option("--emphysema/--no-emphysema", help="Brock risk: seen on CT.")
    ] = None,
    nodule_count: Annotated[
        int | None, typer.Option(help="Brock risk: confirmed nodules on this CT.")
    ] = None,
    upper_lobe: Annotated[
        str | None,
        typer.Option(
            metavar="YES,NO,...",
            help="Brock risk: whether the nodule lies in an upper lobe; one answer for all, or one "
            "for each --at.",
        ),
    ] = None,
    spiculation: Annotated[
        str | None,
        typer.Option(
            metavar="YES,NO,...",
            help="Brock risk: whether the nodule is spiculated; adds the model with spiculation.",
        ),
    ] = None,
    stack: StackOption = None,
    spacing: SpacingOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Characterise nodules at given points of a CT: class, malignancy score, size, guideline.

    With age, sex and the other Brock inputs, each nodule also gets the Brock risk of cancer, in a
    field of its own; it is null while an input is missing.
    """
    points = [parse_point(text) for text in at]
    told = {
        "age": age,
        "sex": None if sex is None else sex.value,
        "family_history": family_history,
        "emphysema": emphysema,
        "nodule_count": nodule_count,
        "upper_lobe": _yes_or_no(upper_lobe, "--upper-lobe"),
        "spiculation": _yes_or_no(spiculation, "--spiculation"),
    }

    def ask(characterizer: Characterizer, volume: CTVolume) -> list[Finding]:
        from resmtnet.inference.brock import BrockInputs, with_brock

        brock = BrockInputs.parse(told) if any(v is not None for v in told.values()) else None
        centres = [to_lps(point, frame, volume) for point in points]
        return with_brock(characterizer(volume, centres, context=_name(context)), brock)

    _answer(partial(_open, ct, stack, spacing), ask, model, device, as_json)


def find(
    ct: CTArgument,
    max_candidates: Annotated[
        int, typer.Option(min=1, max=200, help="Greatest number of candidates.")
    ] = 10,
    points: Annotated[
        Path | None,
        typer.Option(
            help="CSV of another detector's candidates, judged instead of a search: columns "
            "coordX, coordY, coordZ or x, y, z (LPS mm, as LUNA16's), and maybe seriesuid, the "
            "image that a row is of."
        ),
    ] = None,
    candidate_threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Least nodule probability of what is shown; default: the model's own. A model "
            "that does not tell nodules from other places shows all.",
        ),
    ] = None,
    context: ContextOption = Context.none,
    stack: StackOption = None,
    spacing: SpacingOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search a whole CT for nodule candidates; a reader has to confirm them."""

    def ask(characterizer: Characterizer, volume: CTVolume) -> list[Finding]:
        return characterizer.find(
            volume,
            max_candidates=max_candidates,
            context=_name(context),
            points=read_candidates(points, volume.image_id) if points else None,
            candidate_threshold=candidate_threshold,
        )

    _answer(partial(_open, ct, stack, spacing), ask, model, device, as_json)


def _yes_or_no(text: str | None, option: str) -> list[bool] | None:
    """Read "yes", "no" or a list of them.

    >>> _yes_or_no("yes,no", "--upper-lobe")
    [True, False]
    """
    if text is None:
        return None
    words = [word.strip().lower() for word in text.split(",")]
    if not set(words) <= {"yes", "no"}:
        raise InputError(f"{option} {text!r}: yes, no, or one of them for each --at is needed")
    return [word == "yes" for word in words]


def _name(context: Context) -> str | None:
    return None if context is Context.none else context.value


def _open(path: Path, stack: int | None, spacing: str | None) -> CTVolume:
    """Open a CT as the options say."""
    from resmtnet import CTVolume

    spacing_mm = None if spacing is None else parse_point(spacing, "--spacing ", "0.7,0.7,1.25")
    return CTVolume.open(path, stack=stack, spacing_ijk_mm=spacing_mm)


def _answer(
    open_ct: Callable[[], CTVolume],
    ask: Callable[[Characterizer, CTVolume], list[Finding]],
    model: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    from resmtnet import Characterizer

    started = time.perf_counter()
    volume = open_ct()
    opened = time.perf_counter()
    characterizer = Characterizer.load(model, device)
    loaded = time.perf_counter()
    findings = ask(characterizer, volume)
    timing_ms = {
        "open": 1e3 * (opened - started),
        "load_model": 1e3 * (loaded - opened),
        "characterize": 1e3 * (time.perf_counter() - loaded),
    }
    document = characterizer.document(volume, findings, timing_ms)
    if as_json:
        print_json(document)
    else:
        _print_table(document)


def _print_table(document: dict[str, Any]) -> None:
    from rich.console import Console

    from resmtnet.cli.display import findings_table, risk_lines, warning_lines

    Console().print(findings_table(document))
    for line in risk_lines(document):
        echo(line)
    echo("Estimates of what readers would say; no diagnosis, not a medical device.")
    print_warnings(warning_lines(document))
