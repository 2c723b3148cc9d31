"""In the MONAI Label plugin of 3D Slicer a click shows no class that the model did not say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from plugin_process import (
    FRAMES,
    SEGMENTS,
    Plugin,
    centre_ras,
    filled,
    running_plugin,
    running_site,
)

pytestmark = pytest.mark.server

VOXELS = 75
"""Of each nodule."""


@pytest.fixture(scope="module")
def url(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_site(tmp_path_factory.mktemp("site"), checkout) as address:
        yield address


@pytest.fixture
def plugin(slicer_python: Path, url: str, tmp_path: Path) -> Iterator[Plugin]:
    with running_plugin(slicer_python, url, tmp_path, tmp_path.name) as started:
        yield started


@pytest.mark.parametrize("frame", FRAMES)
def test_whatever_segment_is_selected_the_class_of_the_model_is_drawn_at_its_place(
    plugin: Plugin, frame: str
) -> None:
    for selected in SEGMENTS:
        for name in SEGMENTS:
            plugin("close")
            plugin.open(frame)
            seen = plugin("click", ras=centre_ras(frame, name), label=selected)
            (answer,) = seen["answers"]
            said = {nodule["class"]["name"]: nodule for nodule in answer["nodules"]}
            assert seen["dialogs"] == []
            assert set(filled(seen)) <= set(said)
            assert filled(seen)[name] == VOXELS, (selected, name)
            place = np.array(said[name]["centroid_lps_mm"]) * [-1, -1, 1]
            assert seen["segments"][name]["ras"] == pytest.approx(place, abs=0.5)
            assert place == pytest.approx(centre_ras(frame, name), abs=0.5)
