"""The ten steps of docs/page.md, done as they are written by somebody who is new, and recorded."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from page_site import QUICK, PageSite
from pages import DOCS
from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom, write_dicom_series
from resmtnet.page.niivue import niivue_file
from resmtnet.server.launch import ServerOptions, free_port, running_server

CENTRE = (-75.0, 0.0, 20.0)
SECOND = (-62.0, 14.0, 32.0)
READER = "Dr New"
DRAWN = "() => window.resmtnetViewer && window.resmtnetViewer.spec && !window.resmtnetViewer.state"
FRAME_MS = 1500
RECORDING = "review-first-steps.webp"


def steps() -> list[str]:
    """The numbered steps of the page."""
    text = (DOCS / "page.md").read_text("utf-8").partition("## First steps\n")[2]
    return re.split(r"^\d+\. ", text.partition("\n## ")[0], flags=re.MULTILINE)[1:]


def phantom(seed: int) -> Phantom:
    nodules = [
        NoduleSpec(10.0, "solid", centre_lps_mm=CENTRE),
        NoduleSpec(8.0, "solid", centre_lps_mm=SECOND),
    ]
    return make_phantom(seed, shape_kji=(64, 120, 120), nodules=nodules, centre_lps_mm=CENTRE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    """Three patients, of whom nothing is known."""
    if not niivue_file().is_file():
        pytest.skip("no NiiVue: python -m resmtnet.page.niivue")
    folder = tmp_path_factory.mktemp("first")
    first = phantom(3)
    for n, one in enumerate((first, phantom(4), phantom(5)), start=1):
        write_dicom_series(one, folder / "studies" / f"patient-{n}", f"PATIENT-{n}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(folder / "cache"))
        options = ServerOptions(str(folder / "studies"), port=free_port(), conf=QUICK)
        with running_server(options, timeout_s=400.0) as url:
            yield PageSite(url, folder / "studies", first)


class Newcomer:
    """Does each step with the mouse and the keys that it names."""

    def __init__(self, page: Any, site: PageSite) -> None:
        self.page, self.site = page, site

    def serve(self) -> None:
        self.page.goto(f"{self.site.url}/resmtnet/")
        self.page.wait_for_selector(".study-link")

    def give_name(self) -> None:
        self.page.get_by_role("button", name="Who reads?").click()
        self.page.get_by_label("Your name").fill(READER)
        self.page.get_by_role("button", name="Keep").click()
        self.page.wait_for_selector(f"text={READER}")

    def open_study(self) -> None:
        self.page.locator(".study-link").first.click()
        self.page.wait_for_selector(".nodule")
        self.page.wait_for_function(DRAWN)

    def go_to_candidate(self) -> None:
        self.page.locator(".nodule").first.click()
        self.page.keyboard.press("j")
        self.page.wait_for_function(DRAWN)

    def look(self) -> None:
        at = self._on_picture(0.2, 0.3)
        self.page.mouse.move(*at)
        before = self._viewer("[...v.nv.scene.crosshairPos]")
        self.page.mouse.wheel(0, 300)
        self.page.wait_for_function(
            "before => window.resmtnetViewer.nv.scene.crosshairPos[2] !== before[2]", arg=before
        )
        self.page.keyboard.down("Control")
        self.page.mouse.wheel(0, -300)
        self.page.keyboard.up("Control")
        self.page.wait_for_function("window.resmtnetViewer.nv.scene.pan2Dxyzmm[3] > 1")
        self.page.locator(".viewer-canvas").focus()
        self.page.keyboard.press("w")
        self.page.wait_for_function("window.resmtnetViewer.range[1] === 240")
        self.page.keyboard.press("z")
        self.page.wait_for_function("window.resmtnetViewer.spec.key === 'whole'")
        self.page.keyboard.press("z")
        self.page.wait_for_function("window.resmtnetViewer.spec.key !== 'whole'")
        self.page.wait_for_function(DRAWN)

    def accept_and_correct(self) -> None:
        self._save("Enter")
        self.page.keyboard.press("m")
        self.page.keyboard.press("4")
        self._save("Enter")

    def reject_and_add(self) -> None:
        self.page.keyboard.press("a")
        self.page.wait_for_selector("text=Click the nodule")
        count = self.page.locator(".nodule").count()
        self.page.mouse.click(*self._on_picture(0.2, 0.3))
        self.page.wait_for_function(f"document.querySelectorAll('.nodule').length > {count}")
        self.page.wait_for_function(DRAWN)
        self._save("x")

    def draw(self) -> None:
        self.page.locator(".nodule", has_text="malignant").first.click()
        self.page.wait_for_function(DRAWN)
        self.page.wait_for_timeout(1000)
        end = self.page.locator('[data-end="long-1"]').bounding_box()
        self._pull((end["x"] + 6, end["y"] + 6), (end["x"] + 26, end["y"] + 26), "Axes")
        self.page.locator(".viewer-canvas").focus()
        self.page.keyboard.press("p")
        self._pull(self._on_picture(0.32, 0.5), self._on_picture(0.36, 0.5), "Mask")
        self.page.keyboard.press("e")
        self._pull(self._on_picture(0.36, 0.5), self._on_picture(0.35, 0.5), "Mask")
        self.page.get_by_role("button", name="Mask larger").click()
        self.page.keyboard.press("Escape")
        self.page.locator(".viewer-canvas").focus()
        self._save("Enter")

    def undo(self) -> None:
        self._save("u")

    def go_on(self) -> None:
        here = self.page.url
        self.page.keyboard.press("]")
        self.page.wait_for_function("here => location.href !== here", arg=here)
        self.page.wait_for_selector(".case-panel")
        self.page.get_by_role("link", name="Learn").click()
        self.page.wait_for_selector("text=What to do next")

    def _viewer(self, told: str) -> Any:
        return self.page.evaluate(
            f"(() => {{ const v = window.resmtnetViewer; return {told}; }})()"
        )

    def _on_picture(self, right: float, down: float) -> tuple[float, float]:
        box = self.page.locator(".viewer-canvas").bounding_box()
        return box["x"] + right * box["width"], box["y"] + down * box["height"]

    def _pull(self, start: tuple[float, float], end: tuple[float, float], told: str) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=5)
        self.page.mouse.up()
        self.page.wait_for_function(
            f"document.querySelector('.form-size').innerText.includes('{told}')"
        )

    def _save(self, key: str) -> None:
        self.page.wait_for_timeout(1100)  # the page tells when it has saved, to the second
        before = self.page.inner_text(".save-status")
        self.page.keyboard.press(key)
        self.page.wait_for_function(
            "before => { const it = document.querySelector('.save-status');"
            " return it.innerText !== before && it.classList.contains('is-saved'); }",
            arg=before,
        )


def named(step: str) -> list[str]:
    """What a step calls by the name that it has on the page: the words in italics."""
    return re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", " ".join(step.split()))


def test_the_ten_steps_can_be_done_as_they_are_written(
    browser: Any, site: PageSite, screenshots: Path
) -> None:
    frames: list[Image.Image] = []
    with site.opened(browser, "") as page:
        page.set_default_timeout(90_000)
        new = Newcomer(page, site)
        acts: list[Callable[[], None]] = [
            *(new.serve, new.give_name, new.open_study, new.go_to_candidate, new.look),
            *(new.accept_and_correct, new.reject_and_add, new.draw, new.undo, new.go_on),
        ]
        told = steps()
        assert len(told) == len(acts)
        for number, (step, act) in enumerate(zip(told, acts, strict=True), start=1):
            before = page.locator("body").inner_text() if number > 1 else ""
            act()
            shown = f"{before} {page.locator('body').inner_text()}".lower()
            missing = [name for name in named(step) if name.lower() not in shown]
            assert missing == [], f"step {number} names what the page does not show"
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            picture.save(screenshots / f"review-first-steps-{number:02}.png")
            frames.append(picture)
    frames[0].save(
        screenshots / RECORDING, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0
    )
    with site.store() as store:
        said = [one for one in store.readings(every=True) if one.reader == READER]
    words = [(one.class_name, one.malignancy, one.excluded) for one in said]
    assert ("malignant", 4, False) in words
    assert ("not_a_nodule", None, False) in words
    assert any(one.mask is not None for one in said)
    assert any(one.excluded for one in said)
