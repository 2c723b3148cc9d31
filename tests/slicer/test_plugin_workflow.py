"""A reader's whole day in the MONAI Label plugin: what is seen is what the JSON says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plugin_process import (
    FRAMES,
    RAS,
    SEGMENTS,
    Plugin,
    centre_ras,
    filled,
)

pytestmark = pytest.mark.server


def placed_boxes(seen: dict[str, Any]) -> list[dict[str, Any]]:
    return [box for box in seen["boxes"] if box["points"]]


def said(seen: dict[str, Any]) -> dict[str, Any]:
    """The nodules of the last answer, by name."""
    return {nodule["id"]: nodule for nodule in seen["answers"][-1]["nodules"]}


def ras(lps_mm: list[float]) -> Any:
    return pytest.approx((np.array(lps_mm) * RAS).tolist(), abs=0.5)


@pytest.mark.parametrize("frame", FRAMES)
def test_markups_say_what_the_json_says_at_its_places(plugin: Plugin, frame: str) -> None:
    plugin.open(frame)
    seen = plugin("run", model="resmtnet_findings")
    assert seen["dialogs"] == []
    (points,) = seen["points"]
    for entry, point, line, box in zip(
        said(seen).values(), points["points"], seen["lines"], placed_boxes(seen), strict=True
    ):
        words = f"{entry['id']} {entry['class']['name']}"
        for markup in (point, line["points"][0], box["points"][0]):
            assert markup["label"].startswith(words)
            low, high = entry["malignancy"]["interval_90"]
            assert f"score={entry['malignancy']['score']:.1f}" in markup["description"]
            assert f"{low:.1f} to {high:.1f}" in markup["description"]
        assert point["ras"] == ras(entry["centroid_lps_mm"])
        assert box["centre"] == ras(entry["centroid_lps_mm"])
        assert line["length"] == pytest.approx(entry["size"]["long_axis_mm"], abs=0.1)


def test_the_boxes_that_the_plugin_sends_carry_class_and_correction(plugin: Plugin) -> None:
    plugin.open("oblique")
    plugin("run", model="resmtnet_findings")
    (told,) = plugin("submit")["dialogs"]
    assert told["details"]["readings"] == []
    assert told["details"]["not_understood"] == []
    plugin("relabel", box=0, label="N1 malignant")
    plugin("relabel", box=2, label="N3 indeterminate accept")
    plugin("resize", box=0, size=[9.0, 9.0, 9.0])
    reply = plugin("submit")["dialogs"][-1]["details"]
    assert reply["understood"] == ["N1: malignant; mean diameter 9.0 mm", "N3: indeterminate"]
    assert reply["not_understood"] == []


def test_the_whole_workflow(plugin: Plugin) -> None:
    seen = plugin("connect")
    assert seen["models"] == {
        "segmentation": ["resmtnet", "resmtnet_findings"],
        "deepgrow": ["resmtnet_click"],
    }
    assert seen["bars"]["accuracy"]["value"] == 0, "nothing has been trained"
    done = int(seen["bars"]["activeLearning"]["tip"][0])

    seen = plugin("next", strategy="resmtnet_informative")
    frame = seen["sample"]["id"]
    assert frame in FRAMES
    assert seen["dialogs"] == []
    assert seen["labels"] == list(SEGMENTS)
    assert seen["volume"] == seen["sample"]["name"], "the CT is downloaded and shown"
    assert filled(seen) == {}

    seen = plugin("run", model="resmtnet")
    assert filled(seen) == dict.fromkeys(SEGMENTS, 75)
    for nodule in said(seen).values():
        assert seen["segments"][nodule["class"]["name"]]["ras"] == ras(nodule["centroid_lps_mm"])

    seen = plugin("click", ras=centre_ras(frame, "benign"), label="malignant")
    assert sorted(said(seen)) == ["N1", "N2", "N3"]
    assert [one["source"] for one in seen["answers"][0]["nodules"]] == [
        "point",
        "candidate",
        "candidate",
    ]
    assert filled(seen) == dict.fromkeys(SEGMENTS, 75)

    seen = plugin("run", model="resmtnet_findings")
    assert len(placed_boxes(seen)) == 3

    plugin("select", box="segmentationModelSelector", text="resmtnet")
    seen = plugin("paint", segment="indeterminate", ras=centre_ras(frame, "indeterminate"), side=5)
    assert filled(seen)["indeterminate"] > 75
    seen = plugin("rename", segment="malignant", to="benign 2")
    assert sorted(filled(seen)) == ["benign", "benign 2", "indeterminate"]
    reply = plugin("submit")
    told = reply["dialogs"][-1]
    assert told["kind"] == "info"
    understood = sorted(told["details"]["understood"])
    assert len(understood) == 2
    names = {one.split(": ")[1].split(";")[0] for one in understood}
    assert names == {"benign", "indeterminate"}
    assert any("mm3" in one for one in understood), "the edited one is measured"
    assert len(told["details"]["warnings"]) == 1, "the third is as the model answered"
    assert reply["bars"]["activeLearning"]["tip"] == f"{done + 1}/4 samples are labeled"
    assert reply["may_train"]

    (dialog,) = plugin("train")["dialogs"]
    assert dialog["kind"] == "error"
    assert "of 10 readings for a training" in dialog["text"]
    seen = plugin("see")
    assert not seen["trains"]
    assert seen["bars"]["accuracy"]["value"] == 0

    seen = plugin("next", strategy="random")
    assert seen["sample"]["id"] not in (None, frame)
    assert filled(seen) == {}
