"""The interpreter that has Slicer's own code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def slicer_python(checkout: Path) -> Path:
    """An interpreter with slicer-core; the test is skipped without it."""
    named = os.environ.get("RESMTNET_SLICER_PYTHON")
    python = Path(named) if named else checkout / ".venv-slicer" / "bin" / "python"
    if not python.exists():
        pytest.skip("no slicer-core: `make viewers`, or set RESMTNET_SLICER_PYTHON")
    return python
