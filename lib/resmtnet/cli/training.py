"""`resmtnet train`: makes a model of an archive, or the out-of-fold answers to its nodules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resmtnet.cli.output import DeviceOption, JsonOption, echo, print_json, progress
from resmtnet.errors import InputError

if TYPE_CHECKING:
    from resmtnet.cli.output import Tell
    from resmtnet.config import TrainingConfig
    from resmtnet.findings import ModelInfo
    from resmtnet.training.run import Listener

DataOption = Annotated[
    Path, typer.Option("--data", help="Archive, made by `resmtnet prepare stacks` or `cubes`.")
]
OutOption = Annotated[Path, typer.Option(help="Folder to write.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: resmtnet train --data stacks/ --out runs/first --fold 3")(train)


def train(
    data: DataOption,
    out: OutOption,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Training configuration, a JSON file; default: that of version 3. Those of the "
            "shipped model are in docs/experiments."
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            min=0, help="Keep this fold of patients for calibration, train on the others."
        ),
    ] = None,
    cross_validate: Annotated[
        bool,
        typer.Option(
            "--cross-validate",
            help="Write out-of-fold predictions for every fold instead of a model.",
        ),
    ] = False,
    group_size: Annotated[
        int, typer.Option(min=1, help="Folds held out together by --cross-validate.")
    ] = 1,
    calibrate_with: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a cross-validation of the same configuration: its out-of-fold records "
            "widen the calibration."
        ),
    ] = None,
    negatives: Annotated[
        list[Path] | None,
        typer.Option(
            help="Archive of places without a nodule, for a configuration with "
            "network.nodule_task, made by `resmtnet prepare negatives` or `points`; may be "
            "repeated."
        ),
    ] = None,
    with_member: Annotated[
        list[Path] | None,
        typer.Option(
            help="checkpoint.pt of a network that is a member of the model as it is, for example "
            "of a group of a cross-validation; the other members are trained. It must have left "
            "out the calibration and reference folds. May be repeated."
        ),
    ] = None,
    start_from: Annotated[
        list[Path] | None,
        typer.Option(
            help="checkpoint.pt of an earlier network of the same shape, whose weights training "
            "begins with instead of random ones. May be repeated: those that trained on none of "
            "the folds kept apart here are taken, by the members in turn."
        ),
    ] = None,
    version: Annotated[
        str, typer.Option("--model-version", help="Version of the model that is written.")
    ] = "0",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoints in --out.")
    ] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train Res-MTNet on an archive, calibrate it, and write OUT/model; also under torchrun."""
    from resmtnet.data.archive import Archive
    from resmtnet.inference.device import choose_device
    from resmtnet.training.cross_validation import cross_validate as answer_out_of_fold
    from resmtnet.training.cross_validation import load_answers
    from resmtnet.training.run import run_experiment

    if cross_validate and fold is not None:
        raise InputError("--fold and --cross-validate exclude each other: give only one of them")
    if cross_validate and (calibrate_with is not None or with_member):
        option = "--calibrate-with" if calibrate_with is not None else "--with-member"
        raise InputError(f"{option} is for a single model: leave out --cross-validate")
    settings, archive = _settings(config, fold), Archive.open(data)
    others = [Archive.open(path) for path in negatives or ()]
    where = choose_device(device)
    with progress() as tell:
        if cross_validate:
            files = answer_out_of_fold(
                archive,
                settings,
                out,
                group_size=group_size,
                resume=resume,
                negatives=others,
                start=start_from or (),
                device=where,
                listener=_listener(tell),
            )
            info = None
        else:
            info = run_experiment(
                archive,
                settings,
                out,
                version=version,
                resume=resume,
                further=load_answers(calibrate_with) if calibrate_with else (),
                negatives=others,
                given=with_member or (),
                start=start_from or (),
                device=where,
                listener=_listener(tell),
            )
            files = []
    if files:
        _print_files(files, as_json)
    if info:
        _print_model(out / "model", info, as_json)


def _listener(tell: Tell) -> Listener:
    from resmtnet.training.loop import TrainingProgress
    from resmtnet.training.run import Listener

    def on_step(name: str, step: TrainingProgress) -> None:
        done = step.epoch * step.steps + step.step + 1
        note = f"epoch {step.epoch + 1}/{step.epochs} loss {step.loss:.3f}"
        tell(f"training {name}", done, step.epochs * step.steps, note)

    return Listener(
        crops=lambda done, of: tell("crops", done, of, ""),
        training=on_step,
        calibration=lambda done, of: tell("calibration", done, of, ""),
    )


def _print_files(files: list[Path], as_json: bool) -> None:
    if as_json:
        print_json({"predictions": [str(file) for file in files]})
        return
    for file in files:
        echo(str(file))
    options = " ".join(f"--predictions {file}" for file in files)
    echo(f"figures: resmtnet evaluate {options} --out report/")


def _print_model(folder: Path, info: ModelInfo, as_json: bool) -> None:
    if as_json:
        written = {"name": info.name, "version": info.version, "sha256": info.sha256}
        print_json({"model": str(folder), **written})
    else:
        echo(f"{folder}: {info.name} {info.version} ({info.sha256[:12]})")


def _settings(path: Path | None, fold: int | None) -> TrainingConfig:
    from resmtnet.config import TrainingConfig, load

    settings = load(TrainingConfig, path) if path else TrainingConfig()
    return settings if fold is None else replace(settings, calibration_folds=(fold,))
