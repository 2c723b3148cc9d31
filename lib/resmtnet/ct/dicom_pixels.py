"""Decodes the stored voxels of one DICOM slice, for every transfer syntax."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.dicom_header import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Header,
)
from resmtnet.errors import VolumeError

UNCOMPRESSED = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
_PYDICOM_DECODES = (*UNCOMPRESSED, DEFLATED, "1.2.840.10008.1.2.5")
"""Uncompressed, deflated and RLE, which it does without plugins; ITK has the JPEG family."""


class StoredSlice(NamedTuple):
    """One slice as stored; HU = slope * values + intercept."""

    values: NDArray[Any]
    """[row, column], any integer type (float if ITK decoded and scaled it)."""

    slope: float
    intercept: float


def expected_bytes(header: Header) -> int:
    """Bytes of one uncompressed slice."""
    bits = int(header.number("BitsAllocated"))
    return int(header.number("Rows")) * int(header.number("Columns")) * (bits // 8)


def decode(header: Header) -> StoredSlice:
    """Reads the pixel data of one slice.

    Raises:
        VolumeError: they are truncated or damaged; the message names the file.
    """
    slope = header.number("RescaleSlope", default=1.0)
    intercept = header.number("RescaleIntercept", default=0.0)
    shape = int(header.number("Rows")), int(header.number("Columns"))
    try:
        if header.pixel_start is not None:
            return StoredSlice(_read_native(header, shape), slope, intercept)
        if header.transfer_syntax in _PYDICOM_DECODES:
            from pydicom import dcmread

            words = dcmread(header.path, force=True).pixel_array
            stored = StoredSlice(_stored_bits(header, words), slope, intercept)
        else:
            stored = StoredSlice(_read_with_itk(header), 1.0, 0.0)
    except VolumeError:
        raise
    except Exception as error:  # Decoders raise whatever they trip over.
        raise VolumeError(
            f"{header.path.name}: the pixel data cannot be decoded (transfer syntax "
            f"{header.transfer_syntax}); the file is truncated or damaged: "
            f"{str(error).strip().splitlines()[-1] if str(error).strip() else error!r}"
        ) from error
    if stored.values.shape != shape:
        raise VolumeError(
            f"{header.path.name}: the pixel data have the shape {stored.values.shape}, "
            f"the header says {shape}; the file is damaged."
        )
    return stored


def _read_native(header: Header, shape: tuple[int, int]) -> NDArray[Any]:
    """Little-endian pixel data from their place in the file."""
    bits = int(header.number("BitsAllocated"))
    if bits not in (8, 16, 32):
        raise VolumeError(f"{header.path.name}: {bits} bits per voxel; 8, 16 or 32 can be read.")
    kind = "i" if header.number("PixelRepresentation", default=0.0) else "u"
    count = expected_bytes(header)
    with header.path.open("rb", buffering=0) as file:
        file.seek(header.pixel_start or 0)
        data = file.read(count) or b""
    if len(data) < count:
        raise truncated(header, len(data), count)
    return _stored_bits(header, np.frombuffer(data, f"<{kind}{bits // 8}").reshape(shape))


def _stored_bits(header: Header, words: NDArray[Any]) -> NDArray[Any]:
    """The values in words whose other bits (overlays, padding) mean nothing; PS3.5, 8.1.1."""
    allocated = 8 * words.dtype.itemsize
    stored = int(header.number("BitsStored", default=allocated))
    high = int(header.number("HighBit", default=stored - 1))
    if not 0 < stored <= high + 1 <= allocated:
        raise VolumeError(
            f"{header.path.name}: BitsStored {stored} and HighBit {high} do not fit in "
            f"{allocated} bits; the header is damaged."
        )
    if stored == allocated:
        return words
    # The right shift repeats the sign bit of a signed type.
    return (words << (allocated - 1 - high)) >> (allocated - stored)


def truncated(header: Header, got_bytes: int, needed_bytes: int) -> VolumeError:
    """The error for a file that ends before its pixel data do."""
    return VolumeError(
        f"{header.path.name} is truncated: {got_bytes} of {needed_bytes} bytes of pixel data. "
        "Transfer the series again."
    )


def _read_with_itk(header: Header) -> NDArray[Any]:
    """HU of a compressed slice, by the decoders that ITK carries."""
    import itk

    image = itk.imread(str(header.path), imageio=itk.GDCMImageIO.New())
    return np.squeeze(np.asarray(itk.array_from_image(image)))
