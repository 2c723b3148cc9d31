"""Keeps MONAI Label's list of images and labels correct, and mends a damaged one.

The server, a training and a batch inference each hold the whole list in memory. MONAI Label writes
all of it back, which erases what another process has saved meanwhile; here the changes are merged.
A list that cannot be read is moved aside, and the one before it is used; what that one lacks is
found in the folders.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import (
    DataModel,
    ImageLabelModel,
    LocalDatastore,
    LocalDatastoreModel,
)

from resmtnet.files import atomic_file

logger = logging.getLogger(__name__)

Entries = dict[tuple[str, str | None], DataModel]
"""Entries of images under (id, None), and of their labels under (id, tag)."""


class SharedListDatastore(LocalDatastore):  # type: ignore[misc]
    """A LocalDatastore that merges its own changes into the list that is on disk."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """See LocalDatastore."""
        self._agreed: Entries = {}
        """Entries at the time when memory and file were last the same."""
        super().__init__(*arguments, **named)

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Read what other processes have changed; at the start, mend the list if it is damaged.

        Args:
            throw_exception: LocalDatastore's word for the start.
        """
        with FileLock(self._lock_file):
            try:
                if throw_exception and not Path(self._datastore_config_path).exists():
                    self._take_previous()
                self._take_changes(mine_first=False)
            except ValueError as error:
                logger.error("%s cannot be read: %s", self._datastore_config_path, error)
                if throw_exception:
                    self._move_aside()
                    self._take_previous()

    @property
    def _previous(self) -> Path:
        """The list as it was before it was written last."""
        return Path(self._datastore_config_path).with_suffix(".previous.json")

    def _move_aside(self) -> None:
        path = Path(self._datastore_config_path)
        aside = path.with_suffix(f".damaged-{time.strftime('%Y%m%d-%H%M%S')}.json")
        try:
            os.replace(path, aside)
        except OSError as error:
            logger.error("%s stays in its place: %s", path, error)
        else:
            logger.error("It was moved to %s, and the list is built anew", aside)

    def _take_previous(self) -> None:
        """Use the list before the last one, if there is one that can be read."""
        try:
            text = self._previous.read_text()
            held = _entries(LocalDatastoreModel.model_validate_json(text))
        except (OSError, ValueError):
            return
        logger.warning("The list of images is taken from %s", self._previous)
        _fill(self._datastore, held)

    def _keep_previous(self) -> None:
        """Keep the list under a second name before another one takes its place."""
        draft = self._previous.with_suffix(".tmp")
        with suppress(OSError):
            draft.unlink(missing_ok=True)
            os.link(self._datastore_config_path, draft)
            os.replace(draft, self._previous)

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the list in one step: with half a list the server would not start.

        Args:
            lock: False if the caller holds the lock and has just stored a file; its changes win.
        """
        if not lock:
            self._write_list(mine_first=True)
            return
        with FileLock(self._lock_file):
            self._write_list(mine_first=False)

    def _write_list(self, mine_first: bool) -> None:
        try:
            self._take_changes(mine_first)
        except ValueError as error:
            logger.error("%s was damaged, and is replaced: %s", self._datastore_config_path, error)
            self._move_aside()
        else:
            self._keep_previous()
        self._ignore_event_config = True
        text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
        path = Path(self._datastore_config_path)
        with atomic_file(path) as draft:
            draft.write_text(text)
        self._config_ts = path.stat().st_mtime
        self._agreed = _entries(self._datastore, copy=True)

    def _take_changes(self, mine_first: bool) -> None:
        """Merge the file into memory if another process has written it; the lock is held.

        Args:
            mine_first: where both have changed an entry, memory wins; else the file.

        Raises:
            ValueError: the file is damaged.
        """
        path = Path(self._datastore_config_path)
        if not path.exists() or path.stat().st_mtime == self._config_ts:
            return
        theirs = LocalDatastoreModel.model_validate_json(path.read_text())
        for name in ("name", "description", "images_dir", "labels_dir"):
            setattr(self._datastore, name, getattr(theirs, name))
        on_disk = _entries(theirs)
        mine = _entries(self._datastore)
        _fill(self._datastore, merged(self._agreed, mine, on_disk, mine_first))
        self._agreed = _entries(theirs, copy=True)
        self._config_ts = path.stat().st_mtime


def merged(agreed: Entries, mine: Entries, theirs: Entries, mine_first: bool) -> Entries:
    """Merge two lists that were changed since they were the same.

    Args:
        agreed: the list when both were the same.
        mine: my list now.
        theirs: the other list now.
        mine_first: whether my entry wins where both have changed it.
    """
    found: Entries = {}
    for key in {**theirs, **mine}:
        before, here, there = agreed.get(key), mine.get(key), theirs.get(key)
        theirs_holds = here == before or (there != before and not mine_first)
        chosen = there if theirs_holds else here
        if chosen is not None:
            found[key] = chosen
    return found


def _entries(model: LocalDatastoreModel, copy: bool = False) -> Entries:
    found: Entries = {}
    for image_id, entry in model.objects.items():
        found[image_id, None] = entry.image
        found |= {(image_id, tag): label for tag, label in entry.labels.items()}
    return {key: one.model_copy(deep=True) for key, one in found.items()} if copy else found


def _fill(model: LocalDatastoreModel, entries: Entries) -> None:
    """Put entries into a list without replacing its objects, which others may refer to."""
    images = {image_id: image for (image_id, tag), image in entries.items() if tag is None}
    labels: dict[str, dict[str, DataModel]] = {image_id: {} for image_id in images}
    for (image_id, tag), label in entries.items():
        if tag is not None and image_id in images:
            labels[image_id][tag] = label
    for image_id in set(model.objects) - set(images):
        del model.objects[image_id]
    for image_id, image in images.items():
        held = model.objects.setdefault(image_id, ImageLabelModel(image=image))
        held.image = image
        if held.labels != labels[image_id]:
            held.labels.clear()
            held.labels.update(labels[image_id])
