"""In the MONAI Label plugin of 3D Slicer a click shows no class that the model did not say."""

from __future__ import annotations

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


@pytest.mark.parametrize("selected", SEGMENTS)
def test_with_freeze_only_the_selected_segment_changes(plugin: Plugin, selected: str) -> None:
    for name in SEGMENTS:
        plugin("close")
        plugin.open("lps")
        seen = plugin("click", ras=centre_ras("lps", name), label=selected, freeze=True)
        assert filled(seen) == ({name: VOXELS} if name == selected else {})


def test_a_click_wipes_neither_candidates_nor_edits_of_other_segments(plugin: Plugin) -> None:
    plugin.open("oblique")
    plugin("run", model="resmtnet")
    edited = plugin("paint", segment="benign", ras=centre_ras("oblique", "benign"), side=6)
    before = filled(edited)
    assert before["benign"] > VOXELS
    seen = plugin("click", ras=centre_ras("oblique", "malignant"), label="benign")
    assert filled(seen) == before
    (answer,) = seen["answers"]
    assert [(n["id"], n["class"]["name"], n["source"]) for n in answer["nodules"]] == [
        ("N2", "malignant", "point"),
        ("N1", "benign", "candidate"),
        ("N3", "indeterminate", "candidate"),
    ]
    assert answer["label_names"] == {"malignant": 1}


def test_what_is_submitted_as_it_was_drawn_is_no_reading(plugin: Plugin) -> None:
    plugin.open("ras")
    plugin("run", model="resmtnet")
    plugin("click", ras=centre_ras("ras", "malignant"), label="benign")
    (told,) = plugin("submit")["dialogs"]
    assert told["kind"] == "info"
    assert told["details"]["readings"] == []
    assert "nothing is recorded" in told["details"]["warnings"][0]


def test_on_a_pacs_only_the_neutral_segment_is_painted(
    slicer_python: Path, checkout: Path, tmp_path: Path
) -> None:
    with (
        running_site(tmp_path, checkout, as_for_pacs=True) as url,
        running_plugin(slicer_python, url, tmp_path, "ann") as plugin,
    ):
        for selected in (*SEGMENTS, "nodule"):
            for name in SEGMENTS:
                plugin("close")
                plugin.open("flipped")
                seen = plugin("click", ras=centre_ras("flipped", name), label=selected)
                assert seen["dialogs"] == []
                assert filled(seen) == {"nodule": VOXELS}
                assert seen["answers"][0]["label_names"] == {"nodule": 1}
