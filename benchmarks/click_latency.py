"""How long a click takes: this package and the stock MONAI way, alternating in one run.

    python benchmarks/click_latency.py [SERIES --at X,Y,Z] [--repeats 5] [--model DIR] [--json FILE]

SERIES is the folder of a DICOM series (default: a phantom is written). Both start cold on it: our
caches for this CT are empty, MONAI's transforms keep none. Process, imports, model and the
operating system's page cache are warm for both.

    ours   CTVolume.open, then the Characterizer at the click: class, score, sizes and mask
    stock  LoadImaged, Orientationd and Spacingd to 1 mm over the whole volume, then a patch of
           48 mm: the usual first transforms of an app, before any network
    warm   the Characterizer at the click on the CT that is open already
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Spacingd

from resmtnet import Characterizer, CTVolume
from resmtnet.ct.phantom import NoduleSpec, make_phantom, write_dicom_series
from resmtnet.types import Point

PATCH_MM = 48
WARM_LIMIT_S = 0.250
RATIO_ASKED = 15.0


def ours(series: Path, at: Point, model: Characterizer) -> CTVolume:
    """Answer a click on a CT that nothing has read yet; return the opened CT."""
    ct = CTVolume.open(series)
    model(ct, [at])
    return ct


def stock(series: Path, at: Point) -> Any:
    """Return the patch [1, 48, 48, 48] around a click, made the way the sample apps do."""
    transforms = Compose(
        [
            LoadImaged("image", reader="ITKReader"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            Spacingd("image", pixdim=(1.0, 1.0, 1.0), mode="bilinear"),
        ]
    )
    image = transforms({"image": str(series)})["image"]
    ras = torch.tensor([-at[0], -at[1], at[2], 1.0], dtype=torch.float64)
    index = torch.linalg.inv(image.affine.to(torch.float64)) @ ras
    start = [max(0, round(float(x)) - PATCH_MM // 2) for x in index[:3]]
    i, j, k = start
    return image[:, i : i + PATCH_MM, j : j + PATCH_MM, k : k + PATCH_MM].clone()


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def phantom_series(folder: Path) -> tuple[Path, Point]:
    """Write a series of 512 x 512 x 120 and return it with the centre of its nodule, LPS mm."""
    at = (-75.0, 0.0, 20.0)
    nodule = NoduleSpec(12.0, "solid", centre_lps_mm=at)
    phantom = make_phantom(
        seed=1, shape_kji=(120, 512, 512), spacing_mm=(2.5, 0.7, 0.7), nodules=[nodule]
    )
    write_dicom_series(phantom, folder)
    return folder, at


def measure(series: Path, at: Point, model: Characterizer, repeats: int) -> dict[str, list[float]]:
    model.warm_up()
    stock(series, at)  # lazy imports, and the page cache for both
    times: dict[str, list[float]] = {"ours": [], "stock": [], "warm": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as empty:
            os.environ["RESMTNET_CACHE_DIR"] = empty
            cold, ct = seconds(lambda: ours(series, at, model))
            times["ours"].append(cold)
            times["warm"].append(seconds(lambda ct=ct: model(ct, [at]))[0])
        times["stock"].append(seconds(lambda: stock(series, at))[0])
    return times


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", nargs="?", type=Path, help="folder of a DICOM series")
    parser.add_argument("--at", metavar="X,Y,Z", help="the click, LPS mm")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", type=Path, help="default: the shipped model")
    parser.add_argument("--json", type=Path, help="also write the times to this file")
    given = parser.parse_args()
    if (given.series is None) != (given.at is None):
        parser.error("give SERIES and --at X,Y,Z together, or neither")
    with tempfile.TemporaryDirectory() as scratch:
        if given.series is None:
            series, at = phantom_series(Path(scratch) / "series")
        else:
            x, y, z = (float(part) for part in given.at.split(","))
            series, at = given.series, (x, y, z)
        model = Characterizer.load(given.model)
        times = measure(series, at, model, given.repeats)
        n_files = len(list(series.iterdir()))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["stock"] / medians["ours"]
    print(f"{n_files} files, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, values in times.items():
        runs = " ".join(f"{value:.3f}" for value in values)
        print(f"{name:6s} median {medians[name]:7.3f} s   runs {runs}")
    enough, quick = ratio >= RATIO_ASKED, medians["warm"] <= WARM_LIMIT_S
    print(f"stock / ours: {ratio:.1f}, at least {RATIO_ASKED:.0f} asked: {verdict(enough)}")
    warm_ms, limit_ms = 1e3 * medians["warm"], 1e3 * WARM_LIMIT_S
    print(f"already opened: {warm_ms:.0f} ms, at most {limit_ms:.0f} asked: {verdict(quick)}")
    if given.json:
        document = {"seconds": times, "medians": medians, "ratio": ratio}
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if enough and quick else 1


if __name__ == "__main__":
    sys.exit(main())
