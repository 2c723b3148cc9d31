"""Is anything lost that a server had acknowledged when it is killed at a random moment, 200 times?

    python benchmarks/server_kills.py [--kills 200] [--seconds 300] [--resume FILE] [--real-model]

Clients send readings and labels (markups and masks), click, ask for /info, and (with the shipped
model, `--real-model`) for trainings, until the server gets SIGKILL. Then it is started again
on the same studies. Each reading that was answered 201 must be told word for word, and the file of
each label must be the last one that was answered 200, or one that was sent after it. After twenty
kills the published versions are checked as `resmtnet model verify` does, and the studies are made
anew. `--resume` goes on where FILE says that the last run has stopped.

A kill shows what a process may lose, not what a power cut may.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from damaged_files import nrrd_files
from fuzz_api import small_phantom
from light_server import Forks, Server, private, small_app
from memory import files_left
from resmtnet.ct.phantom import write_dicom_series
from resmtnet.server.launch import ServerOptions, free_port

FRESH_EVERY = 20
LONGEST_S = 1.5
"""A server is killed at a uniformly random moment up to so long after what a round waits for."""
WAITS_FOR: list[tuple[str, ...]] = [(), ("reading 201",), ("reading 201",), ("label markups 200",)]
"""What clients must have been answered before the kill, by turns."""
PATIENCE_S = 60.0
CENTRE = [-75.0, 0.0, 20.0]
CLICK = {"params": json.dumps({"foreground": [[40, 40, 32]], "client_id": "kills"})}


class Acknowledged:
    """What clients sent to one studies folder, and what of it was acknowledged."""

    def __init__(self) -> None:
        self.readings: dict[str, str] = {}
        """SHA-256 of the JSON that was answered, by id."""
        self.labels: dict[str, list[str]] = {}
        """SHA-256 of the files that the label of a tag may be: the last acknowledged one first."""
        self.counts: Counter[str] = Counter()


def digest(content: bytes) -> str:
    """Return the SHA-256."""
    return hashlib.sha256(content).hexdigest()


def digest_of(reading: Any) -> str:
    """Return the SHA-256 of a JSON document."""
    return digest(json.dumps(reading, sort_keys=True).encode())


def image_of(http: httpx.Client) -> str:
    """Return the id of the only image."""
    found: str = next(iter(http.get("/datastore/?output=all").json()["objects"]))
    return found


class Clients:
    """Threads that send without a pause until the server is gone."""

    def __init__(self, url: str, seen: Acknowledged, round_: int, trains: bool) -> None:
        self._url, self._seen, self._round = url, seen, round_
        with httpx.Client(base_url=url, timeout=60) as http:
            self._image = image_of(http)
        self._over = threading.Event()
        self._answered: set[str] = set()
        works = [self.readings, self.markups, self.masks, self.clicks, self.looks]
        works += [self.trainings] if trains else []
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def wait_for(self, answers: tuple[str, ...]) -> None:
        """Wait until each of these answers has come in this round."""
        end_s = time.monotonic() + PATIENCE_S
        while not self._answered.issuperset(answers) and time.monotonic() < end_s:
            time.sleep(0.01)

    def stop(self) -> None:
        """End all threads."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, work: Callable[[httpx.Client, int], None]) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as http:
            number = 0
            while not self._over.is_set():
                try:
                    work(http, number)
                except httpx.HTTPError:
                    if self._over.wait(0.02):
                        return
                number += 1

    def _note(self, what: str, answer: httpx.Response) -> None:
        self._seen.counts[f"{what} {answer.status_code}"] += 1
        self._answered.add(f"{what} {answer.status_code}")

    def readings(self, http: httpx.Client, number: int) -> None:
        """Send a reading."""
        reading = {
            "id": f"r{self._round}-{number}",
            "image": self._image,
            "reader": f"reader {number % 3}",
            "centre_lps_mm": CENTRE,
            "malignancy": 1 + number % 5,
            "comment": "x" * (number * 37 % 3000),
        }
        answer = http.post("/resmtnet/readings", json=reading)
        self._note("reading", answer)
        if answer.status_code == 201:
            kept = answer.json()["reading"]
            self._seen.readings[kept["id"]] = digest_of(kept)

    def markups(self, http: httpx.Client, number: int) -> None:
        """Save markups under a tag."""
        point = {"id": "1", "label": f"malignant {self._round}-{number}", "position": CENTRE}
        document = {
            "markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [point]}]
        }
        self._label(http, "markups", "m.mrk.json", json.dumps(document).encode())

    def masks(self, http: httpx.Client, number: int) -> None:
        """Save a mask under a tag."""
        voxels = np.zeros((7, 8, 9), np.uint8)
        voxels.flat[number % voxels.size] = 1
        extra = f"round:={self._round}-{number}\n"
        self._label(http, "masks", *next(iter(nrrd_files("gzip", voxels, "m.nrrd", extra).items())))

    def _label(self, http: httpx.Client, tag: str, name: str, content: bytes) -> None:
        possible = self._seen.labels.setdefault(tag, [])
        possible.append(digest(content))
        place, params = {"image": self._image, "tag": tag}, {"params": '{"client_id": "kills"}'}
        sent = {"label": (name, content)}
        answer = http.put("/datastore/label", params=place, data=params, files=sent)
        self._note(f"label {tag}", answer)
        if answer.status_code == 200:
            del possible[:-1]

    def clicks(self, http: httpx.Client, number: int) -> None:
        """Click."""
        del number
        path = f"/infer/resmtnet_click?image={self._image}"
        self._note("click", http.post(path, data=CLICK))

    def looks(self, http: httpx.Client, number: int) -> None:
        """Ask for what viewers ask for."""
        del number
        self._note("info", http.get("/info/"))
        self._over.wait(0.05)

    def trainings(self, http: httpx.Client, number: int) -> None:
        """Ask for a training."""
        del number
        self._note("training", http.post("/train/resmtnet", json={}))
        self._over.wait(1.0)


