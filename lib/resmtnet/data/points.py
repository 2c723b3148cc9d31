"""Source: a folder of image files and a CSV of points, as LUNA16 and LUNA25 are handed out.

A column mapping says what the columns of the CSV are here. Points are ITK's physical coordinates,
which are LPS mm. What the CSV does not tell stays unknown: sizes are NaN, there is no mask, and a
label of the source is kept apart from readers' ratings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.ct.image_file import image_suffix
from resmtnet.ct.volume import CTVolume
from resmtnet.data.archive import Crop, Nodule
from resmtnet.data.consensus import ratings_in_scale
from resmtnet.data.table import TableRow, read_table
from resmtnet.data.upright import upright_crop
from resmtnet.errors import ArchiveError, VolumeError

NEEDED = ("image", "x", "y", "z")
OPTIONAL = (
    "patient",
    "id",
    "split",
    "fold",
    "long_axis_mm",
    "short_axis_mm",
    "equivalent_diameter_mm",
    "volume_mm3",
    "malignant_label",
    "nodule_label",
    *(task.name for task in LIDC_RATINGS),
)
"""What else a column may be; a rating is one reader's, or several in one field."""

LUNA16 = {"seriesuid": "image", "coordX": "x", "coordY": "y", "coordZ": "z"}
"""The columns of LUNA16's annotations.csv; diameter_mm is left to the user, see parse_columns."""

EDGE_MM = 64.0

Warn = Callable[[str], None]


def parse_columns(text: str) -> dict[str, str]:
    """Read a column mapping "theirs=ours,theirs=ours".

    A diameter must be named for what it measures: long_axis_mm (greatest in-plane extent) or
    equivalent_diameter_mm (of the sphere of the same volume); they differ by a quarter.

    Raises:
        ArchiveError: not of that form, a name that is unknown or given twice, or one missing.

    >>> parse_columns("seriesuid=image,coordX=x,coordY=y,coordZ=z")["coordX"]
    'x'
    """
    columns: dict[str, str] = {}
    for part in text.split(","):
        theirs, equals, ours = (piece.strip() for piece in part.partition("="))
        if not equals or not theirs or ours not in (*NEEDED, *OPTIONAL):
            raise ArchiveError(
                f"{part!r} in the column mapping: theirs=ours is needed, where ours is one of "
                f"{', '.join((*NEEDED, *OPTIONAL))}"
            )
        columns[theirs] = ours
    _check_mapping(list(columns.values()))
    return columns


def _check_mapping(names: Sequence[str]) -> None:
    missing = [name for name in NEEDED if name not in names]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if missing or twice:
        wrong = [f"lacks {name}" for name in missing] + [f"names {name} twice" for name in twice]
        raise ArchiveError(
            f"the column mapping {', '.join(wrong)}: it must name each of {', '.join(NEEDED)} "
            "once, and no other name twice"
        )


def provenance_of(points: Path, data: str, label_evidence: str) -> dict[str, Any]:
    """Return what archive.json says of such a source.

    Args:
        points: the CSV.
        data: name, doi or address of the data and its licence, as the user gives it.
        label_evidence: what malignant_label rests on, as the user gives it ("histology", ...).
    """
    return {
        "data": data or f"points of {points.name}, origin and licence not stated",
        "form": "crops of the images on their own grid, with full context",
        "mask": "none",
        "label_evidence": label_evidence or "not stated",
    }


