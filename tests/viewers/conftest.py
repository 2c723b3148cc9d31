"""Orthanc, the server, OHIF 3.13 and a browser: everything that a radiologist with a PACS has."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resmtnet.cli.demo_pacs.ohif_site import ohif_folder, ohif_site, running_site
from resmtnet.cli.demo_pacs.orthanc import (
    HOW_TO_INSTALL,
    orthanc_program,
    running_orthanc,
    send_files,
)
from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom, write_dicom_series
from resmtnet.ct.phantom.files import series_uid
from resmtnet.errors import ResMTNetError
from resmtnet.server.launch import ServerOptions, free_port, running_server

CHECKOUT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(os.environ.get("RESMTNET_SCREENSHOTS", CHECKOUT / "build" / "screenshots"))
CENTRE = (-75.0, 0.0, 20.0)
PATIENTS = ("ROUND-TRIP", "SEGMENT", "EDITED", "PANEL", "SEGMENT-3.10")
"""One study for each test that changes what is in it."""
FLAGS = (
    *("--no-sandbox", "--use-angle=swiftshader", "--use-gl=angle", "--enable-unsafe-swiftshader"),
    *("--ignore-gpu-blocklist", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
"""WebGL in software, and no network of the browser's own."""


@dataclass(frozen=True)
class PacsSite:
    """A hospital in small."""

    pacs: str
    server: str
    ohif: str
    phantom: Phantom

    def image(self, patient: str) -> str:
        """SeriesInstanceUID of a patient's CT."""
        return series_uid(self.phantom, patient)

    def ask(self, path: str, body: bytes | None = None, method: str | None = None) -> Any:
        """Ask the server; returns its JSON."""
        kind = "application/x-www-form-urlencoded" if body else "application/json"
        request = urllib.request.Request(
            self.server + path, body, {"Content-Type": kind}, method=method
        )
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.loads(reply.read())

    def click(self, patient: str) -> Any:
        """Ask for the nodule, and wait until the answer is in the PACS; returns what was stored."""
        image = self.image(patient)
        centre = self.phantom.nodules[0].centre_lps_mm
        point = [round(float(x)) for x in self.phantom.geometry.lps_to_ijk(centre)]
        asked = urllib.parse.urlencode({"params": json.dumps({"foreground": [point]})}).encode()
        before = len(self.stored(image))
        self.ask(f"/infer/resmtnet_click?image={image}&output=json", asked)
        end = time.monotonic() + 60
        while len(self.stored(image)) < before + 2 and time.monotonic() < end:
            time.sleep(0.5)
        return self.stored(image)

    def stored(self, image: str) -> Any:
        """What the server has stored of an image."""
        return self.ask(f"/resmtnet/pacs?image={image}")["stored"]

    def read_back(self, patient: str) -> Any:
        """Let the server read what readers have stored in the PACS."""
        image = self.image(patient)
        return self.ask(f"/resmtnet/pacs/read?image={image}", method="POST")["read"]

    def study(self, patient: str) -> str:
        """StudyInstanceUID of a patient's CT."""
        return str(self.stored(self.image(patient))[0]["study_uid"])


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def pacs_site(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PacsSite]:
    """Orthanc with a phantom of three patients, the server (results on_infer), and OHIF."""
    if orthanc_program() is None:
        pytest.skip(f"no Orthanc: {HOW_TO_INSTALL}")
    try:
        pages = ohif_folder(CHECKOUT / "build" / "ohif")
    except ResMTNetError as error:
        pytest.skip(f"no OHIF: {error}")
    folder = tmp_path_factory.mktemp("site")
    nodules = [NoduleSpec(10.0, "solid", centre_lps_mm=CENTRE)]
    phantom = make_phantom(seed=3, shape_kji=(64, 160, 160), nodules=nodules, centre_lps_mm=CENTRE)
    conf = {
        "readings": str(folder / "site" / "readings.sqlite"),
        "store_results": "on_infer",
        "poll_s": "0",
    }
    with (
        running_orthanc(folder / "orthanc", free_port()) as pacs,
        pytest.MonkeyPatch.context() as m,
    ):
        for patient in PATIENTS:
            send_files(pacs, write_dicom_series(phantom, folder / patient, patient))
        m.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", str(folder / "cache"))
        options = ServerOptions(f"{pacs}/dicom-web", port=free_port(), conf=conf)
        site = ohif_site(pages, f"{pacs}/dicom-web")
        with (
            running_server(options, timeout_s=240.0) as server,
            running_site(site, free_port()) as ohif,
        ):
            yield PacsSite(pacs, server, ohif, phantom)


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Any]:
    """A headless browser with WebGL."""
    playwright = pytest.importorskip("playwright.sync_api", reason="make viewers installs it")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page; what it reports as an error fails the test."""
    opened = browser.new_page(viewport={"width": 1400, "height": 850})
    opened.set_default_timeout(60_000)
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert errors == []


@pytest.fixture
def screenshot(page: Any) -> Callable[[str], Path]:
    """Keeps a picture of the page, for the documentation and for whoever looks into a failure."""
    return lambda name: keep_picture(page, name)


def keep_picture(page: Any, name: str) -> Path:
    """Write what a page shows into the folder of the pictures."""
    from PIL import Image

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(128).save(path, optimize=True)  # a third of the bytes
    return path


@pytest.fixture(scope="session")
def keep() -> Callable[[Any, str], Path]:
    """Keeps a picture of any page."""
    return keep_picture
