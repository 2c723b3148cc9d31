"""Mutated input files: no crash, no hang, no foreign exception, bounded memory, valid geometry.

    python benchmarks/fuzz_inputs.py [--inputs 100000] [--seed 0] [--kinds dicom,...] [--json FILE]

Small valid files of every kind that the package reads are mutated at random (bits, bytes, numbers,
blocks, header fields, truncation) and read the way the package reads them: a CT is opened, read
whole and cut around a point; a mask, a markups document and a reading become readings. A worker
process with a limit of memory reads them, so that a crash or a hang is counted and not fatal.

Counted as a defect:
    crash      the worker dies
    hang       one input takes more than 10 s
    foreign    an exception that is no ResMTNetError
    memory     the worker asks for more than 1.5 GiB of address space beyond its start
    geometry   a grid is accepted that is not finite and orthonormal

Defects are written with their seeds; `--only KIND:SEED` reads one of them again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from damaged_files import (
    Files,
    dicom_files,
    hu,
    layered_files,
    markups_files,
    meta_files,
    mutated,
    nifti_files,
    nifti_mask_files,
    nrrd_files,
    reading_files,
    seg_files,
)

HANG_S = 10.0
MEMORY_BYTES = 1_610_612_736
"""Beyond what the worker has when it starts."""
_BATCH = 50
"""Inputs that the worker is handed at a time."""
# -- what reads them -------------------------------------------------------------------------------


def check_grid(grid: Any) -> None:
    """Raise an AssertionError for a grid that no reader may accept."""
    numbers = [*grid.spacing_mm, *grid.origin_lps_mm, *np.ravel(grid.direction)]
    assert np.isfinite(numbers).all(), f"geometry: not finite: {numbers}"
    assert min(grid.spacing_mm) > 0, f"geometry: spacing {grid.spacing_mm}"
    apart = np.abs(grid.direction.T @ grid.direction - np.eye(3)).max()
    assert apart < 0.01, f"geometry: not orthonormal by {apart}"


def read_ct(path: Path) -> None:
    """Open a CT, read it whole, and cut a box out of it."""
    from resmtnet import CTVolume

    ct = CTVolume.open(path)
    check_grid(ct.geometry)
    ct.crop(ct.geometry.ijk_to_lps((4, 4, 2)), 5.0)
    if np.prod([float(n) for n in ct.geometry.size_ijk]) < 2**26:
        ct.array()


def read_series(path: Path) -> None:
    """Open a folder of DICOM files."""
    read_ct(path.parent)


def read_mask(path: Path) -> None:
    """Make readings of a mask."""
    from resmtnet.readings.formats.label_map import read_label_map
    from resmtnet.readings.formats.mask_label import read_mask as parse

    check_grid(read_label_map(path).geometry)
    parse(path, {"label_info": [{"name": "malignant", "idx": 1}]}, [])


def read_markups(path: Path) -> None:
    """Make readings of a Markups document."""
    from resmtnet.readings.formats.documents import read_json
    from resmtnet.readings.formats.from_markups import from_markups

    document = read_json(path)
    if isinstance(document, dict):
        for draft in from_markups(document).drafts:
            draft.reading("ct", "A", "markups", mask=None)


def read_reading(path: Path) -> None:
    """Make readings of a list of reading documents."""
    from resmtnet.readings.formats.documents import read_documents, read_json

    read_documents(read_json(path), "ct", "A")


Reader = Callable[[Path], None]


def kinds() -> dict[str, tuple[Files, Reader]]:
    """The valid files of each kind, and what reads them."""
    jpeg = "1.2.840.10008.1.2"
    return {
        "dicom": (dicom_files(f"{jpeg}.1"), read_series),
        "dicom-implicit": (dicom_files(jpeg), read_series),
        "dicom-big": (dicom_files(f"{jpeg}.2"), read_series),
        "dicom-deflated": (dicom_files(f"{jpeg}.1.99"), read_series),
        "dicom-rle": (dicom_files(f"{jpeg}.5"), read_series),
        "nifti": (nifti_files(".nii"), read_ct),
        "nifti-gz": (nifti_files(".nii.gz"), read_ct),
        "nifti-2": (nifti_files(".nii", 2), read_ct),
        "nrrd": (nrrd_files("raw", hu(), "ct.nrrd"), read_ct),
        "nrrd-gz": (nrrd_files("gzip", hu(), "ct.nrrd"), read_ct),
        "mha": (meta_files("ct.mha"), read_ct),
        "mha-zlib": (meta_files("ct.mha", compressed=True), read_ct),
        "mhd": (meta_files("ct.mhd"), read_ct),
        "seg": (seg_files(), read_mask),
        "seg-layers": (layered_files(), read_mask),
        "mask-nifti": (nifti_mask_files(), read_mask),
        "markups": (markups_files(), read_markups),
        "reading": (reading_files(), read_reading),
    }


# -- the worker ------------------------------------------------------------------------------------


def one(kind: str, seed: int, files: Files, reader: Reader, folder: Path) -> tuple[str, str]:
    """The outcome of one input, and what is to be told of it."""
    from resmtnet.errors import ResMTNetError

    inputs = mutated(files, random.Random(f"{kind}:{seed}"))
    for old in folder.iterdir():
        old.unlink()
    for name, data in inputs.items():
        (folder / name).write_bytes(data)
    try:
        reader(folder / next(iter(inputs)))
    except ResMTNetError as error:
        return ("refused", "") if len(str(error)) < 5000 else ("foreign", "a message too long")
    except MemoryError as error:
        return "memory", _told(error)
    except AssertionError as error:
        text = str(error)
        return ("geometry" if text.startswith("geometry") else "foreign"), _told(error)
    except BaseException as error:
        return "foreign", _told(error)
    return "read", ""


def _told(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-5:]))
    return f"{type(error).__name__}: {str(error)[:200]} at {where}"


def work(pipe: Connection, cache: str) -> None:
    """Read the inputs that the pipe names, and send back the outcome of each."""
    os.environ["RESMTNET_CACHE_DIR"] = cache
    os.environ["RESMTNET_CACHE_BYTES"] = "10000000"
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C++ readers print
    import logging
    import warnings

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    table = kinds()
    for name, (files, reader) in table.items():  # imports, before the limit is set
        with tempfile.TemporaryDirectory() as made:
            for file, data in files.items():
                (Path(made) / file).write_bytes(data)
            reader(Path(made) / next(iter(files)))
            pipe.send(("valid", name, "", 0))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        while True:
            kind, seeds = pipe.recv()
            for seed in seeds:
                outcome, told = one(kind, seed, *table[kind], folder)
                pipe.send((kind, seed, outcome, told))


class Worker:
    """A process that reads inputs, and is started anew when it dies or hangs."""

    def __init__(self, cache: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(other, cache), daemon=True)
        self.process.start()
        other.close()
        for _ in kinds():
            if not self.pipe.poll(300):
                raise RuntimeError("the worker cannot read the valid files")
            self.pipe.recv()

    def read(self, kind: str, seeds: list[int]) -> list[tuple[int, str, str]]:
        """Outcomes of some inputs; fewer than asked for if one of them crashes or hangs."""
        self.pipe.send((kind, seeds))
        found: list[tuple[int, str, str]] = []
        for seed in seeds:
            if not self.pipe.poll(HANG_S):
                return [*found, (seed, "hang", f"more than {HANG_S} s")]
            try:
                _, _, outcome, told = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                self.process.join()
                return [*found, (seed, "crash", f"exit code {self.process.exitcode}")]
            found.append((seed, outcome, told))
        return found

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()


def run(names: list[str], inputs: int, seed: int) -> dict[str, Any]:
    """Read so many mutated inputs, evenly of all kinds."""
    started = time.perf_counter()
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in names}
    defects: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        worker = Worker(cache)
        for name in names:
            waiting = [seed * 10_000_000 + n for n in range(-(-inputs // len(names)))]
            while waiting:
                asked = waiting[:_BATCH]
                found = worker.read(name, asked)
                waiting = waiting[len(found) :]
                for one_seed, outcome, told in found:
                    outcomes[name][outcome] += 1
                    if outcome not in ("read", "refused"):
                        defects.append({"input": f"{name}:{one_seed}", "as": outcome, "told": told})
                        print(f"  {outcome} {name}:{one_seed} {told}", flush=True)
                if found[-1][1] in ("crash", "hang"):
                    worker.stop()
                    worker = Worker(cache)
            print(f"{name:16} {dict(outcomes[name])}", flush=True)
        worker.stop()
    total = sum(outcomes.values(), Counter())
    return {
        "inputs": total.total(),
        "outcomes": dict(total),
        "by_kind": {name: dict(counter) for name, counter in outcomes.items()},
        "defects": defects,
        "seed": seed,
        "seconds": round(time.perf_counter() - started),
    }


def main() -> int:
    """Run, print and write the figures; 1 if there are defects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", help="comma-separated; default: all")
    parser.add_argument("--only", help="KIND:SEED, one input in this process")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.only:
        kind, _, number = options.only.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            os.environ["RESMTNET_CACHE_DIR"] = folder + "-cache"
            print(one(kind, int(number), *kinds()[kind], Path(folder)))
        return 0
    names = options.kinds.split(",") if options.kinds else list(kinds())
    found = run(names, options.inputs, options.seed)
    print(json.dumps({k: v for k, v in found.items() if k != "by_kind"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["defects"] else 0


if __name__ == "__main__":
    sys.exit(main())
