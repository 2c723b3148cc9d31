"""The phantom as a DICOM series, and its slices."""

from __future__ import annotations

from pathlib import Path

import pytest

from resmtnet.ct.phantom import Phantom, write_dicom_series
from resmtnet.readings.dicom.source_series import SourceSeries


@pytest.fixture(scope="session")
def series(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom") / "series"
    write_dicom_series(phantom, folder)
    return folder


@pytest.fixture(scope="session")
def source(series: Path) -> SourceSeries:
    return SourceSeries.open(series)
