"""A server of a small folder of studies, and its review page as readers open it in browsers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from resmtnet.ct.phantom import Phantom, write_dicom_series, write_nifti
from resmtnet.findings import ModelInfo
from resmtnet.inference.model_folder import MANIFEST, default_model_dir, read_info
from resmtnet.readings.location import database_in
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.registry import ModelRegistry

STUDIES = ("one", "two", "three")
WINDOW = {"width": 1280, "height": 800}
QUICK = {"warm_up": "false"}


@dataclass
class PageSite:
    """The server, and what is in its database."""

    url: str
    studies: Path
    phantom: Phantom
    requests_elsewhere: list[str] = field(default_factory=list)
    """Addresses outside this machine that a page has asked for."""

    @property
    def centre(self) -> tuple[float, float, float]:
        """The middle of the nodule of each study, LPS mm."""
        x, y, z = self.phantom.nodules[0].centre_lps_mm
        return x, y, z

    @contextmanager
    def store(self) -> Iterator[ReadingStore]:
        """The readings, as another process sees them."""
        with ReadingStore.open(database_in(self.studies)) as store:
            yield store

    def said(self, image: str) -> list[Reading]:
        """Every single reading of an image."""
        with self.store() as store:
            return store.readings(image, every=True)

    def say(self, image: str, reader: str, **more: Any) -> None:
        """A reader says something by REST."""
        body = {"image": image, "reader": reader, "centre_lps_mm": list(self.centre), **more}
        request = urllib.request.Request(
            f"{self.url}/resmtnet/readings",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=120).read()

    def answer(self, image: str, *places: Any) -> Any:
        """Let the model answer places (LPS mm) of a study that has the grid of the phantom."""
        points = [
            [round(float(x)) for x in self.phantom.geometry.lps_to_ijk(place)] for place in places
        ]
        params = urlencode({"params": json.dumps({"foreground": points})}).encode()
        address = f"{self.url}/infer/resmtnet_click?image={quote(image)}&output=json"
        with urllib.request.urlopen(urllib.request.Request(address, params), timeout=240) as reply:
            return json.loads(reply.read())

    def versions(self) -> ModelRegistry:
        """The versions of the model."""
        return ModelRegistry.beside(database_in(self.studies), default_model_dir())

    def publish_again(self) -> str:
        """Publish the shipped model once more, under another version; returns its name."""
        registry = self.versions()

        def copy(folder: Path) -> ModelInfo:
            left_out = shutil.ignore_patterns("MODEL_CARD.md")  # no file of the manifest
            shutil.copytree(registry.shipped, folder, dirs_exist_ok=True, ignore=left_out)
            manifest = json.loads((folder / MANIFEST).read_text())
            manifest["version"] = registry.next_version()
            (folder / MANIFEST).write_text(json.dumps(manifest))
            return read_info(folder)

        details = {"readings": 25, "reason": "Published: a version for a test."}
        return registry.publish(copy, details=details).name

    @contextmanager
    def opened(self, browser: Any, reader: str, *, dark: bool = False) -> Iterator[Any]:
        """A page of a reader's own browser, which reaches no other machine."""
        context = browser.new_context(viewport=WINDOW)
        cookies = {"reader": reader, "dark": "1" if dark else ""}
        place = {"domain": "127.0.0.1", "path": "/resmtnet"}
        context.add_cookies(
            [
                {"name": f"resmtnet-{name}", "value": quote(value), **place}
                for name, value in cookies.items()
                if value
            ]
        )

        def only_here(route: Any) -> None:
            address = route.request.url
            if address.startswith((self.url, "data:", "blob:")):
                route.continue_()
            else:
                self.requests_elsewhere.append(address)
                route.abort()

        context.route("**/*", only_here)
        page = context.new_page()
        page.set_default_timeout(90_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        try:
            yield page
        finally:
            context.close()
        assert errors == []
        assert self.requests_elsewhere == []


def write_studies(phantom: Phantom, folder: Path) -> None:
    """Write three studies as NIfTI, and one as DICOM."""
    for name in STUDIES:
        write_nifti(phantom, folder / f"{name}.nii.gz")
    write_dicom_series(phantom, folder / "patient" / "chest", "PATIENT")


def kill_server(url: str) -> None:
    """End the server at an address as a power cut would; only a process of this user's tests."""
    port = int(url.rsplit(":", 1)[1])
    for pid in _listening(port):
        os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while _listening(port) and time.monotonic() < end:
        time.sleep(0.1)


def _listening(port: int) -> list[int]:
    """Processes that listen on a port of this machine, see proc(5)."""
    wanted = f":{port:04X}"
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(wanted) and fields[3] == "0A":
            inodes.add(f"socket:[{fields[9]}]")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            held = {os.readlink(entry) for entry in (process / "fd").iterdir()}
        except OSError:
            continue
        if held & inodes:
            found.append(int(process.name))
    return found
