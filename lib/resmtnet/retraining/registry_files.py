"""The files in a folder of published versions: the pointer to the served one, and records."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from resmtnet.errors import ModelError
from resmtnet.files import atomic_file, move_durably
from resmtnet.findings import ModelInfo
from resmtnet.inference.model_folder import MANIFEST, read_info, verify
from resmtnet.retraining.signatures import RECORD, SiteKey
from resmtnet.types import Json

SCHEMA = "resmtnet.versions/1"
POINTER, LOCK = "current.json", ".lock"
SHIPPED = "shipped"
"""Name of the model that came with the package, which training never replaces."""
DRAFT = ".draft-"
NAME = re.compile(r"[1-9][0-9]{0,8}-[0-9a-f]{8}")
WriteModel = Callable[[Path], ModelInfo]
"""Writes a model to a folder, as model_folder.write_model does."""


class NewerVersionsError(ModelError):
    """The folder was written by a newer version of the package: it is left alone."""


@dataclass(frozen=True)
class Version:
    """One model that can be served."""

    name: str
    """Folder of the version, such as "3-1a2b3c4d", or "shipped"."""
    folder: Path
    info: ModelInfo | None
    """None where the version is damaged."""
    parent: str | None = None
    """Name of the version it was trained from."""
    shipped: str | None = None
    """Version string of the shipped model of its time."""
    made_at: datetime | None = None
    readings: int | None = None
    """How many readings it was trained on."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The verdict with its figures, and the configuration of the training."""
    served: bool = False
    damage: str | None = None
    """Why it cannot be served."""
    is_forged: bool = False
    """Whether its files may fit, but this site's key has not signed it."""

    def to_json(self) -> Json:
        """Return what `resmtnet model list --json` prints of it."""
        return {
            "name": self.name,
            "version": self.info.version if self.info else None,
            "sha256": self.info.sha256 if self.info else None,
            "folder": str(self.folder),
            "parent": self.parent,
            "made_at": self.made_at.isoformat() if self.made_at else None,
            "readings": self.readings,
            "details": dict(self.details),
            "served": self.served,
            "damage": self.damage,
        }


@dataclass(frozen=True)
class Served:
    """The version to serve now."""

    name: str
    folder: Path
    warning: str | None = None
    """Why the shipped model is served instead, or that a newer one was shipped."""


@dataclass(frozen=True)
class Pointer:
    """What current.json says."""

    served: str = SHIPPED
    before: tuple[str, ...] = ()
    """Versions served before, the last of them last: rollback goes back through them."""
    last: int = 0
    """Number of the newest version, kept or not."""


def read_pointer(folder: Path) -> Pointer:
    """Return which version is chosen; the shipped one in a folder without a pointer.

    Raises:
        NewerVersionsError: the pointer is of another schema.
        ModelError: it is damaged or cannot be read.
    """
    path = folder / POINTER
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return Pointer()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error})") from error
    try:
        said = json.loads(text)
        schema = said["schema"]
        if schema != SCHEMA:
            raise NewerVersionsError(f"{path} has schema {schema!r}; this version reads {SCHEMA}")
        pointer = Pointer(str(said["served"]), tuple(map(str, said["before"])), int(said["last"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({error})") from error
    for name in (pointer.served, *pointer.before):
        if name != SHIPPED and not NAME.fullmatch(name):
            raise ModelError(f"{path} is damaged: {name!r} is not the name of a version")
    return pointer


def write_pointer(folder: Path, pointer: Pointer) -> None:
    """Choose a version, in one step and onto the disk."""
    said = {"schema": SCHEMA, "served": pointer.served, "before": list(pointer.before)}
    with atomic_file(folder / POINTER) as draft:
        draft.write_text(json.dumps(said | {"last": pointer.last}, indent=1) + "\n")


def read_version(name: str, folder: Path) -> Version:
    """Return what the manifest and the record of a version say; its weights are not checked."""
    try:
        info = read_info(folder)
    except ModelError as error:
        return Version(name, folder, None, damage=str(error))
    try:
        record = json.loads((folder / RECORD).read_text())
        details = dict(record["details"])
        return Version(
            name,
            folder,
            info,
            parent=record["parent"],
            shipped=record["shipped"],
            made_at=datetime.fromisoformat(record["made_at"]),
            readings=details.get("readings"),
            details=details,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Version(name, folder, info)


def stand_in(shipped: Path, reason: str) -> Served:
    """Return the shipped model, which is served where the chosen version cannot be.

    Args:
        shipped: its folder.
        reason: why the chosen version cannot be served.
    """
    advice = "Choose another: `resmtnet model list --studies DIR`, then `resmtnet model rollback`"
    return Served(SHIPPED, shipped, f"{reason}. The shipped model is served instead. {advice}.")


def outdated(version: Version, shipped: Version) -> str | None:
    """Return a warning where a version was trained from another shipped model than today's."""
    if version.shipped is None or shipped.info is None or version.shipped == shipped.info.version:
        return None
    return (
        f"{version.name} was trained from shipped version {version.shipped}; the shipped version "
        f"is now {shipped.info.version}. Press Train to train a version from it on all your "
        "readings; until then this one is served. To serve the shipped version as it is: "
        "`resmtnet model rollback --studies DIR --to shipped`."
    )


def number_of(name: str) -> int:
    """Return the number of a version.

    >>> number_of("3-1a2b3c4d")
    3
    """
    return int(name.partition("-")[0])


def write_version(
    folder: Path,
    write: WriteModel,
    record: Json,
    number: int,
    taken: Mapping[str, str],
    key: SiteKey,
) -> str:
    """WriteModel a version and return its name; it appears only when it is whole and on the disk.

    Args:
        folder: of the versions.
        write: writes the model.
        record: of how it was made.
        number: of the version.
        taken: names of the other versions by their version strings.
        key: signs it.

    Raises:
        ModelError: what was written is damaged, or its version string is taken.
    """
    draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder))
    try:
        model = draft / "model"
        info = write(model)
        if check_model(model) != info.sha256:
            raise ModelError(
                f"Not published: the files written are not those of {info.version}; check the disk"
            )
        if info.version in taken:
            raise ModelError(
                f"Not published: {taken[info.version]} already has version {info.version}"
            )
        (model / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        name = f"{number}-{info.sha256[:8]}"
        key.sign(model, name)
        move_durably(model, folder / name)
        return name
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(folder: Path) -> None:
    """Remove what killed processes left; whoever calls it keeps other writers out."""
    for path in [*folder.glob(f"{DRAFT}*"), *folder.glob(f".{POINTER}.*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def check_model(folder: Path) -> str:
    """Return the sha256 of a model after comparing every file with its manifest.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        return str(verify(folder)["sha256"])
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}: {MANIFEST} is damaged ({error!r})") from error
