"""Does any request of the whole OpenAPI crash or hang the server, or get a plain-text error 500?

    python benchmarks/fuzz_api.py [--seconds 240] [--requests N] [--seed 0] [--out FILE]

Starts a server of its own on a small phantom, and sends requests that schemathesis makes from
/openapi.json: valid ones, and ones that are wrong in one or several places.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from resmtnet.ct.phantom import NoduleSpec, make_phantom, write_nifti
from resmtnet.server.launch import ServerOptions, free_port, running_server

LONGEST_S = 10.0
EACH = 25
"""Requests to a route, before the next one's turn."""


class Found:
    """What the server answered."""

    def __init__(self, most: int, end_s: float) -> None:
        """Count up to so many requests, until that time."""
        self.most, self.end_s = most, end_s
        self.statuses: Counter[int] = Counter()
        self.hangs: list[str] = []
        self.lost: list[str] = []
        self.plain: list[str] = []
        self.errors: list[str] = []

    @property
    def is_over(self) -> bool:
        """Whether enough was sent."""
        return sum(self.statuses.values()) >= self.most or time.monotonic() > self.end_s

    def send(self, case: Any) -> None:
        """Send one request and look at the answer."""
        name = f"{case.method} {case.path}"
        try:
            answer = case.call(timeout=LONGEST_S)
        except requests.exceptions.Timeout:
            self.hangs.append(case.as_curl_command()[:600])
            return
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError):
            self.lost.append(case.as_curl_command()[:600])
            return
        except (requests.exceptions.RequestException, ValueError):
            return  # what cannot be sent
        status = answer.status_code
        self.statuses[status] += 1
        kind = str((answer.headers.get("content-type") or [""])[0])
        if status >= 400 and case.method != "HEAD" and not kind.startswith("application/json"):
            self.plain.append(f"{status} {name}")
        if status == 500:
            self.errors.append(case.as_curl_command()[:600])


def fuzz(url: str, found: Found, first_seed: int) -> None:
    """Send requests to every route in turn until it is over."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    turn = 0
    while not found.is_over:
        for operation in operations:
            turn += 1

            @seed(first_seed + turn)
            @settings(
                max_examples=EACH,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--requests", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given_ = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        studies = Path(name, "studies")
        centre = (-75.0, 0.0, 20.0)
        nodule = NoduleSpec(10.0, "solid", centre_lps_mm=centre)
        phantom = make_phantom(
            seed=3, shape_kji=(64, 80, 80), nodules=[nodule], centre_lps_mm=centre
        )
        write_nifti(phantom, studies / "phantom.nii.gz")
        options = ServerOptions(str(studies), port=free_port())
        with running_server(options, timeout_s=240.0) as url:
            found = Found(given_.requests, time.monotonic() + given_.seconds)
            fuzz(url, found, given_.seed)
            alive = requests.get(f"{url}/info/", timeout=30).status_code == 200
    document = {
        "requests": sum(found.statuses.values()),
        "statuses": dict(sorted(found.statuses.items())),
        "alive at the end": alive,
        "hangs over 10 s": found.hangs[:20],
        "connections lost": found.lost[:20],
        "plain-text errors": dict(Counter(found.plain)),
        "errors 500": found.errors[:40],
        "number of errors 500": len(found.errors),
    }
    text = json.dumps(document, indent=1)
    print(text)
    if given_.out:
        given_.out.write_text(text + "\n", encoding="utf-8")
    raise SystemExit(bool(found.hangs or found.lost or found.plain or not alive))


if __name__ == "__main__":
    main()
