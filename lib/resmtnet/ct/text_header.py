"""What the text header of a NRRD or MetaImage file says that ITK passes over in silence.

ITK takes a voxel spacing that is not given for 1 mm, ignores units, and says of any file with too
few voxels that there is no such file.

References:
    https://teem.sourceforge.net/nrrd/format.html
    https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.errors import VolumeError

MOST_VOXELS = 2**31
"""Of a volume: a header of a few bytes could ask for all the memory."""
_MOST_HEADER_BYTES = 2**24
_MOST_AXES = 10
_MOST_FIELDS = 200
_LONGEST_NAME = 100
_LONGEST_VALUE = 1000
"""Of a MetaImage; ITK reads more than this into too little memory."""
_MOST_DEFLATED = 1100
"""No deflated data grow to more than so many times their size."""

_MM = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns"), 1e-3),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-6),
    **dict.fromkeys(("in", "inch", "inches"), 25.4),
}
_NOT_SAID = ("", "?", "???", "none", "unknown")

_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int"), "i2"),
    **dict.fromkeys(("int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int"), "u2"),
    **dict.fromkeys(("uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


@dataclass(frozen=True)
class TextHeader:
    """The fields of a file, and what they say of its grid."""

    path: Path
    fields: dict[str, str]
    """Text by name; the names of NRRD in lower case without spaces."""

    data_start: int
    """Byte of the file after the header."""

    has_spacing: bool
    """The header gives the distance of the voxels along three axes."""

    unit_mm: float = 1.0
    """What the numbers of the grid are to be multiplied by."""

    warnings: tuple[str, ...] = ()
    pairs: dict[str, str] = field(default_factory=dict)
    """The key/value pairs of a NRRD file, in which Slicer names the segments."""


def read_text_header(path: Path, suffix: str) -> TextHeader:
    """The header of a NRRD or MetaImage file, checked against the bytes that are there.

    Args:
        path: the file.
        suffix: .nrrd, .nhdr, .mha or .mhd.

    Raises:
        VolumeError: it is no such file, its voxels are missing or too few, or its unit is not
            known.
    """
    with path.open("rb") as file:
        start = file.read(_MOST_HEADER_BYTES)
    return _nrrd(path, start) if suffix in (".nrrd", ".nhdr") else _meta(path, start)


def _nrrd(path: Path, start: bytes) -> TextHeader:
    if not start.startswith(b"NRRD"):
        raise VolumeError(
            f"{path.name} is no NRRD file, its header is not that of its suffix: it does not start "
            "with NRRD."
        )
    end = re.search(rb"\r?\n\r?\n", start)
    head = start[: end.start()] if end else start
    fields, pairs = {}, {}
    for line in head.decode("utf-8", "replace").splitlines()[1:]:
        match = re.fullmatch(r"([A-Za-z ]+):(?!=)\s*(.*)", line)
        if match:
            fields[match[1].replace(" ", "").lower()] = match[2].strip()
        elif ":=" in line and not line.startswith("#"):
            name, _, value = line.partition(":=")
            pairs[name] = value.strip()
    data_start = end.end() if end else len(start)
    spacing = fields.get("spacings", fields.get("spacing"))
    if spacing is None:
        vectors = re.findall(r"\(([^()]*)\)", fields.get("spacedirections", ""))
        known = [math.hypot(*(_float(x) for x in vector.split(","))) for vector in vectors]
    else:
        known = [abs(_float(text)) for text in spacing.split()]
    has_spacing = sum(math.isfinite(x) for x in known) >= 3  # one of 0 mm is told by its name
    warnings: tuple[str, ...] = ()
    space = fields.get("space", "").lower()
    if "spacedirections" not in fields or not space.startswith(_ANATOMICAL):
        warnings = (
            f"the NRRD header gives no orientation to the patient (space: {space or 'none'}): "
            "left and right are not known.",
        )
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", fields.get("units", "")))
    unit_mm, told = _unit(path, units)
    header = TextHeader(path, fields, data_start, has_spacing, unit_mm, warnings + told, pairs)
    _check_nrrd_bytes(header)
    return header


_ANATOMICAL = ("left-", "right-", "lps", "las", "ras", "rps", "lpi", "rai")


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _unit(path: Path, units: list[str]) -> tuple[float, tuple[str, ...]]:
    """Millimetres of the unit that all axes have, and what is told of it."""
    said = {unit.strip().lower() for unit in units} - set(_NOT_SAID)
    if not said:
        return 1.0, ()
    known = {_MM.get(unit) for unit in said}
    factor = known.pop()
    if factor is None or known:
        raise VolumeError(
            f"{path.name}: the unit of its grid is {', '.join(sorted(said))}; one of mm, cm, m, um "
            "or inch for all axes is allowed. Correct the header, or save the image in mm."
        )
    if factor == 1.0:
        return 1.0, ()
    return factor, (f"the grid of the image is in {said.pop()}: converted to mm.",)


def _check_nrrd_bytes(header: TextHeader) -> None:
    """Whether the voxels can be in the file, or in the one that the header names."""
    fields = header.fields
    sizes = [_whole(header, "sizes", text) for text in fields.get("sizes", "").split()]
    dtype = _NRRD_TYPES.get(fields.get("type", "").lower())
    needed = _needed_bytes(header, sizes, int(dtype[1]) if dtype else 1)
    path, there = header.path, header.path.stat().st_size - header.data_start
    named = fields.get("datafile")
    if named is not None:
        if named.split()[:1] == ["LIST"] or "%" in named:
            return
        path = _beside(header, named)
        there = path.stat().st_size
    encoding = fields.get("encoding", "").lower()
    if encoding == "raw" and dtype:
        _check_bytes(header, path, there, needed)
    elif encoding in ("gzip", "gz"):
        _check_bytes(header, path, there * _MOST_DEFLATED + 1024, needed)


def _meta(path: Path, start: bytes) -> TextHeader:
    fields: dict[str, str] = {}
    position = 0
    while position < len(start) and "ElementDataFile" not in fields:
        end = start.find(b"\n", position)
        end = len(start) if end < 0 else end
        line = start[position:end].decode("utf-8", "replace")
        position = end + 1
        name, sign, value = (part.strip() for part in line.partition("="))
        if not sign or len(fields) > _MOST_FIELDS:
            break
        if name in fields or len(name) > _LONGEST_NAME or len(value) > _LONGEST_VALUE:
            raise VolumeError(
                f"{path.name}: the field {name[:_LONGEST_NAME]!r} of its header is given twice, or "
                "is too long; the header is damaged."
            )
        fields[name] = value
    if "ElementDataFile" not in fields or "DimSize" not in fields:
        raise VolumeError(
            f"{path.name} is no MetaImage file, its header is not that of its suffix, or is "
            f"damaged: it has no {'DimSize' if 'ElementDataFile' in fields else 'ElementDataFile'}."
        )
    spacing = [
        _float(x) for x in fields.get("ElementSpacing", fields.get("ElementSize", "")).split()
    ]
    unit_mm, told = _unit(path, [fields.get("DistanceUnits", "")])
    warnings: tuple[str, ...] = ()
    if not any(name in fields for name in ("TransformMatrix", "Rotation", "Orientation")):
        warnings = (
            "the MetaImage header gives no orientation (TransformMatrix): left and right are not "
            "known.",
        )
    has_spacing = sum(math.isfinite(x) for x in spacing) >= 3
    header = TextHeader(path, fields, position, has_spacing, unit_mm, warnings + told)
    _check_meta_numbers(header)
    _check_meta_bytes(header)
    return header


def _check_meta_numbers(header: TextHeader) -> None:
    """Whether each field has as many numbers as ITK takes for granted, which would crash on it."""
    n_axes = _whole(header, "NDims", header.fields.get("NDims", ""))
    for name, count in (
        *(("DimSize", n_axes), ("ElementSpacing", n_axes), ("ElementSize", n_axes)),
        *(("Offset", n_axes), ("Position", n_axes), ("Origin", n_axes)),
        *((name, n_axes**2) for name in ("TransformMatrix", "Rotation", "Orientation")),
        *(("CenterOfRotation", n_axes), ("ElementNumberOfChannels", 1), ("HeaderSize", 1)),
        *(("CompressedDataSize", 1), ("ElementMin", 1), ("ElementMax", 1), ("ID", 1)),
        *(("ParentID", 1), ("Color", 4)),
    ):
        numbers = [_float(text) for text in header.fields.get(name, "").split()]
        given = name in header.fields
        if not 1 <= n_axes <= _MOST_AXES or (
            given and (len(numbers) != count or not all(math.isfinite(x) for x in numbers))
        ):
            raise VolumeError(
                f"{header.path.name}: {name} of its header is {header.fields.get(name, '')!r}; "
                f"{count} finite number(s) are needed for {n_axes} axes (1 to {_MOST_AXES})."
            )


def _check_meta_bytes(header: TextHeader) -> None:
    fields = header.fields
    sizes = [_whole(header, "DimSize", text) for text in fields["DimSize"].split()]
    dtype = _META_TYPES.get(fields.get("ElementType", "").removesuffix("_ARRAY"))
    channels = _whole(header, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"))
    needed = _needed_bytes(header, [*sizes, max(1, channels)], int(dtype[1]) if dtype else 1)
    path, there = header.path, header.path.stat().st_size - header.data_start
    named = fields["ElementDataFile"]
    if named.upper() != "LOCAL":
        if named.upper().startswith("LIST") or "%" in named or len(named.split()) > 1:
            return
        path = _beside(header, named)
        there = path.stat().st_size
    if fields.get("BinaryData", "False").lower().startswith("f") or not dtype:
        return
    if _is_compressed(header):
        there = there * _MOST_DEFLATED + 1024
    _check_bytes(header, path, there, needed)


def _is_compressed(header: TextHeader) -> bool:
    return header.fields.get("CompressedData", "False").lower().startswith("t")


def meta_voxels(header: TextHeader, size_ijk: tuple[int, int, int]) -> NDArray[Any] | None:
    """The voxels [k, j, i] of a MetaImage; None for one in text or in several files.

    ITK reads compressed voxels with a wrong checksum as if nothing were wrong.

    Raises:
        VolumeError: they are truncated or damaged.
    """
    fields = header.fields
    dtype = _META_TYPES.get(fields.get("ElementType", ""))
    named = fields["ElementDataFile"]
    whole_file = not (named.upper().startswith("LIST") or "%" in named or len(named.split()) > 1)
    binary = fields.get("BinaryData", "False").lower().startswith("t")
    if dtype is None or not whole_file or not binary or "HeaderSize" in fields:
        return None
    local = named.upper() == "LOCAL"
    path = header.path if local else _beside(header, named)
    count = math.prod(size_ijk) * int(dtype[1])
    with path.open("rb") as file:
        file.seek(header.data_start if local else 0)
        data = _inflated(path, file.read(), count) if _is_compressed(header) else file.read(count)
    if len(data) < count:
        raise VolumeError(f"{path.name} is truncated: {len(data)} of {count} bytes of voxels.")
    big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    order = ">" if big.lower().startswith("t") else "<"
    return np.frombuffer(data, order + dtype).reshape(size_ijk[::-1])


def _inflated(path: Path, packed: bytes, count: int) -> bytes:
    """Exactly so many bytes of compressed data, whose checksum is right."""
    try:
        # Either of zlib's and gzip's wrappings, both with a checksum.
        inflate = zlib.decompressobj(wbits=47)
        data = inflate.decompress(packed, count) + inflate.decompress(inflate.unconsumed_tail, 1)
    except zlib.error as error:
        raise VolumeError(f"{path.name} is damaged: its compressed voxels: {error}.") from error
    if len(data) != count or not inflate.eof:
        raise VolumeError(
            f"{path.name} is truncated or damaged: {len(data)} of {count} bytes of voxels, "
            f"{'with' if inflate.eof else 'without'} their end. Transfer the file again."
        )
    return data


def _whole(header: TextHeader, name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,18}", text):
        raise VolumeError(f"{header.path.name}: {name} has {text!r}; whole numbers are needed.")
    return int(text)


def _needed_bytes(header: TextHeader, sizes: list[int], item_bytes: int) -> int:
    check_voxels(header.path, math.prod(sizes))
    return math.prod(sizes) * item_bytes


def check_voxels(path: Path, n_voxels: int) -> None:
    """Raises a VolumeError for a volume larger than any CT, before memory is asked for."""
    if n_voxels > MOST_VOXELS:
        raise VolumeError(f"{path.name} has {n_voxels:,} voxels; at most {MOST_VOXELS:,} are read.")


def _beside(header: TextHeader, named: str) -> Path:
    """The file with the voxels, which the header names."""
    path = header.path.parent / named
    if not path.is_file():
        raise VolumeError(
            f"{header.path.name} is a header only, and the file with its voxels, {named}, is not "
            "beside it. Copy both files."
        )
    return path


def _check_bytes(header: TextHeader, path: Path, there: int, needed: int) -> None:
    if there < needed:
        of = "" if path == header.path else f" (voxels of {header.path.name})"
        raise VolumeError(
            f"{path.name}{of} is truncated or damaged: {there} bytes of voxels are there or can "
            f"come from what is there, {needed} are needed. Transfer the file again."
        )
