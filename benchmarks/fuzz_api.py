"""Does any request of the whole OpenAPI crash or hang the server, or get a plain-text error 500?

    python benchmarks/fuzz_api.py [--seconds 240] [--requests N] [--resume FILE] [--real-model]

Starts a server of its own on a small phantom, and sends requests that schemathesis makes from
/openapi.json: valid ones, and ones that are wrong in one or several places. With `--resume` it
adds to the figures of FILE and makes the requests that come next. The model is a small one that
answers at once, unless `--real-model` asks for the shipped one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from light_server import one_server
from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom, write_nifti

LONGEST_S = 10.0
EACH = 25
"""Requests to a route, before the next one's turn."""


class Found:
    """What the server answered."""

    def __init__(
        self,
        most: int = 10**9,
        seconds: float = float("inf"),
        longest_s: float = LONGEST_S,
    ) -> None:
        """Count up to so many requests, for so long; an answer after `longest_s` is a hang."""
        self._longest_s = longest_s
        self.most, self.end_s = most, time.monotonic() + seconds
        self.turn = 0
        """Number of the next route's turn, which is the seed of its requests."""
        self.statuses: Counter[int] = Counter()
        self.routes: Counter[str] = Counter()
        self.defects: dict[str, list[str]] = {
            "hangs over 10 s": [],
            "connections lost": [],
            "plain-text errors": [],
            "errors 500": [],
        }
        self.server_s = 0.0
        """How long the answers took, in all."""
        self._session = requests.Session()

    @property
    def is_over(self) -> bool:
        """Whether enough was sent."""
        return self.statuses.total() >= self.most or time.monotonic() > self.end_s

    def send(self, case: Any) -> None:
        """Send one request and look at the answer."""
        began_s = time.perf_counter()
        try:
            answer = case.call(timeout=self._longest_s, session=self._session)
        except requests.exceptions.Timeout:
            self._note("hangs over 10 s", case)
            return
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError):
            self._note("connections lost", case)
            return
        except (requests.exceptions.RequestException, ValueError):
            return  # what cannot be sent
        finally:
            self.server_s += time.perf_counter() - began_s
        status = answer.status_code
        self.statuses[status] += 1
        self.routes[f"{case.method} {case.path}"] += 1
        kind = str((answer.headers.get("content-type") or [""])[0])
        if status >= 400 and case.method != "HEAD" and not kind.startswith("application/json"):
            self._note("plain-text errors", case)
        if status == 500:
            self._note("errors 500", case)

    def _note(self, defect: str, case: Any) -> None:
        self.defects[defect].append(case.as_curl_command()[:600])

    def to_json(self) -> dict[str, Any]:
        """Return the figures, with the requests that show a defect."""
        return {
            "requests": self.statuses.total(),
            "routes": len(self.routes),
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            **{f"number of {name}": len(cases) for name, cases in self.defects.items()},
            "defects": {name: cases[:40] for name, cases in self.defects.items() if cases},
            "next turn": self.turn,
            "fewest requests of a route": min(self.routes.values(), default=0),
            "by route": dict(sorted(self.routes.items())),
        }

    def go_on_from(self, document: dict[str, Any]) -> None:
        """Add to the figures of an earlier run."""
        self.turn = document["next turn"]
        self.statuses.update({int(status): n for status, n in document["statuses"].items()})
        self.routes.update(document["by route"])
        for name, cases in document["defects"].items():
            self.defects[name] += cases


def fuzz(url: str, found: Found, each: int = EACH, rounds: int = 10**9) -> None:
    """Send requests to every route in turn until it is over."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    last = found.turn + rounds * len(operations)
    while not found.is_over and found.turn < last:
        operation = operations[found.turn % len(operations)]

        @seed(found.turn)
        @settings(
            max_examples=each,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def send(case: Any) -> None:
            if not found.is_over:
                found.send(case)

        send()
        found.turn += 1


def small_phantom(seed: int = 3, diameter_mm: float = 10.0) -> Phantom:
    """Make a CT of 80 x 80 x 64 voxels: a nodule in air, where the small model finds it at once."""
    centre = (-75.0, 0.0, 20.0)
    nodule = NoduleSpec(diameter_mm, "solid", centre_lps_mm=centre)
    made = make_phantom(seed, (64, 80, 80), nodules=[nodule], centre_lps_mm=centre)
    return replace(made, hu=np.where(made.label_map() > 0, 50, -800).astype(np.int16))


def small_studies(folder: Path) -> Path:
    """Write one small CT; return its folder."""
    write_nifti(small_phantom(), folder / "phantom.nii.gz")
    return folder


def main() -> None:
    """Print the figures; exit code 1 if there is a defect."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--requests", type=int, default=10**9, help="in all, earlier ones included")
    parser.add_argument("--resume", type=Path, help="file of the figures, to read and to write")
    parser.add_argument("--real-model", action="store_true")
    asked = parser.parse_args()
    found = Found(asked.requests, asked.seconds)
    if asked.resume and asked.resume.exists():
        found.go_on_from(json.loads(asked.resume.read_text()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        studies = small_studies(folder / "studies")
        with one_server(studies, folder, small_model=not asked.real_model) as server:
            found.end_s = time.monotonic() + asked.seconds
            before, began_s = found.statuses.total(), time.monotonic()
            fuzz(server.url, found)
            took_s = time.monotonic() - began_s
            alive = server.answers()
            log = server.log.read_text(errors="replace")
    document = found.to_json()
    text = json.dumps(document, indent=1)
    print(text)
    sent = found.statuses.total() - before
    print(f"{sent} requests in {took_s:.0f} s; the server's part: {found.server_s:.0f} s")
    if asked.resume:
        asked.resume.write_text(text + "\n", encoding="utf-8")
        if found.defects["errors 500"]:
            asked.resume.with_suffix(".log").write_text(log)
    raise SystemExit(any(found.defects.values()) or not alive)


if __name__ == "__main__":
    main()
