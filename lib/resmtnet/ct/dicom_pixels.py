"""Decodes the stored voxels of one DICOM slice, for every transfer syntax, and makes them HU.

References:
    DICOM PS3.5, 8.1.1 (stored bits); PS3.3, C.8.2.1 (rescale of a CT), C.7.5.1.1.2 (padding).
"""

from __future__ import annotations

import filecmp
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
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
from resmtnet.ct.source import AIR_HU, to_hu
from resmtnet.errors import VolumeError

UNCOMPRESSED = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
_PYDICOM_DECODES = (*UNCOMPRESSED, DEFLATED, "1.2.840.10008.1.2.5")
"""Uncompressed, deflated and RLE, which it does without plugins; ITK has the JPEG family."""

_JPEG = "1.2.840.10008.1.2.4."
_ITK_DECODES = frozenset(
    _JPEG + n
    for n in ("50", "51", "53", "55", "57", "70", "80", "81", "90", "91", "201", "202", "203")
)
_SYNTAX_NAMES = {
    _JPEG + "110": "JPEG XL lossless",
    _JPEG + "111": "JPEG XL, recompressed JPEG",
    _JPEG + "112": "JPEG XL",
    _JPEG + "204": "HTJ2K by JPIP",
    _JPEG + "205": "HTJ2K by JPIP, deflated",
    "1.2.840.10008.1.2.8.1": "deflated image frames",
    "1.2.840.113619.5.2": "GE private, implicit big endian",
}
"""Those that pydicom does not name."""

_MOST_ROWS = 8192
_MOST_TISSUE_HU = 3071
_LEAST_SCANNER_HU = -5000
"""Between these a voxel may be patient or air, even if it has the value that marks padding."""

_SAMPLED = 7
"""Slices that are looked at to find which bits of the words are stored."""


class StoredSlice(NamedTuple):
    """One slice as stored; HU = slope * values + intercept."""

    values: NDArray[Any]
    """[row, column], any integer type (float if ITK decoded and scaled it)."""

    slope: float
    intercept: float
    warnings: tuple[str, ...] = ()
    """What is wrong with the values of this slice."""


def check_values(headers: Sequence[Header]) -> tuple[list[Header], tuple[str, ...]]:
    """Whether the stored values of a stack can be read, and are HU.

    Args:
        headers: of one stack.

    Returns:
        The headers, corrected where the stored bits are not where HighBit says; and warnings.

    Raises:
        VolumeError: the transfer syntax is not supported, or nothing says how values become HU.
    """
    for header in headers:
        check_syntax(header)
        for name in ("Rows", "Columns"):
            if not 1 <= header.number(name) <= _MOST_ROWS:
                raise VolumeError(
                    f"{header.path.name}: {name} is {header.values.get(name)}; 1 to {_MOST_ROWS} "
                    "are allowed."
                )
    return _check_high_bit(headers, _check_rescale(headers))


def check_syntax(header: Header) -> None:
    """Raises a VolumeError if no decoder here knows the transfer syntax of a file."""
    uid = header.transfer_syntax
    if uid in _PYDICOM_DECODES or uid in _ITK_DECODES:
        return
    from pydicom.uid import UID

    name = _SYNTAX_NAMES.get(uid) or UID(uid).name
    told = uid if name == uid else f"{name} ({uid})"
    raise VolumeError(
        f"{header.path.name}: this compression is not supported: {told}. Export the series "
        "uncompressed (Explicit VR Little Endian), or as JPEG 2000, JPEG-LS, lossless JPEG or RLE."
    )


def _check_rescale(headers: Sequence[Header]) -> tuple[str, ...]:
    """Slope and intercept are required of a CT; without them no value is a HU."""
    zero = 0
    kinds = set()
    for header in headers:
        for name in ("RescaleSlope", "RescaleIntercept"):
            if not header.values.get(name):
                raise VolumeError(
                    f"{header.path.name} has no {name}: its values cannot be made HU. Export the "
                    "original CT series, or convert it to NIfTI in HU."
                )
            header.number(name)
        zero += header.number("RescaleSlope") == 0
        kinds.add(header.values.get("RescaleType", "").upper())
    for kind in sorted(kinds - {"", "HU", "US"}):
        raise VolumeError(
            f"{headers[0].path.name}: the values are of RescaleType {kind}, not HU. Open the "
            "series of the CT in HU."
        )
    warnings: tuple[str, ...] = ()
    if zero:
        warnings = (f"RescaleSlope is 0 in {zero} of {len(headers)} slices: read as 1; check HU.",)
    if "US" in kinds:
        warnings += ("RescaleType is US (unspecified): the values are taken for HU; check them.",)
    return warnings


