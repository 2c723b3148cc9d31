"""Backups: complete, restorable, and never in place of something else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from resmtnet.errors import StoreError
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore

Made = Callable[..., Reading]


def test_a_backup_is_opened_as_a_store_with_its_masks(
    store: ReadingStore, made: Made, tmp_path: Path
) -> None:
    mask = tmp_path / "m.nrrd"
    mask.write_bytes(b"voxels")
    kept = store.add(made(mask=store.keep_mask(mask)))
    copy = tmp_path / "copies" / "monday.sqlite"
    assert store.backup(copy) == 1
    store.add(made(reader="later"))
    with ReadingStore.open(copy) as copied:
        assert copied.readings() == [kept]
        assert kept.mask is not None
        assert (copied.masks / kept.mask.file).read_bytes() == b"voxels"
    store.add(made(reader="still writable"))


def test_a_restored_backup_takes_new_readings(
    store: ReadingStore, made: Made, tmp_path: Path
) -> None:
    store.add(made())
    store.backup(tmp_path / "copy.sqlite")
    place = tmp_path / "restored" / "readings.sqlite"
    place.parent.mkdir()
    shutil.copyfile(tmp_path / "copy.sqlite", place)
    with ReadingStore.open(place) as restored:
        restored.add(made(reader="bob"))
        assert [kept.reader for kept in restored.readings()] == ["ann", "bob"]


def test_a_newer_backup_replaces_the_older_and_leaves_nothing_else(
    store: ReadingStore, made: Made, tmp_path: Path
) -> None:
    copy = tmp_path / "copies" / "readings.sqlite"
    for reader in ("ann", "bob"):
        store.add(made(reader=reader))
        store.backup(copy)
    assert [file.name for file in copy.parent.iterdir()] == ["readings.sqlite"]
    with ReadingStore.open(copy) as copied:
        assert copied.count() == 2


def test_a_backup_replaces_neither_the_database_nor_another_file(
    store: ReadingStore, made: Made, tmp_path: Path
) -> None:
    store.add(made())
    with pytest.raises(StoreError, match="in use"):
        store.backup(store.path)
    other = tmp_path / "thesis.doc"
    other.write_text("years of work " * 100)
    with pytest.raises(StoreError):
        store.backup(other)
    assert other.read_text().startswith("years")
    with ReadingStore.open(tmp_path / "second.sqlite") as second:
        second.add(made())
        with pytest.raises(StoreError, match="in use"):
            store.backup(second.path)
    assert store.count() == 1
