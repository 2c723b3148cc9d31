"""A MONAI Label datastore that loses no label to a full disk, a kill, or a folder that is gone.

A label or image is copied beside its place and renamed, and the list of them is written after it;
where that fails, what stood there before is put back. A list that is damaged or missing is built
anew, and studies that cannot be written keep their list and labels beside the readings database.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel

from resmtnet.ct.image_file import image_suffix
from resmtnet.errors import ConfigError
from resmtnet.files import atomic_file, make_folder
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.shared_list import SharedListDatastore

logger = logging.getLogger(__name__)

UPLOADED = "uploaded"
"""Marks what is known of an image that a client has sent, and that was not put into the folder."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class CarefulDatastore(SharedListDatastore):
    """What `StudiesDatastore` is built on; see the module."""

    def __init__(
        self,
        studies: str,
        beside: Path | None = None,
        reader_of: Callable[[str], str | None] = lambda image: None,
        **named: Any,
    ) -> None:
        """List a studies folder.

        Args:
            studies: the folder; made if it is missing.
            beside: folder for the list and the labels of studies that cannot be written; None:
                such studies are refused.
            reader_of: returns who has read an image last, for labels whose entry was lost.
            named: further arguments of LocalDatastore.

        Raises:
            ConfigError: the studies cannot be written, and nothing was said to do instead.
        """
        self._studies = Path(studies)
        self._reader_of = reader_of
        self._place = _place_of_list(self._studies, beside)
        self._inode = _inode(self._studies)
        super().__init__(
            studies,
            labels_dir="labels" if self._place == self._studies else str(self._place / "labels"),
            datastore_config=str(self._place.absolute() / "datastore_v2.json"),
            **named,
        )

    @property
    def _lock_file(self) -> str:
        return str(self._place / ".lock")

    @_lock_file.setter
    def _lock_file(self, value: str) -> None:
        """Ignore what LocalDatastore sets: the lock lies beside the list."""

    # -- the folder --------------------------------------------------------------------------

    def check_in_place(self) -> None:
        """Refuse to write where the studies folder is not the one that was opened.

        Where a disk was unmounted, what is written would land on another one.

        Raises:
            Refusal: 503.
        """
        if not self._is_in_place():
            raise Refusal(
                503,
                f"The studies folder {self._studies.name} has disappeared: nothing is stored. "
                "Bring its disk back, and restart the server.",
            )

    def _is_in_place(self) -> bool:
        try:
            return _inode(self._studies) == self._inode
        except OSError:
            return False

    def _reconcile_datastore(self) -> None:
        """Look for new and removed files, unless the folder is gone; a full disk is told."""
        if not self._is_in_place():
            logger.error("%s has disappeared: its list is left as it is", self._studies)
            return
        try:
            super()._reconcile_datastore()
        except OSError as error:
            logger.error("The list of %s is not written: %s", self._studies, error)

    # -- writing -----------------------------------------------------------------------------

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Store a label; an earlier one is replaced only if all of it could be stored.

        Raises:
            Refusal: 503 if the folder is gone or cannot be written, 507 if the disk is full.
        """
        entry = self._datastore.objects[image_id]
        ext = self._to_id(os.path.basename(label_filename))[1]
        name = image_id + ext  # of the label, also where the image is a folder
        info = {**(label_info or {}), "ts": int(time.time()), "name": name}
        before = entry.labels.get(label_tag)
        with (
            self._storing(),
            FileLock(self._lock_file),
            _replaced(Path(self._datastore.label_path(label_tag), name), Path(label_filename)),
        ):
            entry.labels[label_tag] = DataModel(info=info, ext=ext)
            try:
                self._update_datastore_file(lock=False)
            except BaseException:
                entry.labels.pop(label_tag)
                if before is not None:
                    entry.labels[label_tag] = before
                raise
        return image_id

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Store an image; it appears when all of it is on the disk.

        Raises:
            Refusal: see save_label.
        """
        own_id, ext = self._to_id(os.path.basename(image_filename))
        image_id = image_id or own_id
        name = image_id + ext
        info = {**(image_info or {}), "ts": int(time.time()), "name": name, UPLOADED: True}
        with (
            self._storing(),
            FileLock(self._lock_file),
            _replaced(Path(self._datastore.image_path(), name), Path(image_filename)),
        ):
            self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=ext))
            try:
                self._update_datastore_file(lock=False)
            except BaseException:
                del self._datastore.objects[image_id]
                raise
        return image_id

    def uploads(self, before_s: float) -> list[str]:
        """Return the images without a label that clients have uploaded before a time.

        Args:
            before_s: seconds since the epoch.
        """
        return [
            image_id
            for image_id, entry in list(self._datastore.objects.items())
            if entry.image.info.get(UPLOADED)
            and not entry.labels
            and entry.image.info.get("ts", before_s) < before_s
        ]

    def remove_image(self, image_id: str) -> None:
        """Delete an image and its labels; 503 if the folder is gone or cannot be written."""
        with self._storing():
            super().remove_image(image_id)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Delete a label; 503 if the folder is gone or cannot be written."""
        with self._storing():
            super().remove_label(label_id, label_tag)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of an image; 507 if the disk is full."""
        with self._storing():
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known of a label; 507 if the disk is full."""
        with self._storing():
            super().update_label_info(label_id, label_tag, info)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """Turn what the system refuses into an answer that says what to do."""
        self.check_in_place()
        try:
            yield
        except OSError as error:
            logger.error("%s: nothing was stored: %s", self._studies, error)
            raise refusal_of(error) from error

    # -- rebuilding ----------------------------------------------------------------------------

    def _add_non_existing_labels(self, tag: str) -> int:
        """List the label files that have no entry, the newest of each image.

        MONAI Label's own finds image files only; markups and reading documents are .json.
        """
        self._init_from_datastore_file()
        folder, found = Path(self._datastore.label_path(tag)), 0
        files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")]
        for file in sorted(files, key=lambda file: -file.stat().st_mtime):
            ext = ".json" if file.suffix == ".json" else image_suffix(file)
            image_id = file.name[: -len(ext)] if ext else ""
            entry = self._datastore.objects.get(image_id)
            if ext is None or entry is None or tag in entry.labels:
                continue
            info: dict[str, Any] = {"ts": int(file.stat().st_mtime), "name": file.name}
            reader = self._reader_of(image_id)
            if reader is not None:
                info["reader"] = reader
            entry.labels[tag] = DataModel(info=info, ext=ext)
            found += 1
        return found


def refusal_of(error: OSError) -> Refusal:
    """Return the answer to a request during which the system refused to write."""
    if error.errno in FULL:
        return Refusal(
            507,
            "The disk is full: nothing was stored, and what was stored before is unchanged. Free "
            "space on the server, and send it again.",
        )
    if error.errno in READ_ONLY:
        return Refusal(503, "The server may not write to its folder: nothing was stored.")
    return Refusal(500, "The server could not write: nothing was stored. Its log says why.")


@contextmanager
def _replaced(place: Path, source: Path) -> Iterator[None]:
    """Copy a file to its place; if the block fails, put back what stood there before."""
    make_folder(place.parent)
    before = place.with_name(f".{place.name}.before")
    before.unlink(missing_ok=True)
    if place.exists():
        try:
            os.link(place, before)
        except OSError:  # a file system without links
            shutil.copyfile(place, before)
    try:
        with atomic_file(place) as draft:
            shutil.copyfile(source, draft)
        try:
            yield
        except BaseException:
            if before.exists():
                os.replace(before, place)
            else:
                place.unlink(missing_ok=True)
            raise
    finally:
        with suppress(OSError):
            before.unlink(missing_ok=True)


def _place_of_list(studies: Path, beside: Path | None) -> Path:
    """Return the folder for list and labels: the studies themselves if they can be written.

    Raises:
        ConfigError: they cannot, and `beside` is within them or not given.
    """
    try:
        studies.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=studies):
            return studies
    except OSError as error:
        if not studies.is_dir():
            raise ConfigError(f"{studies} cannot be made: {error}") from error
        if error.errno not in READ_ONLY:
            return studies
    if beside is None or beside.resolve().is_relative_to(studies.resolve()):
        raise ConfigError(
            f"{studies} cannot be written, so readings and labels need another place: start with "
            "--conf readings /PATH/readings.sqlite, in a folder that can be written."
        )
    key = hashlib.sha256(str(studies.resolve()).encode()).hexdigest()[:8]
    place = beside / f"labels-{key}"
    make_folder(place)
    logger.warning("%s cannot be written: its list and labels are kept in %s", studies, place)
    return place.absolute()


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