def _check_high_bit(
    headers: Sequence[Header], warnings: tuple[str, ...]
) -> tuple[list[Header], tuple[str, ...]]:
    """Finds right-aligned words that HighBit says to be left-aligned: PS3.5 wants BitsStored - 1.

    Not by the single slice: one that is all air is small either way.
    """
    odd = [
        header
        for header in headers
        if header.values.get("HighBit")
        and _stored(header) <= _high(header) < header.number("BitsAllocated")
        and header.transfer_syntax in _PYDICOM_DECODES
    ]
    if not odd:
        return list(headers), warnings
    step = max(1, len(odd) // _SAMPLED)
    right = all(_fits_right(header) for header in odd[::step])
    place = "the lowest bits, where the values are" if right else "the bits below HighBit"
    text = (
        f"HighBit {_high(odd[0])} does not go with BitsStored {_stored(odd[0])} in {len(odd)} "
        f"slices: read from {place}; check HU."
    )
    if right:
        moved = {id(header) for header in odd}
        headers = [
            replace(header, values={**header.values, "HighBit": str(_stored(header) - 1)})
            if id(header) in moved
            else header
            for header in headers
        ]
    return list(headers), (*warnings, text)


def _fits_right(header: Header) -> bool:
    """Whether the words of a slice are numbers of BitsStored bits as they are."""
    words = _words(header)
    stored = _stored(header)
    if words.dtype.kind == "u":
        return bool(int(words.max()) < 2**stored)
    low, high = int(words.min()), int(words.max())
    return bool(-(2 ** (stored - 1)) <= low and high < 2 ** (stored - 1))


def _stored(header: Header) -> int:
    return int(header.number("BitsStored", default=header.number("BitsAllocated")))


def _high(header: Header) -> int:
    return int(header.number("HighBit", default=_stored(header) - 1.0))


def expected_bytes(header: Header) -> int:
    """Bytes of one uncompressed slice."""
    bits = int(header.number("BitsAllocated"))
    return int(header.number("Rows")) * int(header.number("Columns")) * (bits // 8)


def decode(header: Header) -> StoredSlice:
    """Reads the pixel data of one slice.

    Raises:
        VolumeError: they are truncated or damaged; the message names the file.
    """
    slope = header.number("RescaleSlope", default=1.0) or 1.0
    intercept = header.number("RescaleIntercept", default=0.0)
    check_syntax(header)
    try:
        if header.pixel_start is not None or header.transfer_syntax in _PYDICOM_DECODES:
            words = _words(header)
            stored = StoredSlice(_stored_bits(header, words), slope, intercept)
            stored = _without_padding(header, words, stored)
        else:
            stored = _padding_of_hu(header, _read_with_itk(header), slope, intercept)
    except VolumeError:
        raise
    except Exception as error:  # Decoders raise whatever they trip over.
        lines = str(error).strip().splitlines()
        raise VolumeError(
            f"{header.path.name}: the pixel data cannot be decoded (transfer syntax "
            f"{header.transfer_syntax}); the file is truncated or damaged: "
            f"{lines[-1] if lines else repr(error)}"
        ) from error
    shape = int(header.number("Rows")), int(header.number("Columns"))
    if stored.values.shape != shape:
        raise VolumeError(
            f"{header.path.name}: the pixel data have the shape {stored.values.shape}, "
            f"the header says {shape}; the file is damaged."
        )
    return stored


def same_pixels(one: Header, other: Header) -> bool:
    """Whether two images are copies: the same file, or the same HU in every voxel."""
    if filecmp.cmp(one.path, other.path, shallow=False):
        return True
    try:
        a, b = decode(one), decode(other)
    except VolumeError:
        return False
    return np.array_equal(to_hu(*a[:3])[0], to_hu(*b[:3])[0])


def _words(header: Header) -> NDArray[Any]:
    """The words of a slice as they are, [row, column], of a syntax that ITK is not needed for."""
    if header.pixel_start is not None:
        return _read_native(header)
    from pydicom import dcmread

    dataset = dcmread(header.path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = header.transfer_syntax
    if hasattr(dataset, "pixel_array_options"):
        # pydicom 3 would else move the bits by BitsStored alone, wherever HighBit is.
        dataset.pixel_array_options(correct_unused_bits=False)
    return np.asarray(dataset.pixel_array)


def _read_native(header: Header) -> NDArray[Any]:
    """Little-endian pixel data from their place in the file."""
    shape = int(header.number("Rows")), int(header.number("Columns"))
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
    return np.frombuffer(data, f"<{kind}{bits // 8}").reshape(shape)


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


def _without_padding(header: Header, words: NDArray[Any], stored: StoredSlice) -> StoredSlice:
    """Air where words mark what was not scanned, if they would be read as anything else."""
    allocated = 8 * words.dtype.itemsize
    bits = int(header.number("BitsStored", default=allocated))
    raw = words.view(f"{words.dtype.byteorder.replace('|', '=')}u{words.dtype.itemsize}")
    padded = _declared_padding(header, raw, words)
    warnings: tuple[str, ...] = ()
    if padded is None and words.dtype.kind == "u" and bits < allocated and _high(header) < bits:
        above = raw >= 2**bits
        # An overlay has words of many values above the stored bits, padding has one.
        if above.any() and raw[above].min() == raw[above].max():
            padded = above
            warnings = (
                f"words of {int(raw[above][0])} do not fit the {bits} stored bits, and are taken "
                "for padding: read as air.",
            )
    if padded is None:
        return stored
    hu = to_hu(stored.values, stored.slope, stored.intercept)[0]
    # Above the stored bits no word is a voxel, whatever its other bits would give.
    beyond = raw >= 2**bits if words.dtype.kind == "u" else np.zeros(hu.shape, bool)
    padded = padded & (beyond | (hu > _MOST_TISSUE_HU) | (hu < _LEAST_SCANNER_HU))
    if not padded.any():
        return stored
    return StoredSlice(np.where(padded, np.int16(AIR_HU), hu), 1.0, 0.0, warnings)


def _declared_padding(
    header: Header, raw: NDArray[Any], words: NDArray[Any]
) -> NDArray[np.bool_] | None:
    """Where words are PixelPaddingValue or in its range; None without one."""
    if not header.values.get("PixelPaddingValue"):
        return None
    ends = [int(header.number("PixelPaddingValue"))]
    if header.values.get("PixelPaddingRangeLimit"):
        ends.append(int(header.number("PixelPaddingRangeLimit")))
    if len(ends) == 1:
        return np.asarray(raw == ends[0] % 2 ** (8 * raw.dtype.itemsize))
    if words.dtype.kind == "i":
        ends = [end - 2**16 if end >= 2**15 else end for end in ends]
    return np.asarray((words >= min(ends)) & (words <= max(ends)))


def _padding_of_hu(header: Header, hu: NDArray[Any], slope: float, intercept: float) -> StoredSlice:
    """Air where a compressed slice, decoded to HU, has its padding value."""
    if header.values.get("PixelPaddingValue"):
        word = int(header.number("PixelPaddingValue"))
        for value in (word, word - 2**16):
            padding = value * slope + intercept
            if not _LEAST_SCANNER_HU <= padding <= _MOST_TISSUE_HU and (hu == padding).any():
                hu = np.where(hu == padding, hu.dtype.type(AIR_HU), hu)
    return StoredSlice(hu, 1.0, 0.0)


def truncated(header: Header, got_bytes: int, needed_bytes: int) -> VolumeError:
    """The error for a file that ends before its pixel data do."""
    return VolumeError(
        f"{header.path.name} is truncated: {got_bytes} of {needed_bytes} bytes of pixel data. "
        "Transfer the series again."
    )


def _read_with_itk(header: Header) -> NDArray[Any]:
    """HU of a compressed slice, by the decoders that ITK carries."""
    if header.values.get("PhotometricInterpretation") != "MONOCHROME1":
        return _itk_slice(header.path)
    # It says how to show the values and not what they are, but ITK inverts them for it.
    from pydicom import dcmread

    with tempfile.TemporaryDirectory(prefix="resmtnet-") as folder:
        path = Path(folder) / "slice.dcm"
        dataset = dcmread(header.path, force=True)
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.save_as(path)
        return _itk_slice(path)


def _itk_slice(path: Path) -> NDArray[Any]:
    import itk

    image = itk.imread(str(path), imageio=itk.GDCMImageIO.New())
    return np.squeeze(np.asarray(itk.array_from_image(image)))
