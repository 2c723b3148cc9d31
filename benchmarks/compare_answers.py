"""Findings of the same inputs by two versions of the package: what differs, and by how much.

    python benchmarks/compare_answers.py write LIDC_DATA before.json      # with the one version
    python benchmarks/compare_answers.py write LIDC_DATA after.json       # with the other
    python benchmarks/compare_answers.py compare before.json after.json

LIDC_DATA holds lidc/cubes.npz and ct/LIDC-IDRI-0001.tar.xz. Each cube is asked about at
its centre; the whole CT at the place of its nodule, and by a search of all of it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from resmtnet import Characterizer, CTVolume

TOLERANCE = 1e-4
"""Relative difference, or absolute below 1."""
NODULE_LPS_MM = (56.2, 86.2, -115.9)
"""Of LIDC-IDRI-0001."""
CONTEXTS = ("screening_baseline", "incidental")
CATEGORIES = ("lung_rads.category", "fleischner.category")
RANGES = ("lung_rads.range", "fleischner.range")
AXES = ("long_axis_mm", "short_axis_mm", "mean_diameter_mm")


def documents(data: Path) -> dict[str, Any]:
    """Return findings/1 of every input by name."""
    model, found = Characterizer.load(device="cpu"), {}
    cubes = np.load(data / "lidc" / "cubes.npz")["hu"]
    for n, hu in enumerate(cubes):
        ct = CTVolume.from_array(hu, (1.0, 1.0, 1.0), image_id=f"cube-{n}")
        centre = tuple((size - 1) / 2 for size in hu.shape[::-1])
        for context in CONTEXTS:
            findings = model(ct, centres_mm=[centre], context=context)
            found[f"{ct.image_id} {context}"] = model.document(ct, findings)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(data / "ct" / "LIDC-IDRI-0001.tar.xz") as packed:
            packed.extractall(folder, filter="data")
        ct = CTVolume.open(next(Path(folder).rglob("*.dcm")).parent)
        for context in CONTEXTS:
            findings = model(ct, centres_mm=[NODULE_LPS_MM], context=context)
            found[f"whole CT, click, {context}"] = model.document(ct, findings)
        found["whole CT, search"] = model.document(ct, model.find(ct))
    return found


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every number and text of a document with its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{n}]")
    else:
        yield path, value


def may_differ(path: str) -> bool:
    """Return whether a field follows the definition of the axes, names the model or is a time."""
    return (
        path.startswith(("timing_ms", "model."))
        or any(axis in path for axis in AXES)
        or ".guidelines." in path
    )


def same(one: Any, other: Any) -> bool:
    """Compare two leaves, numbers within the tolerance."""
    numbers = [isinstance(x, (int, float)) and not isinstance(x, bool) for x in (one, other)]
    if all(numbers):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == other)


def compare(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Print what differs; return how many fields differ that should not."""
    wrong, total, moved = 0, 0, 0
    for name in sorted(before.keys() | after.keys()):
        old, new = (dict(leaves(side.get(name, {}))) for side in (before, after))
        for path in old.keys() | new.keys():
            if may_differ(path):
                if path.endswith(CATEGORIES) and old.get(path) != new.get(path):
                    moved += 1
                    print(f"category  {name}: {old.get(path)} -> {new.get(path)} ({path})")
                elif any(f".{r}[" in path for r in RANGES) and old.get(path) != new.get(path):
                    print(f"range     {name}: {old.get(path)} -> {new.get(path)} ({path})")
                continue
            total += 1
            if path not in old or path not in new or not same(old[path], new[path]):
                wrong += 1
                print(f"DIFFERS   {name}: {path}: {old.get(path)!r} -> {new.get(path)!r}")
    print(f"{wrong} of {total} fields differ by more than {TOLERANCE:g}; {moved} categories moved")
    return wrong


def main() -> int:
    """Run a command of the module docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write")
    write.add_argument("data", type=Path)
    write.add_argument("out", type=Path)
    against = commands.add_parser("compare")
    against.add_argument("before", type=Path)
    against.add_argument("after", type=Path)
    args = parser.parse_args()
    if args.command == "write":
        args.out.write_text(json.dumps(documents(args.data), indent=1) + "\n")
        return 0
    return min(1, compare(*(json.loads(p.read_text()) for p in (args.before, args.after))))


if __name__ == "__main__":
    sys.exit(main())
