"""Figures for Prometheus that are read from the disk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from resmtnet.ct.cache import VolumeCache
from resmtnet.server.metrics import _caches


def test_the_size_of_the_cache_is_that_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))
    app: Any = SimpleNamespace(
        shared=SimpleNamespace(open_count=lambda: 2),
        inbox=SimpleNamespace(database=tmp_path / "readings.sqlite"),
    )

    def figures() -> dict[str, float]:
        return {one.name: one.samples[0].value for one in _caches(app)}

    assert figures()["resmtnet_cache_bytes"] == 0
    source = tmp_path / "ct.nii"
    source.write_bytes(b"x" * 100)
    VolumeCache().get(source, lambda: (np.zeros((10, 10, 10), np.int16), {}))
    made = tmp_path / "cache" / "downloads" / "0123" / "ct.nrrd"
    made.parent.mkdir(parents=True)
    made.write_bytes(bytes(500))
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert figures()["resmtnet_cache_bytes"] == sum(path.stat().st_size for path in files) > 2500
    assert figures()["resmtnet_open_cts"] == 2
