"""The interpreter that has Slicer's own code."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from resmtnet.ct import Geometry

collect_ignore = ["desktop.py", "plugin_session.py"]
"""Run by the interpreter that has Slicer's own code."""


@pytest.fixture(scope="session")
def slicer_python(checkout: Path) -> Path:
    """An interpreter with slicer-core; the test is skipped without it."""
    named = os.environ.get("RESMTNET_SLICER_PYTHON")
    python = Path(named) if named else checkout / ".venv-slicer" / "bin" / "python"
    if not python.exists():
        pytest.skip("no slicer-core: `make viewers`, or set RESMTNET_SLICER_PYTHON")
    return python


@pytest.fixture(scope="session")
def grid() -> Geometry:
    """A grid with k downwards and turned axes, so that no frame is right by chance."""
    angle = 0.3
    axes = [[np.cos(angle), np.sin(angle), 0], [np.sin(angle), -np.cos(angle), 0], [0, 0, -1]]
    return Geometry((40, 36, 20), (0.7, 0.8, 2.0), (20.0, -30.0, 50.0), np.array(axes))
