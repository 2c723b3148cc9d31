"""The review page on a real CT, LIDC-IDRI-0001, in Chromium: look, correct, save."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from page_site import PageSite
from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom
from resmtnet.page.niivue import niivue_file
from resmtnet.server.launch import ServerOptions, free_port, running_server

NODULE_LPS_MM = (56.2, 86.2, -115.9)
"""Of 32.8 mm, a mass that four readers rated 5, 5, 5 and 4."""
DRAWN = "() => window.resmtnetViewer && window.resmtnetViewer.spec && !window.resmtnetViewer.state"

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def image(real_ct: Path) -> str:
    return CTVolume.open(real_ct).image_id


@pytest.fixture(scope="module")
def site(
    real_ct: Path, phantom: Phantom, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageSite]:
    """The series in a folder of its own, by links."""
    if not niivue_file().is_file():
        pytest.skip("no NiiVue: python -m resmtnet.page.niivue")
    folder = tmp_path_factory.mktemp("real")
    series = folder / "studies" / "LIDC-IDRI-0001"
    series.mkdir(parents=True)
    for file in real_ct.iterdir():
        os.link(file, series / file.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(folder / "cache"))
        options = ServerOptions(str(folder / "studies"), port=free_port())
        with running_server(options, timeout_s=400.0) as url:
            yield PageSite(url, folder / "studies", phantom)


def test_a_mass_is_found_looked_at_corrected_and_kept(
    browser: Any, site: PageSite, image: str, keep: Any
) -> None:
    with site.opened(browser, "Ann") as page:
        page.set_default_timeout(300_000)
        page.goto(f"{site.url}/resmtnet/case/{image}")
        page.wait_for_selector(".nodule")  # of the search, which begins by itself
        page.goto(f"{site.url}/resmtnet/case/{image}?at={','.join(map(str, NODULE_LPS_MM))}")
        page.wait_for_function(DRAWN)
        page.wait_for_timeout(1000)
        keep(page, "review-real-ct")
        assert "candidate, unconfirmed" in page.inner_text(".nodule.is-chosen")
        drawn = page.evaluate("[...window.resmtnetViewer.nv.volumes[0].dimsRAS]")
        assert max(drawn[1:]) <= 160
        assert page.evaluate("window.resmtnetViewer.nv.drawBitmap.some(value => value > 0)")
        page.locator(".viewer-canvas").focus()
        page.keyboard.press("z")
        page.wait_for_function("window.resmtnetViewer.spec.key === 'whole'")
        page.wait_for_function(DRAWN)
        keep(page, "review-real-ct-whole")
        page.keyboard.press("z")
        page.wait_for_function("window.resmtnetViewer.spec.key !== 'whole'")
        page.wait_for_function(DRAWN)
        page.keyboard.press("5")
        page.keyboard.press("+")
        page.wait_for_function("document.querySelector('.form-size').innerText.includes('Mask')")
        page.locator(".save").click()
        page.locator(".save-status.is-saved").wait_for()
    (said,) = site.said(image)
    assert (said.class_name, said.malignancy) == ("malignant", 5)
    assert said.mask is not None
    assert said.answered is not None
    assert said.centre_lps_mm is not None
    assert math.dist(said.centre_lps_mm, NODULE_LPS_MM) < 12
    assert 25 < said.sizes["long_axis_mm"] < 45
