"""Result files: class-coded masks and CT volumes on the CT's own grid.

NRRD: http://teem.sourceforge.net/nrrd/format.html; gzip: RFC 1952; deflate: RFC 1951.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import LABEL_NAMES
from resmtnet.ct import CTVolume, Geometry
from resmtnet.errors import InputError
from resmtnet.files import atomic_file
from resmtnet.findings import Finding

MASK_EXTENSIONS = (".nrrd", ".nii.gz", ".nii")

_GZIP_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
_ONES = 0xFFFFFFFF
_DEFLATE_END = b"\x03\x00"
"""An empty last block with fixed codes (RFC 1951, 3.2.6)."""


def mask_extension(asked: object) -> str:
    """The extension of a mask file that a request asks for; .nrrd where it does not.

    Raises:
        InputError: it is none of MASK_EXTENSIONS.

    >>> mask_extension(None), mask_extension("nii.gz")
    ('.nrrd', '.nii.gz')
    """
    text = ".nrrd" if asked in (None, "") else f".{str(asked).lower().lstrip('.')}"
    if text not in MASK_EXTENSIONS:
        raise InputError(f"result_extension {asked!r}: allowed are {', '.join(MASK_EXTENSIONS)}.")
    return text


def write_mask(
    findings: Sequence[Finding],
    geometry: Geometry,
    extension: str,
    values: Mapping[str, int] = LABEL_NAMES,
) -> Path:
    """Writes the class-coded mask of a CT to a temporary file.

    Args:
        findings: their masks, uint8 [k, j, i] on the CT's voxels, get the value of their class;
            where two overlap, the one more probably malignant stays.
        geometry: the grid of the CT.
        extension: one of MASK_EXTENSIONS.
        values: mask value of each class.

    Returns:
        The file, uint8; whoever asked for it deletes it.
    """
    painted = _paint(findings, geometry, values)
    path = _temporary(extension)
    try:
        with path.open("wb") as file:
            if extension == ".nrrd":
                file.write(_nrrd_header(geometry, "uint8", "gzip"))
                _write_gzip(file, b"", painted, geometry)
            elif extension == ".nii.gz":
                _write_gzip(file, _nifti_header(geometry), painted, geometry)
            else:
                file.write(_nifti_header(geometry))
                empty = np.zeros(geometry.shape_kji[1:], np.uint8)
                file.writelines(painted.get(k, empty).data for k in range(geometry.size_ijk[2]))
    except BaseException:
        path.unlink()
        raise
    return path


def write_ct(ct: CTVolume, path: Path) -> None:
    """Writes a CT as an uncompressed NRRD, int16 HU, so that nobody ever sees half of it.

    Uncompressed, because a viewer waits for it: gzip takes seconds, and saves half the bytes.
    """
    voxels = np.ascontiguousarray(ct.array(), dtype="<i2")
    with atomic_file(path, durable=False) as draft, draft.open("wb") as file:
        file.write(_nrrd_header(ct.geometry, "int16", "raw"))
        file.write(voxels.data)


def visible_masks(findings: Sequence[Finding]) -> list[NDArray[np.uint8] | None]:
    """Return the masks as `write_mask` paints them, uint8 [k, j, i], each at its own place.

    Where two of different classes overlap, the one more probably malignant has the voxels.
    """
    masks = []
    for n, finding in enumerate(findings):
        mask = finding.mask
        # Painted in this order, stable where two are alike.
        above = [
            other
            for m, other in enumerate(findings)
            if other.class_name != finding.class_name
            and (other.probability_malignant, m) > (finding.probability_malignant, n)
        ]
        for other in above:
            mask = _without(mask, finding.start_ijk, other.mask, other.start_ijk)
        masks.append(mask)
    return masks


def _without(
    mask: NDArray[np.uint8] | None,
    start_ijk: tuple[int, int, int] | None,
    other: NDArray[np.uint8] | None,
    other_start_ijk: tuple[int, int, int] | None,
) -> NDArray[np.uint8] | None:
    """A mask without the voxels of another on the same grid; both [k, j, i]."""
    if mask is None or start_ijk is None or other is None or other_start_ijk is None:
        return mask
    start, other_start = np.array(start_ijk[::-1]), np.array(other_start_ijk[::-1])
    low = np.maximum(start, other_start)
    high = np.minimum(start + mask.shape, other_start + other.shape)
    if (high <= low).any():
        return mask
    mine = tuple(slice(*ends) for ends in zip(low - start, high - start, strict=True))
    theirs = tuple(slice(*ends) for ends in zip(low - other_start, high - other_start, strict=True))
    left = mask.copy()
    left[mine][other[theirs] > 0] = 0
    return left


def _temporary(suffix: str) -> Path:
    handle, name = tempfile.mkstemp(prefix="resmtnet-", suffix=suffix)
    os.close(handle)
    return Path(name)


def _paint(
    findings: Sequence[Finding], geometry: Geometry, values: Mapping[str, int]
) -> dict[int, NDArray[np.uint8]]:
    """The slices that are not empty, by k: uint8 [j, i]."""
    n_k, n_j, n_i = geometry.shape_kji
    slices: dict[int, NDArray[np.uint8]] = {}
    for finding in sorted(findings, key=lambda finding: finding.probability_malignant):
        if finding.mask is None or finding.start_ijk is None:
            continue
        i, j, k = finding.start_ijk
        value = values[finding.class_name]
        inside_j, from_j = _overlap(j, finding.mask.shape[1], n_j)
        inside_i, from_i = _overlap(i, finding.mask.shape[2], n_i)
        for n, plane in enumerate(finding.mask):
            if not 0 <= k + n < n_k:
                continue
            painted = plane[from_j, from_i] > 0
            if painted.any():
                target = slices.setdefault(k + n, np.zeros((n_j, n_i), np.uint8))
                target[inside_j, inside_i][painted] = value
    return slices


def _overlap(start: int, size: int, limit: int) -> tuple[slice, slice]:
    """Where an interval lies in [0, limit), and which part of it that is."""
    first, last = max(start, 0), max(min(start + size, limit), max(start, 0))
    return slice(first, last), slice(first - start, last - start)


def _write_gzip(
    file: BinaryIO, head: bytes, painted: dict[int, NDArray[np.uint8]], geometry: Geometry
) -> None:
    """One gzip member: `head`, then the slices.

    Each slice ends with a full flush, so an empty one is always the same bytes, made once: 3 ms
    for a 512 x 512 x 133 mask instead of 110.
    """
    n_k, n_j, n_i = geometry.shape_kji
    file.write(_GZIP_HEADER)
    file.write(_deflate(head))
    crc = zlib.crc32(head)
    for k in range(n_k):
        if k in painted:
            raw = painted[k].tobytes()
            file.write(_deflate(raw))
            crc = zlib.crc32(raw, crc)
        else:
            file.write(_deflate_zeros(n_j * n_i))
            crc = _crc32_zeros(crc, n_j * n_i)
    file.write(_DEFLATE_END)
    file.write(struct.pack("<II", crc, (len(head) + n_k * n_j * n_i) & _ONES))


def _deflate(raw: bytes, level: int = 1) -> bytes:
    """Deflate blocks that end on a byte and refer to nothing before them."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(raw) + compressor.flush(zlib.Z_FULL_FLUSH)


