"""The cost of a prediction: parameters, arithmetic, time on a CPU, bytes on disk, start-up.

    python benchmarks/cost.py [CUBES] [--model DIR] [--nodules 24] [--json FILE]

CUBES is an archive of nodules with full context (`resmtnet prepare cubes`); without it, phantoms
of 5 to 25 mm are answered. Everything of an answer is counted: sampling, every member and view of
the heads, the mask grown as far as the nodule goes, its measurement. GFLOPs are those of
torch.utils.flop_counter (a multiplication and an addition are two; convolutions and matrix
products only). Start-up is that of fresh processes with warm page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from made_inputs import phantom_nodule
from perturbations import Click
from resmtnet import Characterizer
from resmtnet.data.archive import Archive
from resmtnet.data.volumes import nodule_ct
from resmtnet.inference.model_folder import default_model_dir

LIMIT_MS = 200.0
"""Most that one nodule may take, median, on 2 cores."""
LIMIT_MB = 10.0
"""Most that all members' weights may take on disk."""
STARTS = 3
START = """
import json, sys, time
started = time.perf_counter()
from resmtnet import Characterizer
imported = time.perf_counter()
Characterizer.load(sys.argv[1], "cpu")
print(json.dumps([imported - started, time.perf_counter() - imported]))
"""


def nodules(archive: Path | None, count: int) -> list[Click]:
    """Return nodules spread evenly over the archive, or phantoms."""
    if archive is not None:
        opened = Archive.open(archive)
        index = np.linspace(0, len(opened.nodules) - 1, min(count, len(opened.nodules)))
        return [nodule_ct(opened, opened.nodules[int(n)]) for n in index]
    return [
        phantom_nodule(seed, diameter_mm)[0]
        for seed, diameter_mm in enumerate(np.linspace(5, 25, min(count, 8)).tolist())
    ]


def gigaflops(model: Characterizer, clicks: Sequence[Click]) -> dict[str, float]:
    """Return the median arithmetic of the heads and of the whole answer, GFLOPs."""
    heads, whole = [], []
    for ct, point in clicks:
        with FlopCounterMode(display=False) as counter:
            model.inference.heads([model.inference.sampler(ct, point)])
        heads.append(counter.get_total_flops() / 1e9)
        with FlopCounterMode(display=False) as counter:
            model(ct, [point])
        whole.append(counter.get_total_flops() / 1e9)
    masks = [both - alone for both, alone in zip(whole, heads, strict=True)]
    return {
        "heads": statistics.median(heads),
        "mask": statistics.median(masks),
        "mask_most": max(masks),
        "answer": statistics.median(whole),
    }


def milliseconds(model: Characterizer, clicks: Sequence[Click], threads: int) -> dict[str, float]:
    """Return wall-clock and processor time per nodule; the second run of each counts."""
    torch.set_num_threads(threads)
    wall, processor = [], []
    for ct, point in clicks:
        model(ct, [point])
        started, used = time.perf_counter(), time.process_time()
        model(ct, [point])
        wall.append(1e3 * (time.perf_counter() - started))
        processor.append(1e3 * (time.process_time() - used))
    low, median, high = np.quantile(wall, [0.1, 0.5, 0.9])
    return {
        "median": float(median),
        "p10": float(low),
        "p90": float(high),
        "processor_median": statistics.median(processor),
    }


def start_up(folder: Path) -> dict[str, float]:
    """Return seconds of import and of Characterizer.load in fresh processes, medians."""
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", START, str(folder)], check=True, stdout=subprocess.PIPE
            ).stdout
        )
        for _ in range(STARTS)
    ]
    imported, loaded = (statistics.median(values) for values in zip(*runs, strict=True))
    return {"import_s": imported, "load_s": loaded}


def megabytes(folder: Path) -> dict[str, float]:
    """Return the size of each of the model's files that is not text, and of all of them, MB."""
    sizes = {file.name: file.stat().st_size / 1e6 for file in folder.iterdir() if file.is_file()}
    tensors = {name: size for name, size in sorted(sizes.items()) if name.endswith(".safetensors")}
    return tensors | {"all files": sum(sizes.values())}


def measure(folder: Path, clicks: Sequence[Click]) -> dict[str, Any]:
    model = Characterizer.load(folder, "cpu")
    networks = model.model.networks
    parameters = [sum(p.numel() for p in network.parameters()) for network in networks]
    return {
        "model": {"version": model.info.version, "sha256": model.info.sha256},
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
        "nodules": len(clicks),
        "members": len(networks),
        "parameters_per_member": parameters,
        "gigaflops": gigaflops(model, clicks),
        "milliseconds": {str(threads): milliseconds(model, clicks, threads) for threads in (1, 2)},
        "megabytes": megabytes(folder),
        "start_up": start_up(folder),
    }


def table(found: dict[str, Any]) -> str:
    flops, start = found["gigaflops"], found["start_up"]
    per_member = " + ".join(f"{n / 1e6:.2f} M" for n in found["parameters_per_member"])
    rows = [
        ("members", str(found["members"])),
        ("parameters", per_member),
        ("GFLOPs of the heads, all members and views", f"{flops['heads']:.2f}"),
        (
            "GFLOPs of the mask, median (most)",
            f"{flops['mask']:.2f} ({flops['mask_most']:.2f})",
        ),
        ("GFLOPs of an answer, median", f"{flops['answer']:.2f}"),
    ]
    for threads, ms in found["milliseconds"].items():
        spread = f"{ms['median']:.0f} ms ({ms['p10']:.0f} to {ms['p90']:.0f})"
        name = f"wall clock per nodule, {threads} thread{'s' if threads != '1' else ''}"
        rows.append((f"{name}, median (10th to 90th)", spread))
        rows.append((f"processor time of that, {threads}", f"{ms['processor_median']:.0f} ms"))
    rows += [(f"{name}", f"{size:.2f} MB") for name, size in found["megabytes"].items()]
    rows += [
        ("start-up: import of the class", f"{start['import_s']:.2f} s"),
        ("start-up: Characterizer.load", f"{start['load_s']:.2f} s"),
    ]
    lines = ["| cost | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines)


def verdicts(found: dict[str, Any]) -> list[str]:
    median_ms = found["milliseconds"]["2"]["median"]
    weights = {n: s for n, s in found["megabytes"].items() if n.startswith("weights")}
    weights_mb = sum(weights.values())
    return [
        f"one nodule on 2 threads: {median_ms:.0f} ms, at most {LIMIT_MS:.0f} asked: "
        f"{'met' if median_ms <= LIMIT_MS else 'missed'}",
        f"weights of all members: {weights_mb:.2f} MB, at most {LIMIT_MB:.0f} asked: "
        f"{'met' if weights_mb <= LIMIT_MB else 'missed'}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cubes", nargs="?", type=Path, help="archive of nodules; default: phantoms")
    parser.add_argument("--model", type=Path, help="default: the shipped model")
    parser.add_argument("--nodules", type=int, default=24, help="how many are timed")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    found = measure(given.model or default_model_dir(), nodules(given.cubes, given.nodules))
    print(f"{found['nodules']} nodules, {found['cpus']} CPUs, torch {found['torch']}\n")
    print(table(found), "\n")
    print("\n".join(verdicts(found)))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
