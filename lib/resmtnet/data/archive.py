"""Our on-disk training format, schema resmtnet.archive/1.

A folder that holds

    archive.json   schema, sha256 of the other files, where the data came from and its licence
    nodules.csv    one row per nodule (the columns are the fields of Nodule)
    voxels.npy     int16 HU of all nodules' crops, one after the other, memory-mapped
    masks.npy      uint8 of the same layout: share of readers and of the voxel inside, 255 = all

Crops keep their native grid: axes k, j, i run along S, P, L.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.errors import ArchiveError
from resmtnet.folders import check_place, published

SCHEMA = "resmtnet.archive/1"
HEAD = "archive.json"
FILES = ("nodules.csv", "voxels.npy", "masks.npy")


@dataclass(frozen=True)
class Nodule:
    """One nodule of an archive, without its voxels."""

    id: str
    patient_id: str
    split: str
    """"train" or "val"; patients never stand in both."""
    fold: int
    """Group of patients for cross-validation, -1 if there is none."""
    context: str
    """"full": the crop shows what surrounds the nodule; "none": it ends where the nodule ends."""
    shape_kji: tuple[int, int, int]
    spacing_kji_mm: tuple[float, float, float]
    centre_kji: tuple[float, float, float]
    """Voxel index of the nodule's centre in the crop."""
    slice_thickness_mm: float
    volume_mm3: float
    """Mean over readers of contour area times slice spacing."""
    long_axis_mm: float
    """Mean over readers of the greatest in-plane extent."""
    offset: int = 0
    """First voxel of the crop in voxels.npy."""
    ratings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Every reader's rating by characteristic; readers are in the same order in all of them."""

    @property
    def equivalent_diameter_mm(self) -> float:
        """Diameter of the sphere of volume_mm3."""
        return float((6 * self.volume_mm3 / np.pi) ** (1 / 3))

    @property
    def malignancy(self) -> tuple[int, ...]:
        """Every reader's malignancy."""
        return self.ratings.get("malignancy", ())


@dataclass(frozen=True, eq=False)
class Archive:
    """An opened archive; voxels stay on disk until they are asked for."""

    path: Path
    nodules: tuple[Nodule, ...]
    provenance: Mapping[str, Any]
    _voxels: NDArray[np.int16]
    _masks: NDArray[np.uint8]

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = False) -> Archive:
        """Open an archive folder.

        Args:
            path: the folder.
            verify: also compare the checksums, which reads everything.

        Raises:
            ArchiveError: not an archive, another version, or damaged.
        """
        path = Path(path)
        try:
            head = json.loads((path / HEAD).read_text())
        except (OSError, ValueError) as error:
            raise ArchiveError(
                f"{path}: no readable archive.json; make an archive by `resmtnet prepare` ({error})"
            ) from error
        if head.get("schema") != SCHEMA:
            raise ArchiveError(
                f"{path}: schema {head.get('schema')!r}; this version reads {SCHEMA}"
            )
        for name in FILES:
            if not (path / name).is_file():
                raise ArchiveError(f"{path}: {name} is missing; prepare the archive anew")
            if verify and _sha256(path / name) != head["sha256"][name]:
                raise ArchiveError(f"{path}: {name} is damaged (checksum); prepare it anew")
        with (path / "nodules.csv").open(newline="") as file:
            nodules = tuple(_from_row(row) for row in csv.DictReader(file))
        voxels, masks = (np.load(path / name, mmap_mode="r") for name in FILES[1:])
        return cls(path, nodules, head["provenance"], voxels, masks)

    def voxels_hu(self, nodule: Nodule) -> NDArray[np.int16]:
        """Return the crop of a nodule, int16 HU [k, j, i]."""
        return self._part(self._voxels, nodule)

    def mask(self, nodule: Nodule) -> NDArray[np.uint8]:
        """Return the readers' mask of a nodule, uint8 [k, j, i], 255 = all readers, all inside."""
        return self._part(self._masks, nodule)

    @staticmethod
    def _part(values: NDArray[Any], nodule: Nodule) -> NDArray[Any]:
        size = int(np.prod(nodule.shape_kji))
        return values[nodule.offset : nodule.offset + size].reshape(nodule.shape_kji)


def write(
    path: Path,
    crops: Iterable[tuple[Nodule, NDArray[np.int16], NDArray[np.uint8]]],
    provenance: Mapping[str, Any],
) -> int:
    """Write an archive; the folder appears only when it is complete.

    Args:
        path: folder to make; an archive that stands there is replaced.
        crops: nodule, HU [k, j, i] and mask [k, j, i].
        provenance: source, licence, attribution; kept in archive.json.

    Returns:
        Number of nodules written.
    """
    check_place(path, HEAD)
    rows: list[dict[str, str]] = []
    voxels: list[NDArray[np.int16]] = []
    masks: list[NDArray[np.uint8]] = []
    offset = 0
    for nodule, hu, mask in crops:
        rows.append(_to_row(dataclasses.replace(nodule, offset=offset)))
        voxels.append(hu.ravel())
        masks.append(mask.ravel())
        offset += hu.size
    if not rows:
        raise ArchiveError(f"{path}: the source holds no usable nodule, nothing was written")
    with published(path, HEAD) as draft:
        with (draft / "nodules.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        np.save(draft / "voxels.npy", np.concatenate(voxels))
        np.save(draft / "masks.npy", np.concatenate(masks))
        head = {
            "schema": SCHEMA,
            "sha256": {name: _sha256(draft / name) for name in FILES},
            "nodules": len(rows),
            "provenance": dict(provenance),
        }
        (draft / HEAD).write_text(json.dumps(head, indent=1))
    return len(rows)


def _to_row(nodule: Nodule) -> dict[str, str]:
    row: dict[str, str] = {}
    for entry in dataclasses.fields(nodule):
        value = getattr(nodule, entry.name)
        if entry.name == "ratings":
            row |= {t.name: _join(value.get(t.name, ())) for t in LIDC_RATINGS}
        else:
            row[entry.name] = _join(value) if isinstance(value, tuple) else str(value)
    return row


def _join(values: Sequence[float]) -> str:
    return " ".join(str(value) for value in values)


def _from_row(row: Mapping[str, str]) -> Nodule:
    def three(name: str) -> tuple[float, float, float]:
        a, b, c = (float(part) for part in row[name].split())
        return a, b, c

    k, j, i = (int(n) for n in three("shape_kji"))
    ratings = {t.name: tuple(int(part) for part in row[t.name].split()) for t in LIDC_RATINGS}
    return Nodule(
        id=row["id"],
        patient_id=row["patient_id"],
        split=row["split"],
        fold=int(row["fold"]),
        context=row["context"],
        shape_kji=(k, j, i),
        spacing_kji_mm=three("spacing_kji_mm"),
        centre_kji=three("centre_kji"),
        slice_thickness_mm=float(row["slice_thickness_mm"]),
        volume_mm3=float(row["volume_mm3"]),
        long_axis_mm=float(row["long_axis_mm"]),
        offset=int(row["offset"]),
        ratings=ratings,
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
