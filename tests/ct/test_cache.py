from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.ct.cache import MemoryCache, VolumeCache, cache_folder


class Builder:
    """Counts how often a volume is built."""

    def __init__(self, value: int = 1) -> None:
        self.calls = 0
        self.value = value

    def __call__(self) -> tuple[np.ndarray, dict[str, Any]]:
        self.calls += 1
        return np.full((20, 30, 40), self.value, np.int16), {"warnings": ["w"]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(b"1234")
    return path


def test_a_volume_is_built_once_and_then_memory_mapped(tmp_path: Path, source: Path) -> None:
    build = Builder()
    for _ in range(2):
        voxels, extra = VolumeCache(tmp_path / "c").get(source, build)
        assert isinstance(voxels, np.memmap)
        assert (voxels == 1).all()
        assert extra == {"warnings": ["w"]}
    assert build.calls == 1


def test_a_changed_file_is_built_again(tmp_path: Path, source: Path) -> None:
    cache = VolumeCache(tmp_path / "c")
    cache.get(source, Builder(1))
    source.write_bytes(b"12345")
    voxels, _ = cache.get(source, Builder(2))
    assert (voxels == 2).all()
    os.utime(source, ns=(1, 1))
    voxels, _ = cache.get(source, Builder(3))
    assert (voxels == 3).all()


def test_the_volumes_not_used_for_longest_are_deleted(tmp_path: Path) -> None:
    cache = VolumeCache(tmp_path / "c", limit_bytes=3 * 50_000)
    builds = {}
    for number, name in enumerate("abcad"):
        path = tmp_path / name
        if not path.exists():
            path.touch()
        build = builds.setdefault(name, Builder())
        cache.get(path, build)
        newest = max(cache.folder.glob("*.npy"), key=lambda entry: entry.stat().st_mtime_ns)
        os.utime(newest, ns=(number, number))  # the clock may be too coarse for the test
    assert len(list(cache.folder.glob("*.npy"))) == 3
    assert len(list(cache.folder.glob("*.json"))) == 3
    cache.get(tmp_path / "a", builds["a"])
    assert builds["a"].calls == 1
    cache.get(tmp_path / "b", builds["b"])
    assert builds["b"].calls == 2


def test_a_volume_larger_than_the_limit_is_not_stored(tmp_path: Path, source: Path) -> None:
    build = Builder()
    cache = VolumeCache(tmp_path / "c", limit_bytes=10)
    for _ in range(2):
        assert (cache.get(source, build)[0] == 1).all()
    assert build.calls == 2
    assert not list(tmp_path.glob("c/*"))


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_entry_is_built_again(tmp_path: Path, source: Path, suffix: str) -> None:
    cache = VolumeCache(tmp_path / "c")
    build = Builder()
    cache.get(source, build)
    (entry,) = cache.folder.glob(f"*{suffix}")
    entry.write_bytes(entry.read_bytes()[:5])
    assert (cache.get(source, build)[0] == 1).all()
    assert build.calls == 2


def test_nothing_half_written_stays(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", full)
    cache = VolumeCache(tmp_path / "c")
    assert (cache.get(source, Builder())[0] == 1).all()
    assert not list(cache.folder.glob("*.npy"))
    assert not list(cache.folder.glob("*.tmp"))


def test_what_a_killed_process_left_behind_is_deleted(tmp_path: Path, source: Path) -> None:
    cache = VolumeCache(tmp_path / "c")
    cache.folder.mkdir()
    (cache.folder / "old.tmp").touch()
    os.utime(cache.folder / "old.tmp", (1, 1))
    (cache.folder / "new.tmp").touch()
    cache.get(source, Builder())
    assert [path.name for path in cache.folder.glob("*.tmp")] == ["new.tmp"]


def test_the_folder_and_the_limit_are_set_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("RESMTNET_CACHE_BYTES", "77")
    assert cache_folder() == tmp_path
    assert VolumeCache().folder == tmp_path / "volumes"
    assert VolumeCache().limit_bytes == 77
    monkeypatch.delenv("RESMTNET_CACHE_DIR")
    assert cache_folder() == Path.home() / ".cache" / "resmtnet"


def test_the_memory_cache_keeps_what_was_used_last() -> None:
    cache: MemoryCache[str, int] = MemoryCache(limit_bytes=20)
    cache.put("a", 1, 10)
    cache.put("b", 2, 10)
    assert cache.get("a") == 1
    cache.put("c", 3, 10)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]
    assert cache.n_bytes == 20


def test_the_memory_cache_counts_a_replaced_value_once_and_refuses_one_too_large() -> None:
    cache: MemoryCache[str, int] = MemoryCache(limit_bytes=20)
    cache.put("a", 1, 10)
    cache.put("a", 2, 15)
    assert cache.n_bytes == 15
    cache.put("b", 3, 21)
    assert cache.get("b") is None
    assert cache.get("a") == 2
