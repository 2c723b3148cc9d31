"""How the server answers under load: a slow PACS with many batches, or readers who click.

    python benchmarks/load.py slow-pacs [--seconds 30] [--plain] [--json FILE]
    python benchmarks/load.py clicks [--clients 8] [--studies 14] [--read 30] [--seconds 60]

slow-pacs: a PACS that needs 5 s for each request, 8 browsers that search in it through the server,
and 45 batch inferences sent at once; /info is asked every 100 ms. clicks: clients that click into
some studies and look at /info, while a training on the readings of other studies is asked for every
two seconds (429: one runs). `--plain` serves the app with MONAI Label's own server instead. Times
are of this machine, whatever else it does.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from resmtnet.ct.phantom import make_phantom, write_nifti
from resmtnet.server.launch import OUR_APP, PLAIN_APP, ServerOptions, free_port, running_server

PACS_S = 5.0
BATCHES, BROWSERS = 45, 8
EVERY_S = 0.1
POINT = {"foreground": [[32, 32, 32]]}


class Times:
    """What clients noted, by what they asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, list[float]] = {}
        self.answers: dict[str, Counter[str]] = {}

    def ask(self, what: str, send: Callable[[], httpx.Response]) -> None:
        """Send a request and note its time and status."""
        began_s = time.perf_counter()
        try:
            status = str(send().status_code)
        except httpx.HTTPError as error:
            status = type(error).__name__
        took_s = time.perf_counter() - began_s
        with self._lock:
            self.seconds.setdefault(what, []).append(took_s)
            self.answers.setdefault(what, Counter())[status] += 1

    def report(self, seconds: float) -> dict[str, Any]:
        """Return the percentiles in ms, the answers by status and the throughput."""
        return {
            what: {
                "requests": len(times),
                "per_second": round(len(times) / seconds, 2),
                **{
                    f"p{share}_ms": round(1e3 * float(np.percentile(times, share)), 1)
                    for share in (50, 95, 99)
                },
                "answers": dict(self.answers[what]),
            }
            for what, times in self.seconds.items()
        }


@contextmanager
def slow_pacs(delay_s: float) -> Iterator[str]:
    """Serve a PACS with no studies that needs `delay_s` for each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(delay_s)
            self.send_response(200)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()


def until(end_s: float, work: Callable[[], None], pause_s: float = 0.0) -> None:
    """Repeat some work until a time."""
    while time.monotonic() < end_s:
        work()
        time.sleep(pause_s)


def with_slow_pacs(seconds: float, uvicorn_app: str, folder: Path) -> dict[str, Any]:
    """Ask a server whose PACS is slow."""
    times = Times()
    conf = {"readings": str(folder / "readings.sqlite"), "warm_up": "false"}
    with slow_pacs(PACS_S) as pacs:
        options = ServerOptions(pacs, port=free_port(), conf=conf, uvicorn_app=uvicorn_app)
        with running_server(options, 300.0) as url, httpx.Client(base_url=url, timeout=120) as http:
            http.get("/info/")
            end_s = time.monotonic() + seconds
            batch = {"max_batch_size": 1, "device": "cpu", "multi_gpu": False}
            wait = "?run_sync=true"
            with ThreadPoolExecutor(BATCHES + BROWSERS) as pool:
                for _ in range(BROWSERS):
                    pool.submit(
                        until,
                        end_s,
                        lambda: times.ask("PACS", lambda: http.get("/proxy/dicom/qido/studies")),
                    )
                for _ in range(BATCHES):
                    pool.submit(
                        times.ask,
                        "batch",
                        lambda: http.post(f"/batch/infer/resmtnet{wait}", json=batch),
                    )
                with httpx.Client(base_url=url, timeout=120) as probe:
                    until(end_s, lambda: times.ask("info", lambda: probe.get("/info/")), EVERY_S)
    return times.report(seconds)


def make_studies(folder: Path, count: int) -> list[str]:
    """Write so many CTs of 256 x 256 x 100 voxels with the same nodules; return their ids."""
    names = [f"phantom-{n:02}" for n in range(count)]
    first = write_nifti(make_phantom(shape_kji=(100, 256, 256)), folder / f"{names[0]}.nii.gz")
    for name in names[1:]:
        shutil.copyfile(first, folder / f"{name}.nii.gz")
    return names


def with_clicks(
    seconds: float, clients: int, studies: int, read: int, uvicorn_app: str, folder: Path
) -> dict[str, Any]:
    """Click in many studies while trainings on the readings of others are asked for."""
    times, names = Times(), make_studies(folder / "studies", studies + read)
    options = ServerOptions(str(folder / "studies"), port=free_port(), uvicorn_app=uvicorn_app)
    with running_server(options, 300.0) as url:
        with httpx.Client(base_url=url, timeout=300) as http:
            for name in names[:studies]:  # opened before the time runs
                click_into(http, name)
            for number, name in enumerate(names[studies:]):
                read_twice(http, name, number)
            started = http.post("/train/resmtnet", json={})
            if started.status_code != 200:
                raise SystemExit(f"no training starts: {started.text}")
        end_s = time.monotonic() + seconds

        def click(number: int) -> None:
            with httpx.Client(base_url=url, timeout=120) as http:
                count = number
                while time.monotonic() < end_s:
                    count += 1
                    name = names[count % studies]
                    times.ask("click", lambda name=name: click_into(http, name))  # type: ignore[misc]

        def train() -> None:
            with httpx.Client(base_url=url, timeout=120) as http:
                while time.monotonic() < end_s:
                    times.ask("train", lambda: http.post("/train/resmtnet", json={}))
                    time.sleep(2.0)

        with ThreadPoolExecutor(clients + 1) as pool:
            pool.submit(train)
            for number in range(clients):
                pool.submit(click, number)
            with httpx.Client(base_url=url, timeout=120) as probe:
                until(end_s, lambda: times.ask("info", lambda: probe.get("/info/")), EVERY_S)
        with httpx.Client(base_url=url, timeout=60) as http:
            http.delete("/train/")
    return times.report(seconds)


def click_into(http: httpx.Client, name: str) -> httpx.Response:
    """Click into a study."""
    path = f"/infer/resmtnet_click?image={name}&output=json"
    return http.post(path, data={"params": json.dumps(POINT)})


def read_twice(http: httpx.Client, name: str, number: int) -> None:
    """Keep the readings of two readers of one study: something to train on."""
    click_into(http, name)
    for reader in ("ann", "bob"):
        given = {"image": name, "reader": reader, "centre_lps_mm": [-75.0, 0.0, 20.0]}
        told = {
            "class": "malignant" if number % 2 else "benign",
            "malignancy": 4 if number % 2 else 2,
        }
        http.post("/resmtnet/readings", json={**given, **told}).raise_for_status()


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["slow-pacs", "clicks"])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--studies", type=int, default=14)
    parser.add_argument("--read", type=int, default=30, help="studies with readings to train on")
    parser.add_argument("--plain", action="store_true", help="MONAI Label's own server")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = PLAIN_APP if asked.plain else OUR_APP
        if asked.what == "slow-pacs":
            found = with_slow_pacs(asked.seconds, app, Path(folder))
        else:
            found = with_clicks(
                asked.seconds, asked.clients, asked.studies, asked.read, app, Path(folder)
            )
    for what, row in found.items():
        told = ", ".join(f"{name} {value}" for name, value in row.items())
        print(f"{what:6} {told}")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