def read_points(
    images: Path,
    points: Path,
    columns: Mapping[str, str] = LUNA16,
    *,
    edge_mm: float = EDGE_MM,
    patients: Collection[str] | None = None,
    warn: Warn = lambda text: None,
) -> Iterator[Crop]:
    """Yield a crop around every point, with what the CSV tells of it.

    Split and fold are left open ("train", -1) where the CSV has none: see data.splits.

    Args:
        images: folder of .mhd, .mha, .nii, .nii.gz or .nrrd files, also in subfolders, each
            named as the column "image" says.
        points: the CSV.
        columns: names here by column of the CSV.
        edge_mm: width of a crop.
        patients: use only these; None: all.
        warn: told of what is left out and why.

    Raises:
        ArchiveError: a file or a column is missing, or a value is no number.
    """
    rows = _rows(points, columns)
    files = _image_files(images)
    if "patient" not in columns.values():
        warn("no column is the patient: each image is taken as a patient of its own")
    for image, of_image in rows.items():
        chosen = [
            r for r in of_image if patients is None or (r.get("patient") or image) in patients
        ]
        if len(chosen) < len(of_image):
            count = len(of_image) - len(chosen)
            warn(f"{image}: {count} points of patients that the splits lack are left out")
        if not chosen:
            continue
        if image not in files:
            warn(f"{images} holds no image {image}: {len(chosen)} points are left out")
            continue
        try:
            ct = CTVolume.open(files[image])
        except VolumeError as error:
            warn(f"{image} is left out: {error}")
            continue
        for number, row in enumerate(chosen):
            crop = _crop(ct, image, row, f"{image}_{number}", edge_mm, warn)
            if crop is not None:
                yield crop


def _rows(points: Path, columns: Mapping[str, str]) -> dict[str, list[TableRow]]:
    """Return the rows by image, with our names."""
    if not points.is_file():
        raise ArchiveError(f"{points} is missing: give a CSV of points")
    advice = ": say by --columns which is which"
    rows: dict[str, list[TableRow]] = {}
    for row in read_table(points, list(columns), columns, advice):
        row.check_filled(NEEDED)
        rows.setdefault(row.text("image"), []).append(row)
    return rows


def _image_files(folder: Path) -> dict[str, Path]:
    """Return the image files below a folder by name without suffix."""
    if not folder.is_dir():
        raise ArchiveError(f"{folder} is no folder: give the folder of the images")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        suffix = image_suffix(path)
        if suffix is not None:
            files.setdefault(path.name[: -len(suffix)], path)
    return files


def _crop(
    ct: CTVolume, image: str, row: TableRow, name: str, edge_mm: float, warn: Warn
) -> Crop | None:
    name = row.get("id") or name
    centre = row.number("x"), row.number("y"), row.number("z")
    if not ct.geometry.contains(centre):
        warn(f"{name}: the point {centre} (LPS mm) lies outside {image}: left out")
        return None
    crop = upright_crop(ct, centre, edge_mm)
    for text in crop.warnings:
        warn(f"{name}: {text}")
    k, j, i = crop.hu.shape
    short, fold = row.number_or_nan("short_axis_mm"), row.get("fold")
    nodule = Nodule(
        id=name,
        patient_id=row.get("patient") or image,
        split=row.get("split") or "train",
        fold=row.whole("fold") if fold else -1,
        context="full",
        shape_kji=(k, j, i),
        spacing_kji_mm=crop.spacing_kji_mm,
        centre_kji=crop.centre_kji,
        slice_thickness_mm=crop.spacing_kji_mm[0],
        volume_mm3=_volume_mm3(row),
        long_axis_mm=row.number_or_nan("long_axis_mm"),
        reader_short_axes_mm=() if math.isnan(short) else (short,),
        ratings=_ratings(row),
        mask_readers=0,
        malignant_label=_label(row, "malignant_label"),
        nodule_label=_label(row, "nodule_label"),
        series_uid=image,
        centre_lps_mm=centre,
    )
    return nodule, crop.hu, np.zeros(crop.hu.shape, np.uint8)


def _label(row: TableRow, name: str) -> int | None:
    label = row.number_or_nan(name)
    if label not in (0, 1) and not math.isnan(label):
        raise row.error(name, f"{name} is {row.get(name)!r}; allowed: 0, 1")
    return None if math.isnan(label) else int(label)


def _volume_mm3(row: TableRow) -> float:
    if row.get("volume_mm3"):
        return row.number("volume_mm3")
    return math.pi / 6 * row.number_or_nan("equivalent_diameter_mm") ** 3


def _ratings(row: TableRow) -> dict[str, tuple[int, ...]]:
    rated = [task.name for task in LIDC_RATINGS if row.get(task.name)]
    return ratings_in_scale({name: row.wholes(name) for name in rated})
