"""Whether the first click after a start waits: two equal CTs in turn, in new processes.

    python benchmarks/first_click.py [SERIES --at X,Y,Z] [--starts 5] [--without-warm-up]

Every start is a process of its own: the model is loaded and warmed up, as a server does it, then
the first copy of the series is opened and clicked at, then the second. What a click costs once in
the life of a process is the ratio of the two times. SERIES is the folder of a DICOM series; without
it a phantom is written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NODULE_LPS_MM = (-75.0, 0.0, 20.0)
"""Of the phantom."""


def write_phantom(folder: Path) -> None:
    """Write a series of 512 x 512 x 60."""
    from resmtnet.ct.phantom import NoduleSpec, make_phantom, write_dicom_series

    nodule = NoduleSpec(12.0, "solid", centre_lps_mm=NODULE_LPS_MM)
    shape, spacing_mm = (60, 512, 512), (2.5, 0.7, 0.7)
    phantom = make_phantom(
        seed=1,
        shape_kji=shape,
        spacing_mm=spacing_mm,
        nodules=[nodule],
        centre_lps_mm=NODULE_LPS_MM,
    )
    write_dicom_series(phantom, folder)


def clicks(folders: list[str], at: tuple[float, ...], warm_up: bool) -> list[float]:
    """Return wall and CPU milliseconds of a click on each series: opened, answered, a document."""
    from resmtnet import Characterizer, CTVolume

    model, found = Characterizer.load(device="cpu"), []
    if warm_up:
        model.warm_up()
    for folder in folders:
        start, cpu = time.perf_counter(), time.process_time()
        ct = CTVolume.open(folder)
        model.document(ct, model(ct, [at], context="screening_baseline"))
        found += [1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - cpu)]
    return found


def main() -> int:
    """Run the starts one after the other and print the ratio of first and second clicks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", nargs="?", type=Path, help="folder of a DICOM series")
    parser.add_argument("--at", metavar="X,Y,Z", help="the click, LPS mm")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--without-warm-up", action="store_true")
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    at = tuple(float(part) for part in given.at.split(",")) if given.at else NODULE_LPS_MM
    if given.once:
        print(json.dumps(clicks(given.once, at, not given.without_warm_up)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        copies = [Path(scratch) / "first", Path(scratch) / "second"]
        if given.series:
            shutil.copytree(given.series, copies[0])
        else:
            write_phantom(copies[0])
        shutil.copytree(copies[0], copies[1])
        command = [sys.executable, __file__, "--at", ",".join(map(str, at))]
        command += ["--without-warm-up"] if given.without_warm_up else []
        times = []
        for start in range(given.starts + 1):
            cache = Path(scratch) / f"cache-{start}"
            done = subprocess.run(
                [*command, "--once", *map(str, copies)],
                env={**os.environ, "RESMTNET_CACHE_DIR": str(cache)},
                capture_output=True,
                text=True,
                check=True,
            )
            if start:  # the one before filled the page cache
                times.append(json.loads(done.stdout.splitlines()[-1]))
    columns = [statistics.median(column) for column in zip(*times, strict=True)]
    for name, first, second in zip(("wall", "CPU"), columns[:2], columns[2:], strict=True):
        print(
            f"{name}, median: first {first:.0f} ms, second {second:.0f} ms, "
            f"ratio {first / second:.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
