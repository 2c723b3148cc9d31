"""The MONAI Label panel of OHIF 3.10: real clicks, with each segment that it offers selected."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ohif_pages import coloured_pixels, connect_panel, open_panel, open_result, open_study
from ohif_panel import (
    click_and_run,
    drawn_segments,
    nodules_on_screen,
    open_point_prompts,
    select_segment,
)

Screenshot = Callable[[str], Path]
CLASSES = ("benign", "malignant", "indeterminate")
"""Of the nodules of the scripted site, from left to right."""
VOXELS = 75
"""Of each nodule."""


def test_the_study_list_offers_the_mode_with_the_panel(
    scripted_pacs: Any, page: Any, screenshot: Screenshot
) -> None:
    """The first steps of a new user: the study, the button of the mode, the round button."""
    page.goto(f"{scripted_pacs.server}/ohif/")
    page.get_by_text("CLICKED", exact=True).first.click()
    mode = page.get_by_role("button", name="MONAI Label")
    mode.wait_for()
    screenshot("ohif-modes")
    mode.click()
    page.wait_for_url("**/monai-label?StudyInstanceUIDs=*")
    page.wait_for_selector(".cornerstone-canvas")
    connect_panel(page, scripted_pacs.server)


def test_whatever_segment_is_selected_a_click_draws_no_class_and_the_sr_says_it(
    scripted_pacs: Any, page: Any, screenshot: Screenshot
) -> None:
    site, patient = scripted_pacs, "CLICKED"
    open_panel(page, site.server, site.study(patient))
    offered = open_point_prompts(page)
    assert "nodule" in offered
    assert not set(offered) & set(CLASSES), "a click paints whatever segment is selected"
    assert page.get_by_text("Submit").count() == 0, "docs/ohif.md says so"
    places = nodules_on_screen(page)
    assert len(places) == len(CLASSES)
    clicks = 0
    for segment in ["nodule", *(name for name in offered if name != "nodule")]:
        select_segment(page, segment)
        for n, place in enumerate(places, start=1):
            reply = click_and_run(page, place)
            assert reply.status == 200
            clicks += 1
            drawn = drawn_segments(page)
            assert not set(drawn) & set(CLASSES), (segment, n)
            if segment == "nodule":
                assert drawn == {"nodule": n * VOXELS}, "each run answers all points so far"
        screenshot(f"ohif-panel-click-{segment}")
    assert len(coloured_pixels(page)) > 100

    stored = site.wait_for_results(patient, 2 * clicks)
    told = sorted(stored[-1]["nodules"], key=lambda nodule: nodule["centre_lps_mm"])
    assert [one["finding"]["class"]["name"] for one in told] == list(CLASSES)
    assert [one["label"].split()[1] for one in told] == list(CLASSES)
    open_study(page, site.ohif, site.study(patient))
    open_result(page, "SR")
    for one in told:
        page.get_by_text(one["label"]).first.wait_for()
    screenshot("ohif-sr-three-classes")
    open_result(page, "SEG")
    screenshot("ohif-seg-three-classes")


def test_the_warning_beside_an_sr_is_of_the_mode_and_the_basic_viewer_shows_the_sr(
    scripted_pacs: Any, page: Any, screenshot: Screenshot
) -> None:
    """The mode *MONAI Label* handles CT and SEG only: it marks every SR as unsupported."""
    site, patient = scripted_pacs, "SR-3.10"
    site.click_at(patient, (32, 32, 20))
    mode = f"?StudyInstanceUIDs={site.study(patient)}"
    rows = page.locator('[data-cy="study-browser-thumbnail-no-image"]')
    marks = {}
    for name in ("monai-label", "viewer"):
        page.goto(f"{site.server}/ohif/{name}{mode}")
        page.wait_for_selector(".cornerstone-canvas")
        page.wait_for_timeout(4_000)
        notice = page.get_by_text("Confirm and Hide")
        if notice.count():
            notice.first.click()
        sr = rows.filter(has_text=re.compile(r"^\s*SR")).first
        marks[name] = sr.locator("title", has_text="status-warning").count()
    assert marks == {"monai-label": 1, "viewer": 0}
    open_result(page, "SR")
    page.get_by_text("LOAD", exact=True).first.wait_for()
    screenshot("ohif-3.10-sr")
    lines = page.locator(".viewport-element svg.svg-layer line")
    assert lines.count() >= 2, "both axes"
