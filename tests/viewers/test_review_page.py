"""The review page in Chromium: what a reader does at a case, by its effect in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resmtnet.page.niivue import niivue_file
from resmtnet.server.launch import ServerOptions, free_port, running_server
from review_site import CENTRE, SECOND, ReviewSite, write_studies

DRAWN = "() => window.resmtnetViewer && window.resmtnetViewer.spec && !window.resmtnetViewer.state"
SAVED = ".save-status.is-saved, .save-status.is-error"
MARKUP = '<img src=x onerror="window.hacked = 1"><b>bold</b>'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewSite]:
    """The real server over synthetic studies."""
    if not niivue_file().is_file():
        pytest.skip("no NiiVue: python -m resmtnet.page.niivue")
    folder = tmp_path_factory.mktemp("review")
    phantom = write_studies(folder / "studies")
    conf = {"readings": str(folder / "site" / "readings.sqlite"), "context": "screening_baseline"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(folder / "cache"))
        options = ServerOptions(str(folder / "studies"), port=free_port(), conf=conf)
        with running_server(options, timeout_s=400.0) as url:
            yield ReviewSite(url, phantom, folder / "site" / "readings.sqlite")


@pytest.fixture
def visit(browser: Any, site: ReviewSite) -> Iterator[Callable[..., Any]]:
    """Opens a case as a reader, in a browser that reaches this machine alone."""
    opened: list[Any] = []
    errors: list[str] = []
    elsewhere: list[str] = []

    def open_case(image: str, reader: str = "Ann", query: str = "", draws: bool = True) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_cookies(
            [{"name": "resmtnet-reader", "value": reader, "url": f"{site.url}/resmtnet"}]
        )
        opened.append(context)

        def check(route: Any) -> None:
            if route.request.url.startswith((site.url, "data:", "blob:")):
                route.continue_()
            else:
                elsewhere.append(route.request.url)
                route.abort()

        context.route("**/*", check)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(site.case(image, query), wait_until="commit")
        if draws:
            page.wait_for_function(DRAWN)
        return page

    yield open_case
    for context in opened:
        context.close()
    assert errors == []
    assert elsewhere == []


def save(page: Any, button: str = "Save") -> str:
    """Press a button that saves; returns what the page says then."""
    page.wait_for_timeout(1100)  # the page tells when it has saved, to the second
    before = page.inner_text(".save-status")
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_function(
        "before => { const it = document.querySelector('.save-status');"
        " return it.innerText !== before && !it.classList.contains('is-busy'); }",
        arg=before,
    )
    told: str = page.inner_text(".save-status")
    assert told.startswith(("Saved", "Undone")), told
    return told


def test_a_correction_is_in_the_database_with_the_answer_that_it_corrects(
    site: ReviewSite, visit: Any, keep: Any
) -> None:
    site.answer("correct", CENTRE, SECOND)
    page = visit("correct", query=f"?at={','.join(str(x) for x in CENTRE)}")
    panel = page.inner_text(".case-panel")
    for told in ("of 5", "90%", "Long axis", "Volume", "Is a nodule", "Lung-RADS", "Texture"):
        assert told in panel
    keep(page, "review-case")
    page.get_by_role("button", name="Benign", exact=True).click()
    page.get_by_role("button", name="2", exact=True).last.click()
    page.get_by_text("Texture and other characteristics").click()
    page.get_by_label("Spiculation").click()
    page.get_by_role("option", name="1 none").click()
    page.get_by_label("Comment").fill("seen before")
    page.wait_for_timeout(800)
    save(page)
    (said,) = site.said("correct")
    assert (said["class"], said["malignancy"], said["source"]) == ("benign", 2, "review")
    assert said["characteristics"] == {"spiculation": 1}
    assert said["comment"] == "seen before"
    assert said["answered"]["seen"] is True
    assert said["acceptance"] == "single"


def test_accept_then_not_a_nodule_then_undo_each_add_readings_and_delete_none(
    site: ReviewSite, visit: Any
) -> None:
    site.answer("accept")
    page = visit("accept")
    model = site.answer("accept")["nodules"][0]["class"]["name"]
    save(page, "Accept")
    assert [one["class"] for one in site.said("accept")] == [model]
    save(page, "Not a nodule")
    (standing,) = site.said("accept", every=False)
    assert standing["class"] == "not_a_nodule"
    assert "you: not a nodule" in page.inner_text(".nodules")
    save(page, "Undo")
    (standing,) = site.said("accept", every=False)
    assert standing["class"] == model
    save(page, "Undo")
    (standing,) = site.said("accept", every=False)
    assert standing["excluded"]
    assert len(site.said("accept")) == 5
    assert page.get_by_role("button", name="Undo", exact=True).is_disabled()


def test_a_dragged_axis_is_a_size_of_the_reader(site: ReviewSite, visit: Any) -> None:
    size = site.answer("axes")["nodules"][0]["size"]
    page = visit("axes")
    box = page.locator('[data-end="long-1"]').bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    other = page.locator('[data-end="long-0"]').bounding_box()
    dx, dy = x - other["x"] - other["width"] / 2, y - other["y"] - other["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx / 2, y + dy / 2, steps=3)
    page.mouse.up()
    page.wait_for_function("document.querySelector('.form-size').innerText.includes('Axes')")
    save(page)
    (said,) = site.said("axes")
    grown = said["size"]["long_axis_mm"] / size["long_axis_mm"]
    assert 1.4 < grown < 1.6
    assert abs(said["size"]["short_axis_mm"] - size["short_axis_mm"]) < 0.2


def test_a_mask_that_is_made_larger_and_painted_is_kept_and_measured(
    site: ReviewSite, visit: Any
) -> None:
    volume = site.answer("brush")["nodules"][0]["size"]["volume_mm3"]
    page = visit("brush")
    page.get_by_role("button", name="Mask larger").click()
    page.wait_for_function("document.querySelector('.form-size').innerText.includes('Mask')")
    save(page)
    (larger,) = site.said("brush")
    assert larger["mask"] is not None
    assert larger["size"]["volume_mm3"] > 1.1 * volume
    page.get_by_role("button", name="Eraser").click()
    box = page.locator(".viewer-canvas").bounding_box()
    x, y = box["x"] + 0.32 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(x - 8, y)
    page.mouse.down()
    page.mouse.move(x + 8, y, steps=4)
    page.mouse.up()
    page.wait_for_function("document.querySelector('.form-size').innerText.includes('Mask')")
    page.keyboard.press("Escape")
    save(page)
    smaller = site.said("brush")[-1]
    assert 0 < smaller["size"]["volume_mm3"] < larger["size"]["volume_mm3"]
    assert smaller["mask"]["sha256"] != larger["mask"]["sha256"]


def volume_of(said: Any) -> float:
    """Volume of a reading's mask as it was measured, mm³."""
    return float(said["size"]["volume_mm3"])


