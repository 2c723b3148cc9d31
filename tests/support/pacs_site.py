"""A hospital in small: Orthanc with CTs, the server, and the pages of OHIF 3.13."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from resmtnet.ct.phantom import Phantom, write_dicom_series
from resmtnet.ct.phantom.files import series_uid
from resmtnet.errors import ResMTNetError
from resmtnet.server.launch import ServerOptions, free_port, running_server

CHECKOUT = Path(__file__).resolve().parents[2]
CONF = {"store_results": "on_infer", "poll_s": "0"}


@dataclass(frozen=True)
class PacsSite:
    """Addresses, and what a test asks there."""

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
        """Ask for the first nodule of the phantom; returns what is in the PACS then."""
        centre = self.phantom.nodules[0].centre_lps_mm
        return self.click_at(
            patient, [round(float(x)) for x in self.phantom.geometry.lps_to_ijk(centre)]
        )

    def click_at(self, patient: str, *points_ijk: Sequence[int]) -> Any:
        """Ask at voxels, and wait until the answer is in the PACS; returns what was stored."""
        image = self.image(patient)
        params = json.dumps({"foreground": [list(point) for point in points_ijk]})
        before = len(self.stored(image))
        self.ask(
            f"/infer/resmtnet_click?image={image}&output=json",
            urllib.parse.urlencode({"params": params}).encode(),
        )
        return self.wait_for_results(patient, before + 2)

    def wait_for_results(self, patient: str, count: int) -> Any:
        """Wait until so many objects of a patient were stored; returns them."""
        image, end = self.image(patient), time.monotonic() + 60
        while len(self.stored(image)) < count and time.monotonic() < end:
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
        image = self.image(patient)
        address = f"{self.pacs}/dicom-web/series?SeriesInstanceUID={image}"
        with urllib.request.urlopen(address, timeout=60) as reply:
            return str(json.loads(reply.read())[0]["0020000D"]["Value"][0])


@contextmanager
def running_pacs_site(
    folder: Path,
    phantom: Phantom,
    patients: Sequence[str],
    app_dir: Path | None = None,
    conf: Mapping[str, str] = CONF,
) -> Iterator[PacsSite]:
    """Start everything; the test is skipped where a program is missing.

    Args:
        folder: of all files.
        phantom: the CT of each patient.
        patients: their IDs; one study for each.
        app_dir: of the app; default: that of the checkout.
        conf: settings of the server.
    """
    if orthanc_program() is None:
        pytest.skip(f"no Orthanc: {HOW_TO_INSTALL}")
    try:
        pages = ohif_folder(CHECKOUT / "build" / "ohif")
    except ResMTNetError as error:
        pytest.skip(f"no OHIF: {error}")
    given = {"readings": str(folder / "site" / "readings.sqlite"), **conf}
    with (
        running_orthanc(folder / "orthanc", free_port()) as pacs,
        pytest.MonkeyPatch.context() as patch,
    ):
        for patient in patients:
            send_files(pacs, write_dicom_series(phantom, folder / patient, patient))
        patch.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", str(folder / "cache"))
        options = ServerOptions(f"{pacs}/dicom-web", port=free_port(), conf=given, app_dir=app_dir)
        with (
            running_server(options, timeout_s=240.0) as server,
            running_site(ohif_site(pages, f"{pacs}/dicom-web"), free_port()) as ohif,
        ):
            yield PacsSite(pacs, server, ohif, phantom)