@lru_cache(maxsize=8)
def _deflate_zeros(count: int) -> bytes:
    return _deflate(bytes(count), level=9)


def _crc32_zeros(crc: int, count: int) -> int:
    """The CRC after `count` more zero bytes.

    >>> _crc32_zeros(zlib.crc32(b"a"), 5) == zlib.crc32(b"a" + bytes(5))
    True
    """
    register, result = crc ^ _ONES, 0
    for bit, column in enumerate(_zeros_operator(count)):
        result ^= column * (register >> bit & 1)
    return result ^ _ONES


@lru_cache(maxsize=8)
def _zeros_operator(count: int) -> tuple[int, ...]:
    """What zero bytes make of each bit of the CRC register: they act linearly on it."""
    zeros = bytes(count)
    return tuple(zlib.crc32(zeros, 1 << bit ^ _ONES) ^ _ONES for bit in range(32))


def _nrrd_header(geometry: Geometry, kind: str, encoding: str) -> bytes:
    axes = geometry.direction * geometry.spacing_mm
    lines = [
        "NRRD0004",
        f"type: {kind}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in geometry.size_ijk)}",
        f"space directions: {' '.join(_vector(axes[:, n]) for n in range(3))}",
        "kinds: domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        f"space origin: {_vector(geometry.origin_lps_mm)}",
    ]
    return ("\n".join(lines) + "\n\n").encode("ascii")


def _vector(values: Iterable[float]) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"


def _nifti_header(geometry: Geometry) -> bytes:
    """The 352 bytes before the voxels; NIfTI's axes are RAS (nifti1.h, method 2 and 3)."""
    import nibabel

    affine = np.eye(4)
    affine[:3, :3] = geometry.direction * geometry.spacing_mm
    affine[:3, 3] = geometry.origin_lps_mm
    affine[:2] *= -1
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(geometry.size_ijk)
    header.set_zooms(geometry.spacing_mm)
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    return bytes(header.binaryblock) + bytes(4)
