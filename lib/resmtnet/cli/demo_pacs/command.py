"""A PACS, the server and OHIF on this machine, with a study and our results in it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType

from resmtnet.cli.demo_pacs.ohif_site import ohif_folder, ohif_site, running_site
from resmtnet.cli.demo_pacs.orthanc import running_orthanc, send_files
from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom, write_dicom_series
from resmtnet.ct.phantom.files import series_uid
from resmtnet.errors import InputError, ResMTNetError
from resmtnet.server.launch import ServerOptions, free_port, running_server
from resmtnet.types import Json

CENTRE_LPS_MM = (-75.0, 0.0, 20.0)
NODULE_MM = 10.0
_STORED_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until it is stopped (Ctrl-C); 1 where something is missing.

    Args:
        arguments: None: those of the process.
    """
    parser = argparse.ArgumentParser(prog="make demo-pacs", description=__doc__)
    parser.add_argument("--studies", type=Path, help="folder of DICOM files; default: a phantom")
    parser.add_argument("--cache", type=Path, default=Path("build", "ohif"), help="of OHIF's pages")
    parser.add_argument("--once", action="store_true", help="stop when everything has answered")
    asked = parser.parse_args(arguments)
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        run(asked.studies, asked.cache, partial(print, flush=True), stop, once=asked.once)
    except ResMTNetError as error:
        print(error)
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def run(
    studies: Path | None,
    cache: Path,
    tell: Callable[[str], object],
    stop: threading.Event,
    once: bool = False,
) -> None:
    """Start all three, store a result, and wait until `stop` is set.

    Args:
        studies: folder of DICOM files; None: a phantom with one nodule, whose result is stored.
        cache: where the pages of OHIF are kept.
        tell: is given each line of progress.
        stop: ends the demo.
        once: end it when everything has answered.

    Raises:
        ResMTNetError: a program is missing, or does not start.
    """
    pages = ohif_folder(cache)
    with ExitStack() as open_:
        folder = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="resmtnet-pacs-")))
        pacs = open_.enter_context(running_orthanc(folder / "orthanc", free_port()))
        tell("Orthanc runs; the study is sent to it ...")
        phantom = None if studies else _phantom()
        files = _files(studies) if studies else write_dicom_series(_of(phantom), folder / "ct")
        if not send_files(pacs, files):
            raise InputError(f"--studies {studies}: there is no DICOM file that Orthanc takes.")
        os.environ["MONAI_LABEL_DICOMWEB_CACHE_PATH"] = str(folder / "cache")
        conf = {
            "readings": str(folder / "site" / "readings.sqlite"),
            "store_results": "on_infer",
            "poll_s": "10",
        }
        dicom_web = f"{pacs}/dicom-web"
        tell("The server starts ...")
        options = ServerOptions(dicom_web, port=free_port(), conf=conf)
        server = open_.enter_context(running_server(options, timeout_s=300.0))
        site = open_.enter_context(running_site(ohif_site(pages, dicom_web), free_port()))
        if phantom is not None and not stop.is_set():
            _store_result(server, phantom)
            tell("The answer for the phantom's nodule is in the PACS as DICOM SEG and SR.")
        tell(_addresses(pacs, server, site))
        if not once:
            tell("What you store in OHIF is read every 10 seconds. Ctrl-C stops all three.")
            stop.wait()
    tell("Stopped.")


def _addresses(pacs: str, server: str, site: str) -> str:
    return (
        f"  OHIF 3.13, where SEG and SR are shown and corrected   {site}/\n"
        f"  the server, and the OHIF with its MONAI Label panel   {server}/ohif/\n"
        f"  readings that were made of corrections                {server}/resmtnet/readings\n"
        f"  Orthanc, the PACS                                     {pacs}/app/explorer.html"
    )


def _phantom() -> Phantom:
    nodule = NoduleSpec(NODULE_MM, "solid", centre_lps_mm=CENTRE_LPS_MM)
    return make_phantom(
        seed=3, shape_kji=(96, 224, 224), nodules=[nodule], centre_lps_mm=CENTRE_LPS_MM
    )


def _of(phantom: Phantom | None) -> Phantom:
    assert phantom is not None  # without studies there is one
    return phantom


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"--studies {folder}: there is no such folder.")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _store_result(server: str, phantom: Phantom) -> None:
    """Ask for the nodule, and wait until the answer is in the PACS."""
    image = series_uid(phantom)
    point = [round(float(x)) for x in phantom.geometry.lps_to_ijk(CENTRE_LPS_MM)]
    asked = urllib.parse.urlencode({"params": json.dumps({"foreground": [point]})}).encode()
    _ask(f"{server}/infer/resmtnet_click?image={image}&output=json", asked)
    end = time.monotonic() + _STORED_S
    while True:
        told = _ask(f"{server}/resmtnet/pacs?image={image}")
        if told["stored"]:
            return
        if told["last_error"] or time.monotonic() > end:
            raise ResMTNetError(f"The result was not stored: {told['last_error'] or 'no answer'}")
        time.sleep(0.5)


def _ask(url: str, body: bytes | None = None) -> Json:
    with urllib.request.urlopen(url, body, timeout=120) as reply:
        found: Json = json.loads(reply.read())
    return found
