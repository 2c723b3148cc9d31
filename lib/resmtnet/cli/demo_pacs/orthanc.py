"""Starts Orthanc, a real PACS, on a loopback port, and sends files to it.

https://orthanc.uclouvain.be/book/plugins/dicomweb.html
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resmtnet.errors import PacsError

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
HOW_TO_INSTALL = "apt-get install --no-install-recommends orthanc orthanc-dicomweb"
_START_S = 30.0


def orthanc_program() -> str | None:
    """Return the path of Orthanc; None where it or its DICOMweb plugin is not installed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    return program if PLUGIN.exists() else None


@contextmanager
def running_orthanc(folder: Path, port: int) -> Iterator[str]:
    """Run an Orthanc inside the block, and stop it afterwards.

    Args:
        folder: of its files.
        port: on 127.0.0.1, which alone reaches it.

    Yields:
        Its URL; DICOMweb is at /dicom-web below.

    Raises:
        PacsError: it is not installed, or does not start.
    """
    program = orthanc_program()
    if program is None:
        raise PacsError(f"Orthanc is not installed: {HOW_TO_INSTALL}")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "orthanc.json"
    file.write_text(json.dumps(_configuration(folder, port)))
    url = f"http://127.0.0.1:{port}"
    with (folder / "orthanc.log").open("w") as log:
        process = subprocess.Popen([program, str(file)], stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(url, process, folder / "orthanc.log")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def send_files(url: str, files: list[Path]) -> int:
    """Send DICOM files to an Orthanc; what is no DICOM is left out.

    Returns:
        How many it took.
    """
    taken = 0
    for file in files:
        request = urllib.request.Request(f"{url}/instances", file.read_bytes(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60):
                taken += 1
        except urllib.error.HTTPError as error:
            error.close()
    return taken


def _configuration(folder: Path, port: int) -> dict[str, object]:
    return {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "OverwriteInstances": False,
        "Plugins": [str(PLUGIN)],
        # With "MainDicomTags" OHIF waits for ever.
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
    }


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/system", timeout=5):
                return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > end:
                text = log.read_text(errors="replace")[-1000:]
                raise PacsError(f"Orthanc does not start. Its log ends:\n{text}") from error
            time.sleep(0.2)
