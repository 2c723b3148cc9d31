"""Worklist and learning on the review page, in Chromium that reaches no other machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from page_site import QUICK, PageSite, kill_server, write_studies
from phantom_readings import patients, points_lps_mm, read
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import write_nifti
from resmtnet.server.launch import ServerOptions, free_port, running_server

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def server_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path_factory.mktemp("sessions")))
        yield


@pytest.fixture(scope="module")
def site(
    server_folders: None, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageSite]:
    """Four studies; each test leaves those of the others as they are, or expects what they left."""
    studies = tmp_path_factory.mktemp("site") / "studies"
    write_studies(phantom, studies)
    options = ServerOptions(str(studies), port=free_port(), conf=QUICK)
    with running_server(options, timeout_s=300.0) as url:
        yield PageSite(url, studies, phantom)


def open_worklist(page: Any, site: PageSite) -> None:
    page.goto(f"{site.url}/resmtnet/")
    page.wait_for_selector(".study-link")


def names(page: Any) -> list[str]:
    return [str(text) for text in page.locator(".study-link").all_inner_texts()]


def row(page: Any, name: str) -> Any:
    return page.locator("tr", has=page.locator(".study-link", has_text=re.compile(f"^{name}")))


def cells(page: Any, name: str) -> list[str]:
    """Wanted, study, status, read by, being read by, nodules, found, score, date."""
    return [str(text).strip() for text in row(page, name).locator("td").all_inner_texts()]


def pick(page: Any, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def wait_until(page: Any, holds: Any, timeout_s: float = 90.0) -> None:
    for _ in range(int(timeout_s * 4)):
        if holds():
            return
        page.wait_for_timeout(250)
    raise AssertionError(page.locator("body").inner_text())


def test_two_readers_see_at_once_what_the_other_reads(browser: Any, site: PageSite) -> None:
    with site.opened(browser, "Ann") as ann, site.opened(browser, "Bob") as bob:
        open_worklist(ann, site)
        assert set(names(ann)) == {"one.nii.gz", "two.nii.gz", "three.nii.gz", "patient/chest"}
        assert cells(ann, "one")[3:5] == ["", ""]
        bob.goto(f"{site.url}/resmtnet/case/one?at={','.join(map(str, site.centre))}")
        bob.wait_for_selector(".case-panel")
        wait_until(ann, lambda: cells(ann, "one")[4] == "Bob")
        site.say("one", "Bob", malignancy=5, **{"class": "malignant"})
        wait_until(ann, lambda: cells(ann, "one")[3] == "Bob")
        assert cells(ann, "one")[5] == "1"
        bob.goto(f"{site.url}/resmtnet/")
        # a page that is left is given a minute to come back, as after a lost connection
        wait_until(ann, lambda: cells(ann, "one")[4] == "", timeout_s=240.0)


def test_every_link_button_and_key_leads_where_it_says(browser: Any, site: PageSite) -> None:
    page = browser.new_page()
    page.context.add_cookies(
        [{"name": "resmtnet-reader", "value": "Walker", "url": f"{site.url}/resmtnet"}]
    )
    open_worklist(page, site)
    root = f"{site.url}/resmtnet/"

    def leads_to(go: Any, address: str | re.Pattern[str], shown: str) -> None:
        go()
        page.wait_for_url(address)
        page.wait_for_selector(shown)

    views, learn, listed = page.get_by_role("navigation"), f"{root}learn", ".study-link"
    leads_to(views.get_by_text("Learn").click, learn, "text=Versions")
    leads_to(views.get_by_text("Worklist").click, root, listed)
    leads_to(lambda: page.keyboard.type("gl"), learn, "text=Versions")
    leads_to(lambda: page.keyboard.type("gw"), root, listed)
    leads_to(views.get_by_text("Learn").click, learn, "text=Versions")
    leads_to(page.locator("a.brand").click, root, listed)
    following = page.get_by_role("button", name="Next study")
    leads_to(following.click, f"{root}case/*", "canvas")
    first = page.url
    leads_to(
        following.click, re.compile(f"^(?!{re.escape(first)}){re.escape(root)}case/"), "canvas"
    )
    leads_to(page.get_by_label("Back to the worklist").click, root, listed)
    page.close()


def test_what_a_reader_typed_is_shown_as_text(browser: Any, site: PageSite) -> None:
    site.say("three", MARKUP, malignancy=1)
    with site.opened(browser, "Ann") as page:
        open_worklist(page, site)
        wait_until(page, lambda: MARKUP in cells(page, "three")[3])
        assert page.locator("td img").count() == 0


def test_search_filter_order_and_keys(browser: Any, site: PageSite) -> None:
    site.say("one", "Bob", malignancy=5, **{"class": "malignant"})
    with site.opened(browser, "Ann") as page:
        open_worklist(page, site)
        pick(page, "Order", "By name")
        wait_until(page, lambda: names(page)[0] == "one.nii.gz")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        page.keyboard.type("chest")
        wait_until(page, lambda: names(page) == ["patient/chest"])
        assert "1 of 4 studies shown" in page.locator(".view-head").inner_text()
        page.get_by_label("Search").fill("nothing like it")
        page.wait_for_selector("text=No study fits")
        page.get_by_label("Search").fill("")
        pick(page, "Show", "Corrected")
        wait_until(page, lambda: "one.nii.gz" in names(page) and "two.nii.gz" not in names(page))
        pick(page, "Show", "Not read by me")
        wait_until(page, lambda: len(names(page)) == 4)
        page.reload()
        page.wait_for_selector(".study-link")
        kept = page.locator(".worklist-controls").inner_text()
        assert "By name" in kept
        assert "Not read by me" in kept
        wait_until(page, lambda: names(page)[0] == "one.nii.gz")
        page.locator("h1").click()
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("k")
        assert page.evaluate("document.activeElement.className") == "study-link"
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/case/one"))


def test_a_blinded_reader_is_shown_nothing_before_the_word_is_kept(
    browser: Any, site: PageSite
) -> None:
    site.say("two", "Bob", malignancy=5, comment="spiculated")
    with site.opened(browser, "Cleo") as page:
        open_worklist(page, site)
        page.get_by_text("Blinded", exact=True).click()
        page.wait_for_selector("text=You read blinded")
        page.wait_for_selector(".study-link")
        assert cells(page, "two")[5:8] == ["hidden", "hidden", "hidden"]
        assert {cells(page, name)[0] for name in ("one", "two", "three")} == {""}
        page.goto(f"{site.url}/resmtnet/case/two?at={','.join(map(str, site.centre))}")
        page.wait_for_selector(".case-panel")
        text = page.locator("main").inner_text()
        assert "spiculated" not in text
        assert "of 5" not in text
        page.goto(f"{site.url}/resmtnet/learn")
        page.wait_for_selector(".version")
        page.wait_for_selector("text=Studies that you have not ended are left out")


@pytest.fixture
def sixteen_read(site: PageSite) -> None:
    """Sixteen patients, each read by one reader; enough to learn habits, not weights."""
    write_nifti(site.phantom, site.studies / "phantom.nii.gz")
    points = [points_lps_mm(site.phantom, 1)[0]] * 16
    with site.store() as store:
        if not store.readings("of-S1"):
            read(store, points, patients(16))


def test_training_from_the_page_with_progress_and_a_verdict(
    browser: Any, site: PageSite, sixteen_read: None
) -> None:
    with site.opened(browser, "Ann") as page:
        page.goto(f"{site.url}/resmtnet/learn")
        train = page.locator(".learn-train")
        train.wait_for()
        wait_until(page, lambda: "disabled" not in (train.get_attribute("class") or ""))
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Epochs").fill("0")
        page.get_by_label("Epochs").press("Tab")
        train.click()
        page.wait_for_selector("text=epochs is 0")
        page.get_by_text("Back to the defaults").click()
        page.get_by_label("Epochs").fill("12")
        page.get_by_label("Epochs").press("Tab")
        page.wait_for_timeout(500)
        train.click()
        page.locator(".learn-stop").wait_for()
        wait_until(page, lambda: "so far" in page.locator(".learn-doing").inner_text())
        page.locator(".verdict").wait_for(timeout=300_000)
        told = page.locator("main").inner_text()
        assert "The last training" in told
        assert re.search("Published|Not published|Nothing", told)
        train.wait_for()


def test_a_version_is_served_again_from_the_page(browser: Any, site: PageSite) -> None:
    name = site.publish_again()
    assert site.versions().served().name == name
    with site.opened(browser, "Ann") as page:
        page.goto(f"{site.url}/resmtnet/learn")
        page.locator(".version").nth(1).wait_for()
        assert "answers now" in page.locator(".version").first.inner_text()
        page.locator(".version").last.locator(".version-serve").click()
        page.locator(".version-confirm").click()
        wait_until(page, lambda: "answers now" in page.locator(".version").last.inner_text())
    assert site.versions().served().name == "shipped"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("view", ["", "learn", "case/two"])
def test_axe_core_finds_nothing_serious(
    browser: Any, site: PageSite, view: str, dark: bool
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    ready = {"": ".study-link", "learn": ".version", "case/two": ".case-panel"}[view]
    with site.opened(browser, "Ann", dark=dark) as page:
        page.goto(f"{site.url}/resmtnet/{view}")
        page.wait_for_selector(ready)
        page.wait_for_timeout(2000)
        found = axe.run(page).response["violations"]
    grave = [
        (one["id"], one["help"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert grave == []


def test_what_was_acknowledged_survives_a_killed_server_and_what_was_not_is_said(
    browser: Any, server_folders: None, phantom: Phantom, tmp_path: Path
) -> None:
    studies = tmp_path / "studies"
    write_nifti(phantom, studies / "one.nii.gz")
    options = ServerOptions(str(studies), port=free_port(), conf=QUICK)
    with running_server(options, timeout_s=300.0) as url:
        site = PageSite(url, studies, phantom)
        site.say("one", "Bob", malignancy=2)
        with site.opened(browser, "Ann") as page:
            page.goto(f"{url}/resmtnet/case/one?at={','.join(map(str, site.centre))}")
            page.locator(".nodule").first.wait_for()
            page.locator("h1").click()
            page.keyboard.press("4")
            page.locator(".save:has-text('Save')").click()
            page.locator(".save-status.is-saved").wait_for()
            page.keyboard.press("1")
            page.wait_for_timeout(1500)
            kill_server(url)
            page.locator(".save").click()
            page.locator("#popup").wait_for(state="visible")
            with running_server(options, timeout_s=300.0):
                page.locator(".save-status.is-error").wait_for(timeout=120_000)
                assert "not saved" in page.locator(".save-status").inner_text()
    ratings = [one.malignancy for one in site.said("one") if one.reader == "Ann"]
    assert ratings == [4]


def test_an_empty_folder_says_what_to_do(
    browser: Any, server_folders: None, phantom: Phantom, tmp_path: Path
) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    options = ServerOptions(str(studies), port=free_port(), conf=QUICK)
    with running_server(options, timeout_s=300.0) as url:
        site = PageSite(url, studies, phantom)
        with site.opened(browser, "") as page:
            page.goto(f"{url}/resmtnet/")
            page.wait_for_selector("text=No studies yet")
            page.wait_for_selector("text=Who reads?")
            write_nifti(phantom, studies / "one.nii.gz")
            page.wait_for_selector(".study-link")
