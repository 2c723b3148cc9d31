"""What a client without a password can do to a running server: each hole, open or closed.

    python benchmarks/intruder.py URL [--only WORD] [--skip WORD] [--json FILE]

Give it a server that you can lose, with a memory limit (`ulimit -v`), on this machine: the last
requests of the list kill or block a server that is open. They are sent in the order of the list,
and the table ends with the first one after which the server no longer answers. Holes of the PACS
are tried where the server has one.

Only the standard library is used, so any version of the server can be asked.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from intrusion.client import PATIENCE_S, Client, Result
from intrusion.holes import HOLES


def intrude(
    url: str, only: str = "", skip: str = "", patience_s: float = PATIENCE_S
) -> Iterator[tuple[str, str, Result]]:
    """Try each hole; the server is asked for a sign of life after each."""
    with tempfile.TemporaryDirectory(prefix="intruder-") as folder:
        client, gone = Client(url, Path(folder), patience_s), False
        for group, name, attack in HOLES:
            if (only and only not in f"{group} {name}") or (skip and skip in f"{group} {name}"):
                continue
            if gone:
                yield group, name, Result("not tried", "the server is gone")
                continue
            result = attack(client)
            if not client.lives():
                gone, result = True, Result("open", f"the server no longer answers; {result.told}")
            yield group, name, result


def main() -> int:
    """Print the table; 1 if a hole is open."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("url", help="of a server that you can lose")
    parser.add_argument("--only", default="", help="holes with this word in group or name")
    parser.add_argument("--skip", default="", help="leave out holes with this word")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="for an answer, s")
    parser.add_argument("--json", type=Path, help="write the table to this file as well")
    asked = parser.parse_args()
    if not Client(asked.url, Path()).lives():
        parser.error(f"{asked.url} does not answer /info/")
    rows = []
    for group, name, result in intrude(asked.url, asked.only, asked.skip, asked.patience):
        print(f"{group:9} {name:42} {result.state:9} {result.told[:90]}", flush=True)
        rows.append({"group": group, "hole": name, **asdict(result)})
    states = [str(row["state"]) for row in rows]
    print(", ".join(f"{states.count(s)} {s}" for s in ("open", "closed", "not tried")))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int("open" in states)


if __name__ == "__main__":
    sys.exit(main())
