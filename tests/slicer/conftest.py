"""The interpreter that has Slicer's own code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from plugin_process import Plugin, running_plugin, running_site
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


@dataclass(frozen=True)
class PluginSite:
    """A server for the plugin, with a study in each frame."""

    url: str
    studies: Path


@pytest.fixture(scope="module")
def plugin_site(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PluginSite]:
    """A server for all tests of a file."""
    folder = tmp_path_factory.mktemp("site")
    with running_site(folder, checkout) as url:
        yield PluginSite(url, folder / "studies")


@pytest.fixture
def plugin(slicer_python: Path, plugin_site: PluginSite, tmp_path: Path) -> Iterator[Plugin]:
    """The plugin of a reader of this test alone."""
    with running_plugin(slicer_python, plugin_site.url, tmp_path, tmp_path.name) as started:
        yield started
