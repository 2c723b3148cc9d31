"""The on-disk format of training data, schema resmtnet.archive/2; docs/archive.md describes it.

A folder that holds

    archive.json   schema, sha256 of the other files, where the data came from and its licence
    nodules.csv    one row per nodule (the columns are the fields of Nodule)
    voxels.npy     int16 HU of all nodules' crops, one after the other, memory-mapped
    masks.npy      uint8 of the same layout: share of readers and of the voxel inside, 255 = all

Crops keep their native grid: axes k, j, i run along S, P, L. Archives of schema 1 are read too;
what their rows lack is unknown.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from resmtnet.data.nodule import COLUMNS, MISSING, Nodule, from_row, to_row
from resmtnet.errors import ArchiveError
from resmtnet.files import atomic_folder, check_place

__all__ = ["FILES", "HEAD", "MISSING", "READABLE", "SCHEMA", "Archive", "Crop", "Nodule", "write"]

SCHEMA = "resmtnet.archive/2"
READABLE = ("resmtnet.archive/1", SCHEMA)
HEAD = "archive.json"
FILES = ("nodules.csv", "voxels.npy", "masks.npy")

Crop = tuple[Nodule, NDArray[np.int16], NDArray[np.uint8]]
"""A nodule, its HU [k, j, i] and its mask [k, j, i]: what a source yields."""

_write_npy_header: Callable[[BinaryIO, dict[str, Any]], None] = npy.write_array_header_1_0


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
        if head.get("schema") not in READABLE:
            raise ArchiveError(
                f"{path}: schema {head.get('schema')!r}; this version reads {', '.join(READABLE)}"
            )
        for name in FILES:
            if not (path / name).is_file():
                raise ArchiveError(f"{path}: {name} is missing; prepare the archive again")
            if verify and _sha256(path / name) != head["sha256"][name]:
                raise ArchiveError(f"{path}: {name} is damaged (checksum); prepare it again")
        with (path / "nodules.csv").open(newline="") as file:
            nodules = tuple(from_row(row) for row in csv.DictReader(file))
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
    crops: Iterable[Crop],
    provenance: Mapping[str, Any],
    finish: Callable[[Sequence[Nodule]], Sequence[Nodule]] | None = None,
) -> tuple[Nodule, ...]:
    """Write an archive, crop by crop; the folder appears only when it is complete.

    Args:
        path: folder to make; an archive that stands there is replaced.
        crops: nodule, HU [k, j, i] and mask [k, j, i].
        provenance: source, licence, attribution; kept in archive.json as it is at the end.
        finish: changes the nodules once all are known, as for splits; None leaves them.

    Returns:
        The nodules written.
    """
    check_place(path, HEAD)
    nodules: list[Nodule] = []
    with atomic_folder(path, HEAD) as draft:
        voxels = _NpyStream(draft / "voxels.npy", np.int16)
        masks = _NpyStream(draft / "masks.npy", np.uint8)
        with voxels, masks:
            for nodule, hu, mask in crops:
                if not hu.shape == mask.shape == tuple(nodule.shape_kji):
                    raise ArchiveError(
                        f"nodule {nodule.id}: voxels {hu.shape} and mask {mask.shape}; "
                        f"its shape is {tuple(nodule.shape_kji)}"
                    )
                nodules.append(dataclasses.replace(nodule, offset=voxels.length))
                voxels.append(hu)
                masks.append(mask)
        if not nodules:
            raise ArchiveError(f"{path}: the source has no usable nodule; nothing was written")
        nodules = list(finish(nodules)) if finish else nodules
        with (draft / "nodules.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(to_row(nodule) for nodule in nodules)
        head = {
            "schema": SCHEMA,
            "sha256": {name: _sha256(draft / name) for name in FILES},
            "nodules": len(nodules),
            "provenance": dict(provenance),
        }
        (draft / HEAD).write_text(json.dumps(head, indent=1))
    return tuple(nodules)


class _NpyStream:
    """A one-dimensional .npy file that grows, so that an archive need not fit in memory."""

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        self.length = 0
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._write_header()

    def __enter__(self) -> _NpyStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # numpy pads the header so that a longer first axis does not change its size.
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def append(self, values: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, self._dtype).tobytes())
        self.length += values.size

    def _write_header(self) -> None:
        header = {
            "descr": self._dtype.str,
            "fortran_order": False,
            "shape": (self.length,),
        }
        _write_npy_header(self._file, header)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
