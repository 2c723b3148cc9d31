"""`resmtnet train`, `resmtnet evaluate` and `resmtnet model`: making and judging weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resmtnet.cli.output import DeviceOption, JsonOption, ModelOption, print_json, progress

if TYPE_CHECKING:
    from resmtnet.config import TrainingConfig

DataOption = Annotated[
    Path, typer.Option("--data", help="Archive, made by `resmtnet prepare stacks` or `cubes`.")
]
OutOption = Annotated[Path, typer.Option(help="Folder to write.")]

model_app = typer.Typer(help="Look after the weights.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: resmtnet train --data stacks/ --out runs/first --fold 3")(train)
    app.command(
        epilog="Example: resmtnet evaluate --data cubes/ --model runs/first/model --out report/"
    )(evaluate)
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
    version: Annotated[str, typer.Option("--model-version", help="Of the model written.")] = "0",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")
    ] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train Res-MTNet on an archive, calibrate it, and write OUT/model."""
    from resmtnet.characterizer import choose_device
    from resmtnet.data.archive import Archive
    from resmtnet.experiment import Listener, run_experiment
    from resmtnet.training import Progress

    settings = _settings(config, fold)
    archive = Archive.open(data)
    with progress() as tell:

        def on_step(step: Progress) -> None:
            done = step.epoch * step.steps + step.step + 1
            note = f"epoch {step.epoch + 1}/{step.epochs} loss {step.loss:.3f}"
            tell("training", done, step.epochs * step.steps, note)

        info = run_experiment(
            archive,
            settings,
            out,
            version=version,
            resume=resume,
            device=choose_device(device),
            listener=Listener(on_step, lambda done, of: tell("calibration", done, of, "")),
        )
    if as_json:
        written = {"name": info.name, "version": info.version, "sha256": info.sha256}
        print_json({"model": str(out / "model"), **written})
    else:
        typer.echo(f"{out / 'model'}: {info.name} {info.version} ({info.sha256[:12]})")


def evaluate(
    data: DataOption,
    out: OutOption,
    model: ModelOption = None,
    split: Annotated[
        str | None, typer.Option(help="train or val: only the nodules of that split.")
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a model about every nodule of an archive; write metrics.json and report.html."""
    from resmtnet.characterizer import Characterizer
    from resmtnet.data.archive import Archive
    from resmtnet.evaluation.baselines import Baselines
    from resmtnet.evaluator import evaluate as evaluate_model

    archive = Archive.open(data)
    characterizer = Characterizer.load(model, device)
    kept = characterizer.model.calibration.baselines
    baselines = Baselines.from_json(kept) if kept else None
    with progress() as tell:
        document = evaluate_model(
            archive,
            characterizer,
            out,
            baselines,
            split=split,
            tell=lambda done, of: tell("nodules", done, of, ""),
        )
    if as_json:
        print_json(document)
        return
    from resmtnet.evaluation.card import model_card_section

    typer.echo(model_card_section(document))
    typer.echo(f"{out / 'metrics.json'}\n{out / 'report.html'}")


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
