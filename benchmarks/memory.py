"""Does a server grow, or leave temporary files, over thousands of inferences?

    python benchmarks/memory.py [--infers 5000] [--studies 50] [--real-model] [--plain]

Clicks into many studies in turn, and asks for each kind of answer (mask and JSON, JSON alone, mask
alone, markups). Told are the memory of the server's process after a tenth of them, after all, and
the temporary files that lie there while no request runs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from fuzz_api import small_phantom
from light_server import Server, one_server
from resmtnet.ct.phantom import write_nifti
from resmtnet.server.launch import OUR_APP, PLAIN_APP

KINDS = [
    "resmtnet_click?image={}",
    "resmtnet_click?image={}&output=json",
    "resmtnet_click?image={}&output=image",
    "resmtnet_findings?image={}",
]
POINT = {"params": json.dumps({"foreground": [[40, 40, 32]], "client_id": "memory"})}


def make_studies(folder: Path, count: int) -> list[str]:
    """Write small CTs with a nodule each; return their ids."""
    names = [f"ct-{n:03}" for n in range(count)]
    for n, name in enumerate(names):
        write_nifti(small_phantom(n, 8.0 + n % 5), folder / f"{name}.nii.gz")
    return names


def click(server: Server, names: list[str], infers: int) -> dict[str, Any]:
    """Click, and tell what the server holds after a tenth and at the end."""
    found: dict[str, Any] = {"errors": 0}
    began_s = time.monotonic()
    with httpx.Client(base_url=server.url, timeout=120) as http:
        for number in range(1, infers + 1):
            kind = KINDS[number // len(names) % len(KINDS)]
            reply = http.post(f"/infer/{kind.format(names[number % len(names)])}", data=POINT)
            found["errors"] += reply.status_code != 200
            if number in (infers // 10, infers // 2, infers):
                found[f"RSS after {number}, MB"] = round(server.rss_bytes() / 1e6)
                print(number, found, f"{time.monotonic() - began_s:.0f} s", flush=True)
    return found


def main() -> int:
    """Print the figures; 1 if the server has grown by more than a tenth, or left files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--infers", type=int, default=5000)
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--real-model", action="store_true")
    parser.add_argument("--plain", action="store_true", help="MONAI Label's own server")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = make_studies(folder / "studies", asked.studies)
        served = PLAIN_APP if asked.plain else OUR_APP
        small = not asked.real_model
        with one_server(folder / "studies", folder, small_model=small, served=served) as server:
            found = click(server, names, asked.infers)
            time.sleep(2)  # files are deleted after their answer was sent
            found["temporary files"] = files_left(folder / "temporary")
        found["temporary files after the stop"] = files_left(folder / "temporary")
    first, _, last = (value for what, value in found.items() if what.startswith("RSS"))
    found["growth"] = round(last / first - 1, 3)
    print(json.dumps(found, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(found["growth"] > 0.1 or bool(found["temporary files"]))


def files_left(folder: Path) -> list[str]:
    """Return the temporary files of servers, without those that say that a server runs."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return [str(path.relative_to(folder)) for path in files]


if __name__ == "__main__":
    raise SystemExit(main())
