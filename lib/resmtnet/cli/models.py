"""`resmtnet model`: list, verify and roll back versions of the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resmtnet.audit import keep_audit_log
from resmtnet.cli.output import (
    JsonOption,
    ModelOption,
    echo,
    print_json,
    print_warnings,
)
from resmtnet.cli.site import DatabaseOption, StudiesOption, database_of
from resmtnet.errors import InputError

if TYPE_CHECKING:
    from resmtnet.retraining.registry import ModelRegistry
    from resmtnet.retraining.registry_files import Version

model_app = typer.Typer(help="List, verify and roll back versions of the model.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(model_app, name="model")


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
