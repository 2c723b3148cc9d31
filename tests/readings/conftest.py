"""A store, and readings to put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a database that is not there yet."""
    return tmp_path / "studies" / "resmtnet" / "readings.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[ReadingStore]:
    with ReadingStore.open(path) as opened:
        yield opened


@pytest.fixture
def made() -> Callable[..., Reading]:
    """Make a reading of Ann's, at the origin of image "ct" unless told otherwise."""

    def make(**fields: Any) -> Reading:
        given = {"image": "ct", "reader": "ann", "centre_lps_mm": (0.0, 0.0, 0.0), **fields}
        return Reading(**given)

    return make
