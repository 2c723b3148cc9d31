"""Overhead and memory of Ray beside a plain loop at the same number of processes, and their rows.

python benchmarks/cohort.py --out RESULTS [--cts 200] [--workers 2] [--real CT ...] [--points]

A plain loop is as many processes as there are workers, each with its share of the studies and no
Ray. Processor time of every process that a run starts is counted, start-up included; wall clocks
of a machine that others use say little.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from resmtnet.ct.phantom import NoduleSpec, make_phantom, write_nifti

CENTRE_LPS_MM = (-75.0, 0.0, 20.0)
TEXTURES = ("solid", "part-solid", "non-solid")
EVERY_S = 0.5
RELATIVE = 1e-4
CTS, CORES = 25_000, 64
"""Of the arithmetic at the end, which is no measurement."""
LOOP = """
import sys, torch
from functools import partial
from pathlib import Path
from resmtnet import Characterizer
from resmtnet.cohort.score import score_cohort
from resmtnet.cohort.studies import list_studies
torch.set_num_threads(1)
source, out, part, of = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
score_cohort(list_studies(source)[part::of], partial(Characterizer.load, device="cpu"), out)
"""


def make_cohort(folder: Path, cts: int, real: Sequence[Path], pointed: bool) -> Path:
    """Small phantoms and links to real CTs; returns what --studies takes."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,x,y,z" if pointed else "path"]
    place = "," + ",".join(map(str, CENTRE_LPS_MM)) if pointed else ""
    for n in range(cts - len(real)):
        path = folder / f"phantom-{n:03}.nii"
        if not path.is_file():
            nodule = NoduleSpec(5.0 + n % 18, TEXTURES[n % 3], centre_lps_mm=CENTRE_LPS_MM)
            phantom = make_phantom(
                seed=n, shape_kji=(40, 56, 56), nodules=[nodule], centre_lps_mm=CENTRE_LPS_MM
            )
            write_nifti(phantom, path)
        lines.append(path.name + place)
    lines += [f"{path.resolve()}{place}" for path in real]
    table = folder / "studies.csv"
    table.write_text("\n".join(lines))
    return table


def watched(commands: Sequence[Sequence[str]]) -> dict[str, float]:
    """Run commands side by side; returns processor time and greatest memory of all they start."""
    started = time.monotonic()
    roots = [psutil.Process(subprocess.Popen(command).pid) for command in commands]
    cpu_s: dict[int, float] = {}
    peak_mb = store_mb = worker_mb = 0.0
    while any(root.is_running() and root.status() != psutil.STATUS_ZOMBIE for root in roots):
        total = 0.0
        for process in [p for root in roots for p in (root, *_below(root))]:
            try:
                times, memory = process.cpu_times(), process.memory_full_info()
                name = " ".join(process.cmdline()[:1])
            except psutil.Error:
                continue
            cpu_s[process.pid] = times.user + times.system
            total += memory.pss / 2**20
            if name.startswith("ray::MapWorker"):
                worker_mb = max(worker_mb, memory.uss / 2**20)
        peak_mb = max(peak_mb, total)
        store = sum(f.stat().st_blocks * 512 for f in Path("/dev/shm").glob("plasma*"))
        store_mb = max(store_mb, store / 2**20)
        time.sleep(EVERY_S)
    return {
        "cpu_s": sum(cpu_s.values()),
        "wall_s": time.monotonic() - started,
        "peak_mb": peak_mb,
        "peak_mb_of_a_worker": worker_mb,
        "peak_mb_of_the_object_store": store_mb,
    }


def _below(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


def differences(ray: Path, plain: Path) -> dict[str, Any]:
    """Compare the rows of two runs: texts equal, floats within 1e-4 relative."""
    from pyarrow import parquet

    found, expected = (parquet.read_table(p / "nodules.parquet").to_pylist() for p in (ray, plain))
    wrong, greatest = abs(len(found) - len(expected)), 0.0
    for row, other in zip(found, expected, strict=False):
        for name, value in other.items():
            if isinstance(value, float) and isinstance(row[name], float):
                greatest = max(greatest, abs(row[name] - value) / max(abs(value), 1e-9))
            else:
                wrong += row[name] != value
    return {"rows": len(expected), "unequal_fields": wrong, "greatest_relative": greatest}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cts", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--points", action="store_true", help="one point a CT, and no search")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    source = str(make_cohort(asked.out / "studies", asked.cts, asked.real, asked.points))
    plain, ray = asked.out / "plain", asked.out / "ray"
    for folder in (plain, ray):
        shutil.rmtree(folder, ignore_errors=True)
    parts = [str(n) for n in range(asked.workers)]
    of = str(asked.workers)
    loop = watched([[sys.executable, "-c", LOOP, source, str(plain), n, of] for n in parts])
    score = [sys.executable, "-m", "resmtnet.cli", "score", "--studies", source, "--device", "cpu"]
    by_ray = watched([[*score, "--out", str(ray), "--engine", "ray", "--workers", of]])
    subprocess.run([*score, "--out", str(plain)], check=True)  # the rows of both halves; no scoring
    per_ct_s = by_ray["cpu_s"] / asked.cts
    document = {
        "cts": asked.cts,
        "real": len(asked.real),
        "workers": asked.workers,
        "plain": loop,
        "ray": by_ray,
        "ray_over_plain_cpu": by_ray["cpu_s"] / loop["cpu_s"],
        "ray_over_plain_wall": by_ray["wall_s"] / loop["wall_s"],
        "cpu_s_a_ct": per_ct_s,
        "cts_an_hour_and_core": 3600 / per_ct_s,
        f"arithmetic_hours_of_{CTS}_cts_on_{CORES}_cores": CTS * per_ct_s / CORES / 3600,
        "rows": differences(ray, plain),
    }
    (asked.out / "cohort.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
