"""The versions of the model that retraining publishes, and which of them is served.

    <folder>/current.json         which version is served, and those served before it
    <folder>/3-1a2b3c4d/          a version: a model folder, and published.json
    <folder>/.draft-*             a version being written, or left by a process that was killed

A version appears whole or not at all, and the pointer changes in one step, so a process that is
killed at any moment leaves a model that can be served. Readers need no lock.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from resmtnet.audit import audit
from resmtnet.errors import InputError, ModelError
from resmtnet.retraining.registry_files import (
    DRAFT,
    LOCK,
    NAME,
    POINTER,
    SHIPPED,
    NewerVersionsError,
    Pointer,
    Served,
    Version,
    WriteModel,
    check_model,
    number_of,
    outdated,
    read_pointer,
    read_version,
    remove_drafts,
    stand_in,
    write_pointer,
    write_version,
)
from resmtnet.retraining.signatures import SiteKey

logger = logging.getLogger(__name__)

FOLDER = "models"
"""Folder of the published versions, beside the readings database."""
KEPT = 10
"""Number of published versions that are kept."""
LONGEST_WAIT_S = 60.0

T = TypeVar("T")
Stamp = tuple[int, int, int]


class ModelRegistry:
    """The versions in a folder; several threads and processes may use it at once."""

    def __init__(
        self, folder: Path, shipped: Path, keep: int = KEPT, key: SiteKey | None = None
    ) -> None:
        """Take a folder; nothing is written or read yet.

        Args:
            folder: of the published versions; may be missing.
            shipped: the model that came with the package.
            keep: number of published versions to keep; the served one, its parent and the one
                served before it are always kept.
            key: signs the versions and says which are trusted; default: that of this user.

        Raises:
            InputError: `keep` is less than 1.
        """
        if keep < 1:
            raise InputError(f"keep is {keep}; at least 1 version must be kept")
        self.folder = folder
        self.shipped = shipped
        self.keep = keep
        self.key = key or SiteKey()

    @classmethod
    def beside(cls, database: Path, shipped: Path) -> ModelRegistry:
        """Return the versions that were trained on the readings of a database.

        >>> ModelRegistry.beside(Path("site/readings.sqlite"), Path("model")).folder.as_posix()
        'site/models'
        """
        return cls(database.parent / FOLDER, shipped)

    # -- reading ---------------------------------------------------------------------------

    def current(self) -> Path:
        """Return the folder of the served model; the shipped one where none can be served."""
        return self.served().folder

    def served(self) -> Served:
        """Return the version to serve; its warning says why it is not the chosen one."""
        try:
            name = read_pointer(self.folder).served
        except ModelError as error:
            return stand_in(self.shipped, str(error))
        version = self._version(name)
        if name != SHIPPED and version.is_forged:
            return stand_in(
                self.shipped, f"Version {name} is chosen but not trusted: {version.damage}"
            )
        if name != SHIPPED and version.info is None:
            return stand_in(self.shipped, f"Version {name} is chosen but damaged: {version.damage}")
        return Served(name, version.folder, outdated(version, self._version(SHIPPED)))

    def is_outdated(self, name: str) -> bool:
        """Return whether a version was trained from another shipped model than today's."""
        return outdated(self._version(name), self._version(SHIPPED)) is not None

    def stamp(self) -> Stamp | None:
        """Return a value that changes whenever another version is chosen; costs one stat call."""
        try:
            found = os.stat(self.folder / POINTER)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def load(self, read: Callable[[Path], T]) -> tuple[T, Served]:
        """Read the served model, or the shipped one if that is damaged.

        Args:
            read: reads a model folder and checks it, such as Characterizer.load.

        Raises:
            ModelError: the shipped model is damaged too.
        """
        while True:
            stamp, served = self.stamp(), self.served()
            if served.warning and self.stamp() != stamp:  # removed while it was looked at
                continue
            if served.name == SHIPPED:
                return read(self.shipped), served
            try:
                return read(served.folder), served
            except Exception as error:  # whatever is wrong with it, the shipped model can serve
                if self.stamp() != stamp:  # it was replaced and removed while being read
                    continue
                served = stand_in(
                    self.shipped, f"Version {served.name} is chosen but damaged: {error}"
                )
                return read(self.shipped), served

    def list(self) -> tuple[Version, ...]:
        """Return all versions: the shipped one, then the published ones, the oldest first."""
        served = self.served().name
        names = (SHIPPED, *self._published())
        return tuple(replace(self._version(name), served=name == served) for name in names)

    def next_version(self) -> str:
        """Return the version string of the next model; final inside `write` of publish.

        Raises:
            ModelError: the shipped model cannot be read.
        """
        shipped = self._version(SHIPPED)
        if shipped.info is None:
            raise ModelError(f"{self.shipped}: {shipped.damage}")
        base = shipped.info.version
        return f"{base}{'.' if '+' in base else '+'}site.{self._next_number()}"

    # -- changing --------------------------------------------------------------------------

    def publish(
        self,
        write: WriteModel,
        *,
        parent: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Version:
        """WriteModel a new version and serve it; if anything fails, the served one stays.

        Args:
            write: writes the model, under the version string of `next_version`.
            parent: name of the version that the model was trained from and compared with; None:
                the one served now.
            details: kept in published.json, such as the verdict and the number of `readings`.

        Raises:
            InputError: another version than `parent` is served meanwhile.
            ModelError: the model cannot be written, or its version string is taken.
        """
        with self._changing() as pointer:
            remove_drafts(self.folder)
            served = self.load(check_model)[1].name
            if parent is not None and parent != served:
                raise InputError(
                    f"Not published: it was compared with {parent}, but {served} is served now. "
                    "Train again."
                )
            shipped = self._version(SHIPPED).info
            record = {
                "parent": served,
                "shipped": shipped.version if shipped else None,
                "made_at": datetime.now(timezone.utc).isoformat(),
                "details": dict(details or {}),
            }
            taken = {v.info.version: v.name for v in self.list() if v.info}
            name = write_version(self.folder, write, record, self._next_number(), taken, self.key)
            there = {SHIPPED, *self._published()}
            before = tuple(n for n in (*pointer.before, pointer.served) if n in there)
            pointer = Pointer(name, before, number_of(name))
            write_pointer(self.folder, pointer)
            self._remove_old({name, served, *before[-1:]})
        logger.info("Version %s was published and is served", name)
        audit("version published", version=name, instead_of=served)
        return replace(self._version(name), served=True)

    def rollback(self, to: str | None = None) -> Version:
        """Serve an earlier version; the later ones are kept and can be chosen again.

        Args:
            to: its name, number or version string, or "shipped"; None: the one served before.

        Raises:
            InputError: there is no such version, or it is already served.
            ModelError: it is damaged; the served version stays.
        """
        with self._changing() as pointer:
            name = self._before(pointer) if to is None else self._named(to)
            if name == pointer.served:
                raise InputError(f"{name} is already served; {self._allowed(name)}")
            self._check(name)
            before = (*pointer.before, pointer.served)
            if name in before:
                before = before[: before.index(name)]
            write_pointer(self.folder, Pointer(name, before, pointer.last))
        logger.info("Version %s is served again instead of %s", name, pointer.served)
        audit("version served again", version=name, instead_of=pointer.served)
        return replace(self._version(name), served=True)

    def trust(self, name: str) -> Version:
        """Sign a version with the key of this site, on the word of whoever calls this.

        Args:
            name: such as "3-1a2b3c4d".

        Raises:
            InputError: there is no such version.
            ModelError: it is damaged, or cannot be signed.
        """
        if name not in self._published():
            raise InputError(f"there is no version {name!r}; {self._allowed(SHIPPED)}")
        with self._changing():
            check_model(self.folder / name)
            self.key.sign(self.folder / name, name)
        version = self._version(name)
        if version.is_forged:
            raise ModelError(f"Version {name} is not trusted: {version.damage}")
        audit("version signed", version=name)
        return version

    # -- inside ----------------------------------------------------------------------------

    def _folder_of(self, name: str) -> Path:
        return self.shipped if name == SHIPPED else self.folder / name

    def _version(self, name: str) -> Version:
        folder = self._folder_of(name)
        version = read_version(name, folder)
        if name == SHIPPED or version.info is None:
            return version
        why = self.key.distrust(folder)
        return version if why is None else Version(name, folder, None, damage=why, is_forged=True)

    def _check(self, name: str) -> None:
        """Refuse a version that is damaged or not trusted.

        Raises:
            ModelError: with the reason.
        """
        check_model(self._folder_of(name))
        version = self._version(name)
        if version.is_forged:
            raise ModelError(f"Version {name} is not trusted: {version.damage}")

    def _published(self) -> tuple[str, ...]:
        try:
            found = [path.name for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        except OSError:
            return ()
        return tuple(sorted(found, key=number_of))

    def _next_number(self) -> int:
        last = 0
        with suppress(ModelError):
            last = read_pointer(self.folder).last
        return 1 + max([last, *map(number_of, self._published())])

    def _named(self, to: str) -> str:
        versions = self.list()
        names = {v.info.version: v.name for v in versions if v.info}
        names |= {v.name.partition("-")[0]: v.name for v in versions}
        names |= {v.name: v.name for v in versions}
        if to not in names:
            raise InputError(f"there is no version {to!r}; {self._allowed()}")
        return names[to]

    def _allowed(self, without: str | None = None) -> str:
        names = [name for name in (SHIPPED, *self._published()) if name != without]
        return f"allowed are {', '.join(names)}" if names else "there is no other"

    def _before(self, pointer: Pointer) -> str:
        """Return the last intact version that was served before, else the shipped one."""
        for name in (*reversed(pointer.before), SHIPPED):
            if name == pointer.served:
                continue
            try:
                self._check(name)
            except ModelError as error:
                logger.warning("Version %s is skipped: %s", name, error)
            else:
                return name
        raise InputError(
            f"No version was served before {pointer.served}; choose one with --to NAME"
        )

    @contextmanager
    def _changing(self) -> Iterator[Pointer]:
        """Keep other writers out; replace a damaged pointer, but not one of a newer schema."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK, timeout=LONGEST_WAIT_S):
                yield self._pointer_to_change()
        except Timeout as error:
            raise ModelError(
                f"{self.folder} is being changed by another process; wait, then try again"
            ) from error
        except OSError as error:
            raise ModelError(
                f"{self.folder} cannot be written ({error}); the served model is unchanged"
            ) from error

    def _pointer_to_change(self) -> Pointer:
        try:
            return read_pointer(self.folder)
        except NewerVersionsError:
            raise
        except ModelError as error:
            logger.warning("%s; it is replaced", error)
            return Pointer(last=self._next_number() - 1)

    def _remove_old(self, needed: set[str]) -> None:
        for name in self._published()[: -self.keep]:
            if name not in needed:
                with suppress(OSError):  # tried again at the next publish
                    gone = self.folder / f"{DRAFT}{name}"
                    os.replace(self.folder / name, gone)
                    shutil.rmtree(gone, ignore_errors=True)