def pull(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press the mouse at one point of the page and let it go at another."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=6)
    page.mouse.up()
    page.wait_for_function("document.querySelector('.form-size').innerText.includes('Mask')")


def test_brush_smaller_and_the_undo_of_a_stroke_change_the_stored_mask(
    site: ReviewSite, visit: Any
) -> None:
    volume = site.answer("paint")["nodules"][0]["size"]["volume_mm3"]
    page = visit("paint")
    page.get_by_role("button", name="Brush").click()
    box = page.locator(".viewer-canvas").bounding_box()
    x, y = box["x"] + 0.32 * box["width"], box["y"] + 0.5 * box["height"]
    pull(page, (x, y), (x + 70, y))
    page.keyboard.press("Escape")
    save(page)
    (painted,) = site.said("paint")
    assert volume_of(painted) > volume + 5
    assert painted["size"]["long_axis_mm"] > 12
    page.get_by_role("button", name="Mask smaller").click()
    page.wait_for_function("document.querySelector('.form-size').innerText.includes('Mask')")
    save(page)
    smaller = site.said("paint")[-1]
    assert 0 < volume_of(smaller) < 0.9 * volume_of(painted)
    page.get_by_role("button", name="Mask smaller").click()
    page.get_by_role("button", name="Undo the last stroke").click()
    page.wait_for_timeout(500)
    save(page)
    again = site.said("paint")[-1]
    assert volume_of(again) == volume_of(smaller)
    assert len({one["mask"]["sha256"] for one in (painted, smaller, again)}) == 2


def test_of_two_nodules_asked_for_quickly_the_later_keeps_its_own_mask(
    site: ReviewSite, visit: Any
) -> None:
    site.answer("quick", CENTRE, SECOND)
    page = visit("quick")
    shown = (
        "() => { const { spec, nv } = window.resmtnetViewer; return [spec.key,"
        " nv.drawBitmap.reduce((drawn, voxel) => drawn + (voxel > 0), 0)]; }"
    )
    first = page.evaluate(shown)
    assert first[1] > 0
    held: list[Any] = []

    def hold_the_first(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/images/mask?*", hold_the_first)
    page.keyboard.press("j")
    for _ in range(100):
        if held:
            break
        page.wait_for_timeout(50)
    page.keyboard.press("k")
    page.wait_for_timeout(1500)  # the first nodule is back, while the other's mask still waits
    held[0].continue_()
    page.wait_for_timeout(1500)
    assert page.evaluate(shown) == first


def test_a_nodule_is_added_by_a_click_and_answered_at_once(site: ReviewSite, visit: Any) -> None:
    site.answer("click")
    page = visit("click")
    page.get_by_role("button", name="Add a nodule").click()
    there = page.evaluate(
        "([x, y, z]) => { const v = window.resmtnetViewer; v.goTo([-x, -y, z]);"
        " return v.project([-x, -y, z], 0); }",
        list(SECOND),
    )
    box = page.locator(".viewer-canvas").bounding_box()
    page.mouse.click(box["x"] + there[0], box["y"] + there[1])
    page.wait_for_function("document.querySelectorAll('.nodule').length === 2")
    page.keyboard.press("5")
    save(page)
    (said,) = site.said("click")
    assert said["malignancy"] == 5
    assert sum(abs(a - b) for a, b in zip(said["centre_lps_mm"], SECOND, strict=True)) < 6


def test_accept_all_is_a_bulk_reading(site: ReviewSite, visit: Any) -> None:
    site.answer("bulk", CENTRE, SECOND)
    page = visit("bulk")
    page.get_by_role("button", name="Accept all").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Accept all").click()
    page.wait_for_selector(SAVED)
    assert {one["acceptance"] for one in site.said("bulk")} == {"bulk"}
    assert len(site.said("bulk")) == 2


def test_what_a_reader_typed_is_shown_as_text_and_never_as_markup(
    site: ReviewSite, visit: Any
) -> None:
    site.answer("markup")
    reading = {
        "image": "markup",
        "reader": MARKUP,
        "centre_lps_mm": list(CENTRE),
        "class": "benign",
        "comment": MARKUP,
    }
    site.ask("/resmtnet/readings", reading)
    page = visit("markup")
    page.wait_for_selector(".readings")
    assert MARKUP in page.inner_text(".readings")
    assert MARKUP in page.inner_text(".nodules")
    page.get_by_label("Comment").fill(MARKUP)
    page.keyboard.press("Tab")
    save(page)
    assert site.said("markup")[-1]["comment"] == MARKUP
    assert page.locator(".case-panel img, .case-panel b:not(.scale-point)").count() == 0
    assert page.evaluate("window.hacked") is None


def test_two_readers_see_what_the_other_has_said_without_reloading(
    site: ReviewSite, visit: Any
) -> None:
    site.answer("two")
    ann, ben = visit("two", "Ann"), visit("two", "Ben")
    save(ann, "Accept")
    ben.wait_for_function("document.querySelector('.nodules').innerText.includes('read by Ann')")
    save(ben, "Not a nodule")
    ann.wait_for_function("document.querySelector('.readings').innerText.includes('Ben')")


def test_windows_overlays_extent_and_keys_change_what_is_drawn(
    site: ReviewSite, visit: Any
) -> None:
    site.answer("keys", CENTRE, SECOND)
    page = visit("keys", query=f"?at={','.join(str(x) for x in SECOND)}")
    chosen = page.inner_text(".nodule.is-chosen .nodule-name")
    ranges = []
    for name in ("Soft tissue", "Ground glass", "Lung"):
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_timeout(500)
        ranges.append(page.evaluate("[...window.resmtnetViewer.range]"))
    assert ranges == [[-160, 240], [-1050, -450], [-1350, 150]]
    assert page.locator(".contour").count() == 3
    assert page.locator(".axis").count() == 2
    page.locator(".viewer-canvas").focus()
    page.keyboard.press("c")
    page.keyboard.press("v")
    page.wait_for_function(
        "!document.querySelector('.contour') && !document.querySelector('.axis')"
    )
    page.keyboard.press("z")
    page.wait_for_function("window.resmtnetViewer.spec.key === 'whole'")
    assert page.evaluate("window.resmtnetViewer.nv.volumes[0].dimsRAS[1]") < 120
    page.keyboard.press("j")
    page.wait_for_function("window.resmtnetViewer.spec.key !== 'whole'")
    assert page.inner_text(".nodule.is-chosen .nodule-name") != chosen
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(1000)
    before = page.evaluate("window.resmtnetViewer.nv.scene.crosshairPos[2]")
    box = page.locator(".viewer-canvas").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 300)
    page.mouse.wheel(0, -100)
    page.wait_for_function("z => window.resmtnetViewer.nv.scene.crosshairPos[2] > z", arg=before)
    page.keyboard.press("?")
    assert "not a nodule" in page.get_by_role("dialog").inner_text()


def test_a_dicom_series_is_searched_when_it_is_opened_and_candidates_are_unconfirmed(
    site: ReviewSite, visit: Any
) -> None:
    page = visit(site.series)
    page.wait_for_selector(".nodule")
    assert "candidate, unconfirmed" in page.inner_text(".nodules")
    assert "confirmed by nobody" in page.inner_text(".details")
    save(page, "Accept")
    (said,) = site.said(site.series)
    assert said["answered"]["finding"]["source"] == "candidate"
    assert "candidate, unconfirmed" not in page.inner_text(".nodule.is-chosen")


def test_a_blinded_reader_sees_the_answer_only_after_their_own_word(
    site: ReviewSite, visit: Any
) -> None:
    site.answer("undo")
    # what was open before has been seen, be it a case or a score in the worklist
    page = visit("no-such-study", "Cleo", draws=False)
    page.get_by_text("Blinded", exact=True).click()
    page.wait_for_selector('[role="switch"][aria-checked="true"]')
    page.goto(site.case("undo"))
    page.wait_for_function("document.querySelector('.list-head')?.innerText.includes('0 nodules')")
    page.wait_for_function(DRAWN)
    page.get_by_role("button", name="Add a nodule").click()
    there = page.evaluate(
        "([x, y, z]) => { const v = window.resmtnetViewer; v.goTo([-x, -y, z]);"
        " return v.project([-x, -y, z], 0); }",
        list(CENTRE),
    )
    box = page.locator(".viewer-canvas").bounding_box()
    page.mouse.click(box["x"] + there[0], box["y"] + there[1])
    page.wait_for_function("document.querySelectorAll('.nodule').length === 1")
    assert "Answer hidden" in page.inner_text(".nodules")
    assert "of 5" not in page.inner_text(".panel-scroll")
    page.keyboard.press("2")
    save(page)
    page.wait_for_function("document.querySelector('.nodules').innerText.includes('of 5')")
    (said,) = site.said("undo", "Cleo")
    assert said["malignancy"] == 2
    assert said["answered"]["seen"] is False


def test_an_unknown_study_is_told_in_plain_words(visit: Any) -> None:
    page = visit("no-such-study", draws=False)
    page.wait_for_selector(".notice-error")
    assert "cannot be opened" in page.inner_text(".notice-error")
