"""OHIF 3.13 with our SR and SEG: what a reader sees, drags and renames becomes a reading."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ohif_pages import (
    axis_ends_on_screen,
    coloured_pixels,
    create_sr,
    drag,
    export_seg,
    open_measurements,
    open_panel,
    open_result,
    open_seg_in_panel,
    open_study,
    paint,
    rename_first,
    run_auto_segmentation,
)

Screenshot = Callable[[str], Path]


def test_a_handle_is_dragged_and_the_class_renamed_and_both_are_a_reading(
    pacs_site: Any, page: Any, screenshot: Screenshot
) -> None:
    stored = pacs_site.click("ROUND-TRIP")
    assert [one["kind"] for one in stored] == ["SEG", "SR"]
    (told,) = stored[1]["nodules"]
    open_study(page, pacs_site.ohif, pacs_site.study("ROUND-TRIP"))
    open_result(page, "SR")
    page.get_by_text(told["label"]).first.wait_for()
    finding = told["finding"]["size"]
    assert page.get_by_text(f"L: {finding['long_axis_mm']:.1f} mm").count() >= 1
    assert page.get_by_text(f"W: {finding['short_axis_mm']:.1f} mm").count() >= 1
    screenshot("ohif-sr")

    start = axis_ends_on_screen(page)[0]
    drag(page, start, (start[0] + 28, start[1] - 36))
    open_measurements(page)
    rename_first(page, "malignant 4/5")
    screenshot("ohif-renamed")
    shown = re.search(r"L: ([0-9.]+) mm", page.locator("body").inner_text())
    assert shown is not None
    create_sr(page)

    (read,) = pacs_site.read_back("ROUND-TRIP")
    (reading,) = read["readings"]
    assert read["not_understood"] == []
    assert reading["source"] == "dicom_sr"
    assert reading["reader"] == "unknown (OHIF)", "OHIF names nobody"
    assert reading["class"] == "malignant"
    assert reading["malignancy"] == 4
    assert reading["size"]["long_axis_mm"] == pytest.approx(float(shown[1]), abs=0.06)
    assert reading["size"]["long_axis_mm"] > finding["long_axis_mm"] + 2
    assert reading["size"]["short_axis_mm"] == pytest.approx(finding["short_axis_mm"], abs=0.1)
    (outcome,) = read["outcomes"]
    assert outcome == {
        "tracking_uid": told["tracking_uid"],
        "outcome": "modified",
        "reading": reading["id"],
    }
    kept = pacs_site.ask(f"/resmtnet/readings?image={pacs_site.image('ROUND-TRIP')}")["readings"]
    assert [one["id"] for one in kept] == [reading["id"]]
    assert kept[0]["answered"]["finding"]["tracking_uid"] == told["tracking_uid"]
    assert pacs_site.read_back("ROUND-TRIP") == []

    again = pacs_site.click("ROUND-TRIP")
    assert again[3]["nodules"][0]["tracking_uid"] == told["tracking_uid"]
    assert again[3]["series_uid"] != stored[1]["series_uid"]  # the reader's SR stays in sight


def test_our_seg_is_drawn_where_the_nodule_lies(
    pacs_site: Any, page: Any, screenshot: Screenshot
) -> None:
    pacs_site.click("SEGMENT")
    open_study(page, pacs_site.ohif, pacs_site.study("SEGMENT"))
    before = coloured_pixels(page)
    open_result(page, "SEG")
    page.wait_for_timeout(4_000)
    screenshot("ohif-seg")
    after = coloured_pixels(page)
    assert len(before) < 50
    assert len(after) > 200
    middle = np.median(after, axis=0)
    box = page.locator(".cornerstone-canvas").first.bounding_box()
    centre = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    assert np.abs(middle - centre).max() < 12  # the phantom's nodule is at its centre


def test_a_segmentation_that_was_edited_and_renamed_and_exported_is_a_reading(
    pacs_site: Any, page: Any, screenshot: Screenshot
) -> None:
    stored = pacs_site.click("EDITED")
    (told,) = stored[1]["nodules"]
    open_study(page, pacs_site.ohif, pacs_site.study("EDITED"), mode="segmentation")
    open_result(page, "SEG")
    rename_first(page, "N1 benign")
    paint(page, (8.0, 0.0))
    screenshot("ohif-edited-seg")
    export_seg(page)
    (read,) = pacs_site.read_back("EDITED")
    (reading,) = read["readings"]
    assert read["not_understood"] == []
    assert (reading["source"], reading["class"]) == ("dicom_seg", "benign")
    assert reading["size"]["volume_mm3"] > told["finding"]["size"]["volume_mm3"]
    (outcome,) = read["outcomes"]
    assert (outcome["tracking_uid"], outcome["outcome"]) == (told["tracking_uid"], "modified")


def test_the_panel_of_a_study_with_our_results_asks_for_the_ct_and_is_answered(
    pacs_site: Any, page: Any, screenshot: Screenshot
) -> None:
    """A SEG before the CT once made the panel ask for the SEG."""
    pacs_site.click("PANEL")
    open_panel(page, pacs_site.server, pacs_site.study("PANEL"))
    reply = run_auto_segmentation(page)
    assert reply.status == 200
    assert f"image={pacs_site.image('PANEL')}" in reply.url
    page.wait_for_timeout(5_000)
    screenshot("ohif-panel")
    assert len(coloured_pixels(page)) > 100


def test_ohif_3_10_shows_our_seg_too(pacs_site: Any, page: Any, screenshot: Screenshot) -> None:
    pacs_site.click("SEGMENT-3.10")
    page.goto(
        f"{pacs_site.server}/ohif/monai-label?StudyInstanceUIDs={pacs_site.study('SEGMENT-3.10')}"
    )
    page.wait_for_selector(".cornerstone-canvas")
    page.get_by_text("Confirm and Hide").first.click()
    page.wait_for_timeout(4_000)
    before = len(coloured_pixels(page))
    open_seg_in_panel(page)
    screenshot("ohif-3.10-seg")
    assert before < 50
    assert len(coloured_pixels(page)) > 100
