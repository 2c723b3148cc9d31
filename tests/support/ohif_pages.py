"""What a reader does in OHIF: open a study and a result, drag, rename, store."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

Place = tuple[float, float]
_SETTLE_MS = 4_000


def open_study(page: Any, url: str, study_uid: str, mode: str = "viewer") -> None:
    """Open a study in a mode of OHIF, and end its tour."""
    page.goto(f"{url}/{mode}?StudyInstanceUIDs={study_uid}")
    page.wait_for_selector(".cornerstone-canvas")
    page.wait_for_timeout(_SETTLE_MS)
    tour = page.get_by_text("Skip all")
    if tour.count():
        tour.first.click()


def open_result(page: Any, modality: str) -> None:
    """Open the newest SEG or SR of the study from the list on the left."""
    rows = page.locator('[data-cy="study-browser-thumbnail-no-image"]')
    rows.filter(has_text=re.compile(rf"^\s*{modality}")).first.dblclick()
    page.wait_for_timeout(_SETTLE_MS)


def axis_ends_on_screen(page: Any) -> list[Place]:
    """Both ends of the first line of the measurement that is shown, in pixels of the page."""
    found = page.evaluate(
        """() => [...document.querySelectorAll('.viewport-element svg.svg-layer line')].map(l => {
            const box = l.ownerSVGElement.getBoundingClientRect();
            return ['x1', 'y1', 'x2', 'y2'].map((n, i) =>
                Number(l.getAttribute(n)) + (i % 2 ? box.top : box.left));
        })"""
    )
    x1, y1, x2, y2 = found[0]
    return [(x1, y1), (x2, y2)]


def drag(page: Any, start: Place, end: Place) -> None:
    """Drag a handle as a hand does, in small steps."""
    page.mouse.move(start[0] - 4, start[1] + 4)
    page.wait_for_timeout(300)
    page.mouse.move(*start)
    page.wait_for_timeout(500)
    page.mouse.down()
    for step in np.linspace(0, 1, 12):
        page.mouse.move(*(a + step * (b - a) for a, b in zip(start, end, strict=True)))
        page.wait_for_timeout(50)
    page.mouse.up()
    page.wait_for_timeout(1_000)


def open_measurements(page: Any) -> None:
    """Open the panel on the right that lists the measurements."""
    page.locator('[data-cy="trackedMeasurements-btn"]').click()


def rename_first(page: Any, label: str) -> None:
    """Rename the first measurement or segment in the panel on the right."""
    row = page.locator('[data-cy="data-row"]').first
    row.hover()
    row.locator('[data-cy="actionsMenuTrigger"]').click()
    page.locator("[role=menuitem]").filter(has_text="Rename").click()
    page.locator("[role=dialog] input").first.fill(label)
    page.locator("[role=dialog] button").filter(has_text="Save").click()
    page.get_by_text(label).first.wait_for()


def create_sr(page: Any) -> None:
    """Store the measurements as a new SR, and wait until the PACS has it."""
    page.get_by_text("Create SR").click()
    _save(page)


def paint(page: Any, offset: Place) -> None:
    """Paint one stroke of the brush, beginning so far from the middle of the image."""
    page.locator('[data-cy="Brush-btn"]').click()
    box = page.locator(".cornerstone-canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2 + offset[0], box["y"] + box["height"] / 2 + offset[1]
    drag(page, (x, y), (x + 12, y))


def export_seg(page: Any) -> None:
    """Store the segmentation as a new DICOM SEG, and wait until the PACS has it."""
    page.locator('[data-cy="segmentation-collapsed-more-btn-Labelmap"]').click()
    page.locator("[role=menuitem]").filter(has_text="Export").first.click()
    page.locator("[role=menuitem]").filter(has_text="DICOM SEG").first.click()
    _save(page)


def _save(page: Any) -> None:
    button = page.locator("[role=dialog] button").filter(has_text="Save")
    with page.expect_response(
        lambda reply: reply.request.method == "POST" and "/dicom-web/studies" in reply.url
    ) as stored:
        button.click()
    assert stored.value.ok


def coloured_pixels(page: Any) -> Any:
    """Places [N, 2] (x, y) of the pixels of all images that are no grey: what is drawn over them.

    The margins, where OHIF writes its texts and scroll bars, are left out.
    """
    from PIL import Image

    found = [np.zeros((0, 2))]
    for canvas in page.locator(".cornerstone-canvas").all():
        box = canvas.bounding_box()
        if box is None or box["width"] < 100:
            continue
        left, top = box["x"] + 25, box["y"] + 130
        size = {"width": box["width"] - 60, "height": box["height"] - 190}
        picture = Image.open(io.BytesIO(page.screenshot(clip={"x": left, "y": top, **size})))
        colours = np.asarray(picture.convert("RGB")).astype(int)
        rows, columns = np.nonzero(colours.max(2) - colours.min(2) > 40)
        found.append(np.stack([columns + left, rows + top], 1))
    return np.concatenate(found)


def open_panel(page: Any, server: str, study_uid: str) -> None:
    """Open a study in the OHIF that the server brings, and connect its MONAI Label panel."""
    page.goto(f"{server}/ohif/monai-label?StudyInstanceUIDs={study_uid}")
    page.wait_for_selector(".cornerstone-canvas")
    connect_panel(page, server)


def connect_panel(page: Any, server: str) -> None:
    """Press the round button beside the server's address, as the panel wants it first."""
    page.wait_for_timeout(_SETTLE_MS)
    notice = page.get_by_text("Confirm and Hide")
    if notice.count():
        notice.first.click()
    page.locator("input#monailabelServerURL").fill(server)
    with page.expect_response(lambda reply: "/info/" in reply.url):
        page.locator("button.actionButton").first.click()
    page.get_by_text("Auto-Segmentation").first.wait_for()


def run_auto_segmentation(page: Any) -> Any:
    """Press Run under Auto-Segmentation; returns the response of the server."""
    run = page.locator("button.actionButton").filter(has_text="Run").first
    if not run.is_visible():
        page.get_by_text("Auto-Segmentation").first.click()
    with page.expect_response(lambda reply: "/infer/" in reply.url, timeout=180_000) as answered:
        run.click()
    return answered.value


def open_seg_in_panel(page: Any) -> None:
    """Open our SEG in OHIF 3.10, which asks first."""
    open_result(page, "SEG")
    # A pane lies over the button, which a hand reaches and a click of playwright does not.
    page.get_by_role("button", name="Yes").first.dispatch_event("click")
    page.wait_for_timeout(2 * _SETTLE_MS)
