"""Orthanc, the server, OHIF 3.13 and a browser: everything that a radiologist with a PACS has."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pacs_site import CHECKOUT, PacsSite, running_pacs_site
from pages import PAGES
from resmtnet.ct import Geometry
from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom
from scripted_model import made_ct, write_app

SCREENSHOTS = CHECKOUT / "build" / "screenshots"
"""CI keeps this folder."""
FOR_DOCS = os.environ.get("RESMTNET_SCREENSHOTS")
"""A folder for the pictures that the documentation shows; they are made anew if it is given."""
CENTRE = (-75.0, 0.0, 20.0)
PATIENTS = ("ROUND-TRIP", "SEGMENT", "EDITED", "PANEL", "SEGMENT-3.10")
"""One study for each test that changes what is in it."""
GRID = Geometry((64, 64, 40), (2.5, 2.5, 3.0), (-80.0, -80.0, -60.0), np.eye(3))
NODULES_IJK = {"benign": (14, 32, 20), "malignant": (32, 32, 20), "indeterminate": (50, 32, 20)}
"""From left to right on the screen."""
SCRIPTED_PATIENTS = ("CLICKED", "FIFTY", "SR-3.10")
FLAGS = (
    *("--no-sandbox", "--use-angle=swiftshader", "--use-gl=angle", "--enable-unsafe-swiftshader"),
    *("--ignore-gpu-blocklist", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
"""WebGL in software, and no network of the browser's own."""


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def pacs_site(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PacsSite]:
    """A site whose patients all have the phantom with one nodule; the shipped model answers."""
    nodules = [NoduleSpec(10.0, "solid", centre_lps_mm=CENTRE)]
    phantom = make_phantom(seed=3, shape_kji=(64, 160, 160), nodules=nodules, centre_lps_mm=CENTRE)
    with running_pacs_site(tmp_path_factory.mktemp("site"), phantom, PATIENTS) as site:
        yield site


@pytest.fixture(scope="session")
def scripted_pacs(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PacsSite]:
    """A site whose CTs show a nodule of each class in one slice, and whose model sees that."""
    folder = tmp_path_factory.mktemp("scripted")
    hu = np.ascontiguousarray(made_ct(GRID, NODULES_IJK).array(), np.int16)
    phantom = Phantom(hu, GRID, (), 0)
    app = write_app(folder / "app", CHECKOUT)
    with running_pacs_site(folder, phantom, SCRIPTED_PATIENTS, app) as site:
        yield site


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A headless browser with WebGL."""
    playwright = pytest.importorskip("playwright.sync_api", reason="make viewers installs it")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page; what it reports as an error fails the test. Its end is kept as a picture."""
    opened = browser.new_page(viewport={"width": 1400, "height": 850})
    opened.set_default_timeout(180_000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    kept = SCREENSHOTS / "last" / f"{request.node.name}.png"
    kept.parent.mkdir(parents=True, exist_ok=True)
    opened.screenshot(path=kept)
    opened.close()
    assert errors == []


@pytest.fixture
def screenshot(page: Any) -> Callable[[str], Path]:
    """Keeps a picture of the page, for the documentation and for whoever looks into a failure."""
    return lambda name: keep_picture(page, name)


def keep_picture(page: Any, name: str) -> Path:
    """Write what a page shows into the folder of the pictures."""
    from PIL import Image

    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(128)
    shown = any(f"screenshots/{name}.png" in text for text in PAGES.values())
    for folder in [SCREENSHOTS, *([Path(FOR_DOCS)] if FOR_DOCS and shown else [])]:
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{name}.png", optimize=True)
    return SCREENSHOTS / f"{name}.png"


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder of the pictures, which CI keeps."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS


@pytest.fixture(scope="session")
def keep() -> Callable[[Any, str], Path]:
    """Keeps a picture of any page."""
    return keep_picture
