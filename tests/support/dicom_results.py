"""CT series and varied nodules for the tests of DICOM SEG and SR."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from made_findings import make_finding
from resmtnet.characteristics import LIDC_RATINGS, MALIGNANCY
from resmtnet.ct import Geometry
from resmtnet.findings import Characteristic, Malignancy, ModelInfo, Size
from resmtnet.guidelines.fleischner_2017 import ORDER as FLEISCHNER
from resmtnet.guidelines.lung_rads_v2022 import ORDER as LUNG_RADS
from resmtnet.readings.dicom.identity import Author
from resmtnet.readings.dicom.nodule import ResultNodule, from_finding, new_tracking_uid

MODEL = Author(ModelInfo("resmtnet", "1.2.0", "ab" * 32))


def varied_nodules(grid: Geometry, count: int, series_uid: str = "1.2.3") -> list[ResultNodule]:
    """Nodules of all classes, sizes, characteristics and categories; some have no mask."""
    rng, found = np.random.default_rng(7), []
    for n in range(count):
        radius = float(rng.uniform(2.0, 9.0))
        centre = [float(rng.uniform(0.15, 0.85) * (size - 1)) for size in grid.size_ijk]
        finding = make_finding(grid, centre, n, radius)
        categories = ("lung_rads", LUNG_RADS), ("fleischner", FLEISCHNER)
        system, order = categories[n % 2]
        levels = {
            task.name: Characteristic(task.levels[int(rng.integers(len(task.levels)))], None, {})
            for task in LIDC_RATINGS
            if task is not MALIGNANCY
        }
        finding = replace(
            finding,
            probability_malignant=float(rng.uniform()),
            malignancy=Malignancy(float(rng.uniform(1, 5)), (1.0, 5.0), (0.2,) * 5),
            size=Size(*(float(mm) for mm in rng.uniform(2.0, 30.0, 6))),
            characteristics=levels if n % 5 else {},
            guidelines={system: {"category": order[n % len(order)]}} if n % 7 else {},
            warnings=("the mask and the regressed size disagree",) if n % 3 == 0 else (),
        )
        if n % 11 == 10:
            finding = replace(
                finding, mask=None, start_ijk=None, long_axis_lps_mm=None, short_axis_lps_mm=None
            )
        found.append(from_finding(finding, new_tracking_uid(series_uid, f"N{n + 1}")))
    return found


def assert_valid(dataset: Dataset, path: Path) -> None:
    """Assert that dciodvfy finds no error; skipped where it is not installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("no dciodvfy: apt-get install dicom3tools")
    dataset.save_as(path)
    told = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    errors = [line for line in (told.stdout + told.stderr).splitlines() if "Error" in line]
    assert errors == []


def lines_close(one: object, other: object) -> bool:
    """Whether two axes are the same as far as an SCOORD holds them."""
    if one is None or other is None:
        return one is other
    return bool(np.allclose(np.asarray(one), np.asarray(other), atol=1e-3))
