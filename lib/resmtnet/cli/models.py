"""`resmtnet train` and `resmtnet model`: train a model; list, verify and roll back versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resmtnet.audit import keep_audit_log
from resmtnet.cli.output import (
    DeviceOption,
    JsonOption,
    ModelOption,
    echo,
    print_json,
    print_warnings,
    progress,
)
from resmtnet.cli.site import DatabaseOption, StudiesOption, database_of
from resmtnet.errors import InputError

if TYPE_CHECKING:
    from resmtnet.cli.output import Tell
    from resmtnet.config import TrainingConfig
    from resmtnet.findings import ModelInfo
    from resmtnet.retraining.registry import ModelRegistry
    from resmtnet.retraining.registry_files import Version
    from resmtnet.training.run import Listener

DataOption = Annotated[
    Path, typer.Option("--data", help="Archive, made by `resmtnet prepare stacks` or `cubes`.")
]
OutOption = Annotated[Path, typer.Option(help="Folder to write.")]

model_app = typer.Typer(help="List, verify and roll back versions of the model.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: resmtnet train --data stacks/ --out runs/first --fold 3")(train)
    app.add_typer(model_app, name="model")


def train(
    data: DataOption,
    out: OutOption,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Training configuration, a JSON file; default: that of the shipped model."
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


@model_app.command(
    epilog="Example: resmtnet model verify runs/first/model\n\n"
    "Example: resmtnet model verify --studies ct/"
)
def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A model; default: RESMTNET_MODEL_DIR, else the shipped one."),
    ] = None,
    studies: StudiesOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the files of a model with the checksums in its manifest, and load it.

    With --studies or --readings: do so for every version that training has published. A version
    must also be signed by the key of this site.
    """
    if studies is not None or database is not None:
        if folder is not None:
            raise InputError(
                "give a model folder, or --studies or --readings for all versions, not both"
            )
        _verify_all(_versions(studies, database, None), as_json)
        return
    from resmtnet.inference.model_folder import default_model_dir, read_model
    from resmtnet.retraining.registry_files import NAME
    from resmtnet.retraining.signatures import RECORD

    path = folder or default_model_dir()
    info = read_model(path).info
    if NAME.fullmatch(path.name) or (path / RECORD).exists():
        _check_signature(path)
    if as_json:
        checked = {"name": info.name, "version": info.version, "sha256": info.sha256}
        print_json({"model": str(path), **checked, "ok": True})
    else:
        echo(f"{path}: {info.name} {info.version} is intact (sha256 {info.sha256})")


def _check_signature(folder: Path) -> None:
    """Refuse a published version that the key of this site has not signed."""
    from resmtnet.errors import ModelError
    from resmtnet.retraining.signatures import SiteKey

    why = SiteKey().distrust(folder)
    if why is not None:
        raise ModelError(f"{folder}: its files fit its manifest, but {why}")


def _verify_all(versions: ModelRegistry, as_json: bool) -> None:
    from resmtnet.errors import ModelError
    from resmtnet.inference.model_folder import read_model

    damage: dict[str, str | None] = {}
    for version in versions.list():
        try:
            read_model(version.folder)
            damage[version.name] = version.damage
        except ModelError as error:
            damage[version.name] = str(error)
    if as_json:
        print_json({name: {"ok": not why, "damage": why} for name, why in damage.items()})
    else:
        for name, why in damage.items():
            echo(f"{name}: {why or 'intact'}")
    if any(damage.values()):
        raise typer.Exit(1)


@model_app.command("list", epilog="Example: resmtnet model list --studies studies/")
def list_versions(
    studies: StudiesOption = None,
    database: DatabaseOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the versions that training has published; * marks the served one."""
    versions = _versions(studies, database, model)
    found, warning = versions.list(), versions.served().warning
    if as_json:
        print_json({"versions": [version.to_json() for version in found], "warning": warning})
        return
    print_warnings([warning] if warning else [])
    for line in _lines(found):
        echo(line)


@model_app.command(epilog="Example: resmtnet model trust 3-1a2b3c4d --studies studies/")
def trust(
    name: Annotated[str, typer.Argument(help="Name of the version, such as 3-1a2b3c4d.")],
    studies: StudiesOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a version with the key of this site: only for one that you know to be yours.

    Needed once for versions that were published before they were signed, and after the key was
    lost; until then the shipped model is served in their place.
    """
    versions = _versions(studies, database, None)
    keep_audit_log(versions.folder.parent)
    version = versions.trust(name)
    if as_json:
        print_json(version.to_json())
    else:
        echo(f"{version.name} ({_version_string(version)}) is signed")


@model_app.command(epilog="Example: resmtnet model rollback --studies studies/ --to shipped")
def rollback(
    studies: StudiesOption = None,
    database: DatabaseOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Name, number or version string of a version, or shipped; default: the one "
            "served before."
        ),
    ] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve an earlier version; a running server uses it from the next request on."""
    versions = _versions(studies, database, model)
    keep_audit_log(versions.folder.parent)
    version = versions.rollback(to)
    if as_json:
        print_json(version.to_json())
    else:
        echo(f"{version.name} ({_version_string(version)}) is served")


def _versions(studies: str | None, database: Path | None, model: Path | None) -> ModelRegistry:
    from resmtnet.inference.model_folder import default_model_dir
    from resmtnet.retraining.registry import ModelRegistry

    return ModelRegistry.beside(database_of(studies, database), model or default_model_dir())


def _lines(versions: Sequence[Version]) -> list[str]:
    """Return a row for each version, its columns below one another."""
    rows = [
        (
            "*" if version.served else "",
            version.name,
            _version_string(version),
            f"{version.made_at:%Y-%m-%d %H:%M}" if version.made_at else "",
            f"from {version.parent}" if version.parent else "",
            "" if version.readings is None else f"{version.readings} readings",
            version.damage or str(version.details.get("reason", "")),
        )
        for version in versions
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _version_string(version: Version) -> str:
    return version.info.version if version.info else "damaged"


def _settings(path: Path | None, fold: int | None) -> TrainingConfig:
    from resmtnet.config import TrainingConfig, load

    settings = load(TrainingConfig, path) if path else TrainingConfig()
    return settings if fold is None else replace(settings, calibration_folds=(fold,))
