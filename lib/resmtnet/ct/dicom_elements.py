"""Steps through the bytes of a little-endian DICOM data set, element by element (PS3.5, 7.1)."""

from __future__ import annotations

import struct

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_TAG = struct.Struct("<HH")
_SHORT = struct.Struct("<H")
_LONG = struct.Struct("<I")
_IMPLICIT = struct.Struct("<HHI")
_EXPLICIT = struct.Struct("<HH2sH")


class CannotScanError(Exception):
    """The bytes at hand are not enough, or not what the scan knows."""


def starts_bare(start: bytes) -> bool:
    """Whether bytes are the first element of a data set that has no preamble (PS3.10, 7.1)."""
    if len(start) < 132 or start[:2] not in (b"\x08\x00", b"\x02\x00"):
        return False
    if start[4:6] in SHORT_VR | LONG_VR:
        return True
    # Implicit VR: group 0008 begins with a short element of a low number.
    element, length = _SHORT.unpack_from(start, 2)[0], _LONG.unpack_from(start, 4)[0]
    return start[:2] == b"\x08\x00" and element <= 0x0070 and length <= 128


def element_at(data: bytes, position: int, explicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR, start of the value and its length, of the element at a position."""
    if not explicit:
        group, element, length = _IMPLICIT.unpack_from(data, position)
        return group << 16 | element, b"", position + 8, length
    group, element, vr, length = _EXPLICIT.unpack_from(data, position)
    if vr in SHORT_VR:
        return group << 16 | element, vr, position + 8, length
    if vr not in LONG_VR:
        raise CannotScanError
    return group << 16 | element, vr, position + 12, _LONG.unpack_from(data, position + 8)[0]


def sequence_end(data: bytes, position: int, explicit: bool) -> int:
    """Position after a sequence of undefined length whose items start here."""
    while True:
        group, element = _TAG.unpack_from(data, position)
        length = _LONG.unpack_from(data, position + 4)[0]
        position += 8
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise CannotScanError
        position = position + length if length != UNDEFINED else _item_end(data, position, explicit)


def _item_end(data: bytes, position: int, explicit: bool) -> int:
    """Position after an item of undefined length whose elements start here."""
    while True:
        group, element = _TAG.unpack_from(data, position)
        if group << 16 | element == _ITEM_END:
            return position + 8
        _, vr, start, length = element_at(data, position, explicit)
        if length == UNDEFINED:
            position = sequence_end(data, start, explicit and vr != b"UN")
        else:
            position = start + length
