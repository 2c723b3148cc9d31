"""`resmtnet train` and `resmtnet model`: making weights, and looking after them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resmtnet.cli.output import DeviceOption, JsonOption, print_json, progress
from resmtnet.errors import InputError

if TYPE_CHECKING:
    from resmtnet.cli.output import Tell
    from resmtnet.config import TrainingConfig
    from resmtnet.experiment import Listener
    from resmtnet.findings import ModelInfo

DataOption = Annotated[
    Path, typer.Option("--data", help="Archive, made by `resmtnet prepare stacks` or `cubes`.")
]
OutOption = Annotated[Path, typer.Option(help="Folder to write.")]

model_app = typer.Typer(help="Look after the weights.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: resmtnet train --data stacks/ --out runs/first --fold 3")(train)
    app.add_typer(model_app, name="model")


def train(
    data: DataOption,
    out: OutOption,
    config: Annotated[
        Path | None, typer.Option(help="JSON of the training configuration; default: our own.")
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
            help="Instead of one model, write out-of-fold answers of every fold's nodules.",
        ),
    ] = False,
    group_size: Annotated[
        int, typer.Option(min=1, help="Folds held out together by --cross-validate.")
    ] = 1,
    version: Annotated[str, typer.Option("--model-version", help="Of the model written.")] = "0",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoints in --out.")
    ] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train Res-MTNet on an archive, calibrate it, and write OUT/model; also under torchrun."""
    from resmtnet.characterizer import choose_device
    from resmtnet.cross_validation import cross_validate as answer_out_of_fold
    from resmtnet.data.archive import Archive
    from resmtnet.experiment import run_experiment

    if cross_validate and fold is not None:
        raise InputError("--fold and --cross-validate exclude each other: leave one out")
    settings, archive = _settings(config, fold), Archive.open(data)
    where = choose_device(device)
    with progress() as tell:
        if cross_validate:
            files = answer_out_of_fold(
                archive,
                settings,
                out,
                group_size=group_size,
                resume=resume,
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
                device=where,
                listener=_listener(tell),
            )
            files = []
    if files:
        _print_files(files, as_json)
    if info:
        _print_model(out / "model", info, as_json)


def _listener(tell: Tell) -> Listener:
    from resmtnet.experiment import Listener
    from resmtnet.training import Progress

    def on_step(name: str, step: Progress) -> None:
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
        typer.echo(str(file))
    options = " ".join(f"--predictions {file}" for file in files)
    typer.echo(f"figures: resmtnet evaluate {options} --out report/")


def _print_model(folder: Path, info: ModelInfo, as_json: bool) -> None:
    if as_json:
        written = {"name": info.name, "version": info.version, "sha256": info.sha256}
        print_json({"model": str(folder), **written})
    else:
        typer.echo(f"{folder}: {info.name} {info.version} ({info.sha256[:12]})")


@model_app.command(epilog="Example: resmtnet model verify runs/first/model")
def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A model; default: RESMTNET_MODEL_DIR, else the shipped one."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the files of a model with the checksums of its manifest, and load it."""
    from resmtnet.model_store import default_model_dir, read_model

    path = folder or default_model_dir()
    info = read_model(path).info
    if as_json:
        checked = {"name": info.name, "version": info.version, "sha256": info.sha256}
        print_json({"model": str(path), **checked, "ok": True})
    else:
        typer.echo(f"{path}: {info.name} {info.version} is intact (sha256 {info.sha256})")


def _settings(path: Path | None, fold: int | None) -> TrainingConfig:
    from resmtnet.config import TrainingConfig, load

    settings = load(TrainingConfig, path) if path else TrainingConfig()
    return settings if fold is None else replace(settings, calibration_folds=(fold,))