def check(server: Server, seen: Acknowledged) -> list[str]:
    """Return what a server that was started again has lost."""
    with httpx.Client(base_url=server.url, timeout=60) as http:
        told = http.get("/resmtnet/readings", params={"every": "true"}).json()["readings"]
        kept = {one["id"]: digest_of(one) for one in told}
        lost = [id_ for id_, sha in seen.readings.items() if kept.get(id_) != sha]
        for tag, possible in seen.labels.items():
            answer = http.get("/datastore/label", params={"label": image_of(http), "tag": tag})
            found = digest(answer.content) if answer.status_code == 200 else None
            acknowledged = seen.counts[f"label {tag} 200"] > 0
            if found not in possible and (found is not None or acknowledged):
                lost.append(f"label {tag}: {answer.status_code}")
            elif found is not None:
                seen.labels[tag] = [found]
    return lost


def versions_verify(studies: Path) -> dict[str, str | None]:
    """Return what is wrong with each published version; None for nothing."""
    from resmtnet.inference.model_folder import default_model_dir, read_model
    from resmtnet.readings.location import database_in
    from resmtnet.retraining.registry import ModelRegistry

    read_model(default_model_dir())
    found = {}
    for version in ModelRegistry.beside(database_in(studies), default_model_dir()).list():
        read_model(version.folder)
        found[version.name] = version.damage
    return found


def helpers() -> int:
    """How many helper processes of servers run that have lost their server."""
    count = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            is_helper = b"ct.apart" in (status.parent / "cmdline").read_bytes()
            lost = "\nPPid:\t1\n" in status.read_text()
        except OSError:
            continue
        count += is_helper and lost
    return count


def kills(folder: Path, total: dict[str, Any], most: int, seconds: float, real: bool) -> None:
    """Kill until there are so many in all, or the time is over; adds to `total`."""
    os.environ.update(private(folder))  # the key that signs versions is that of the servers
    forks = Forks()
    app = None if real else small_app(folder / "app")
    end_s = time.monotonic() + seconds
    try:
        while total["kills"] < most and time.monotonic() < end_s:
            studies = folder / f"studies-{total['kills']}"
            write_dicom_series(small_phantom(), studies / "series")
            seen = Acknowledged()
            conf = {"warm_up": "false"}
            for _ in range(FRESH_EVERY):
                options = ServerOptions(str(studies), port=free_port(), conf=conf, app_dir=app)
                server = forks.start(options, folder / "server.log")  # or it raises
                total["starts"] += 1
                total["slowest start, s"] = max(total["slowest start, s"], server.start_s)
                total["lost"] += check(server, seen)
                if total["kills"] >= most or time.monotonic() > end_s:
                    break
                clients = Clients(server.url, seen, total["kills"], real)
                clients.wait_for(WAITS_FOR[total["kills"] % len(WAITS_FOR)])
                time.sleep(random.Random(total["kills"]).uniform(0, LONGEST_S))
                server.end(signal.SIGKILL)
                clients.stop()
                total["kills"] += 1
            options = ServerOptions(str(studies), port=free_port(), conf=conf, app_dir=app)
            if not server.lives():
                server = forks.start(options, folder / "server.log")
                total["starts"] += 1
                total["lost"] += check(server, seen)
            server.end()
            total["acknowledged readings"] += len(seen.readings)
            total["acknowledged labels"] += sum(
                n for what, n in seen.counts.items() if re.fullmatch("label .* 200", what)
            )
            for what, number in seen.counts.items():
                total["answers"][what] = total["answers"].get(what, 0) + number
            damage = versions_verify(studies)
            total["versions"] += len(damage)
            total["damaged versions"] += sum(why is not None for why in damage.values())
            total["temporary files left"] += files_left(folder / "temporary")
    finally:
        forks.stop()
    time.sleep(2)
    total["helper processes left"] = helpers()


def main() -> int:
    """Print the figures; 1 if something was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="in all, earlier ones included")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--resume", type=Path, help="file of the figures, to read and to write")
    parser.add_argument("--real-model", action="store_true")
    asked = parser.parse_args()
    total: dict[str, Any] = {
        "kills": 0,
        "starts": 0,
        "slowest start, s": 0.0,
        "acknowledged readings": 0,
        "acknowledged labels": 0,
        "lost": [],
        "versions": 0,
        "damaged versions": 0,
        "temporary files left": [],
        "answers": {},
    }
    if asked.resume and asked.resume.exists():
        total |= json.loads(asked.resume.read_text())
    with tempfile.TemporaryDirectory() as name:
        kills(Path(name), total, asked.kills, asked.seconds, asked.real_model)
    text = json.dumps(total, indent=1)
    print(text)
    if asked.resume:
        asked.resume.write_text(text + "\n")
    return int(bool(total["lost"] or total["damaged versions"]))


if __name__ == "__main__":
    raise SystemExit(main())
