"""Writers that are killed, crowded, and run out of disk; benchmarks/nothing_lost.py does more."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def nothing_lost(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "nothing_lost", checkout / "benchmarks" / "nothing_lost.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user can reach, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_no_acknowledged_reading_is_lost_by_a_kill(nothing_lost: ModuleType, folder: Path) -> None:
    found = nothing_lost.kills(folder, 10, fresh_every=5)
    assert found["kills"] == 10
    assert found["present"] == found["acknowledged"] > 0
    assert found["kept"] <= found["acknowledged"] + found["kills"]


def test_four_processes_write_at_once_and_agree_on_the_nodules(
    nothing_lost: ModuleType, folder: Path
) -> None:
    found = nothing_lost.crowd(folder, each=15)
    assert found["present"] == found["acknowledged"] == found["kept"] == 60
    assert found["nodules"] == 3


def test_a_file_that_may_not_grow_loses_nothing_and_says_so(
    nothing_lost: ModuleType, folder: Path
) -> None:
    found = nothing_lost.full_disk(folder)
    assert found["present"] == found["acknowledged"] > 0
    assert "the disk refused to write" in found["refused"]


def test_a_full_disk_loses_nothing_and_says_so_and_can_be_freed(
    nothing_lost: ModuleType, folder: Path
) -> None:
    try:
        found = nothing_lost.really_full_disk(folder)
    except OSError as error:
        pytest.skip(str(error))
    assert found["present"] == found["acknowledged"] > 0
    assert "free disk space" in found["refused"]
    assert found["after_space_was_freed"] == 10


def test_a_read_only_folder_takes_no_reading_and_keeps_those_it_has(
    nothing_lost: ModuleType, folder: Path
) -> None:
    if os.name != "posix":
        pytest.skip("permissions are of another kind here")
    found = nothing_lost.read_only(folder)
    assert found["then_acknowledged"] == 0
    assert found["present"] == 20
    assert "the folder must be writable" in found["refused"]
