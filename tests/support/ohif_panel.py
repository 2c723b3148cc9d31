"""What a reader does in the MONAI Label panel of OHIF 3.10: select a segment, click, run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.ndimage import center_of_mass, label

from ohif_pages import Place

_ROWS = "tr.clickable-row:visible"
_BRIGHT = 180
_LEAST_PIXELS = 30
_DRAWN = """() => {
    const service = window.services.segmentationService;
    const names = {};
    for (const one of Object.values(service.getSegmentations()))
        for (const [n, segment] of Object.entries(one.config?.segments || one.segments || {}))
            names[n] = segment.label;
    const voxels = service.getLabelmapVolume('1').voxelManager.getCompleteScalarDataArray();
    const drawn = {};
    for (const n of voxels)
        if (n) drawn[names[n] || `segment ${n}`] = (drawn[names[n] || `segment ${n}`] || 0) + 1;
    return drawn;
}"""


def open_point_prompts(page: Any) -> list[str]:
    """Open *Point Prompts*; returns the segments that it offers."""
    page.get_by_text("Point Prompts", exact=True).first.click()
    rows = _prompts(page).locator(_ROWS)
    rows.first.wait_for()
    return [text.strip() for text in rows.all_inner_texts()]


def _prompts(page: Any) -> Any:
    """The part *Point Prompts*; the one of *Auto-Segmentation* has a *Run* of its own."""
    return page.locator("div.tab").filter(has_text="Point Prompts")


def nodules_on_screen(page: Any) -> list[Place]:
    """Middle of each bright square in the axial view, from left to right, in pixels of the page."""
    from PIL import Image

    box = page.locator(".cornerstone-canvas").first.bounding_box()
    clip = {
        "x": box["x"],
        "y": box["y"] + 0.2 * box["height"],
        "width": box["width"],
        "height": 0.6 * box["height"],
    }
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    bright = np.asarray(picture).min(2) > _BRIGHT
    parts, count = label(bright)
    places = [
        center_of_mass(parts == n)
        for n in range(1, count + 1)
        if (parts == n).sum() > _LEAST_PIXELS
    ]
    return sorted((float(column + clip["x"]), float(row + clip["y"])) for row, column in places)


def select_segment(page: Any, name: str) -> None:
    """Select one of the segments under *Point Prompts*."""
    _prompts(page).locator(_ROWS).filter(has_text=name).first.click()
    page.wait_for_timeout(500)


def click_and_run(page: Any, place: Place) -> Any:
    """Place one point and press *Run*; returns the response of the server."""
    page.mouse.click(*place)
    page.wait_for_timeout(1_000)
    run = _prompts(page).locator("button.actionButton").filter(has_text="Run").first
    with page.expect_response(lambda reply: "/infer/" in reply.url, timeout=180_000) as answered:
        run.click()
    page.wait_for_timeout(2_500)
    return answered.value


def drawn_segments(page: Any) -> Mapping[str, int]:
    """Voxels that are drawn in each segment, by its name."""
    found: dict[str, int] = page.evaluate(_DRAWN)
    return found
