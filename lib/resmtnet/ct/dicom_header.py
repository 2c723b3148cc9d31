"""Reads the few header elements that place a DICOM slice, at about 0.1 ms a file.

A little-endian file, with or without preamble and meta header, is scanned here (PS3.5, 7.1 and
7.5); what the scan does not know (big endian, deflated, damaged) is left to pydicom, which is ten
times slower.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from resmtnet.ct.dicom_elements import (
    LONG_VR,
    SHORT_VR,
    UNDEFINED,
    CannotScanError,
    element_at,
    sequence_end,
    starts_bare,
)
from resmtnet.errors import VolumeError

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
"""SOPClassUID of classic CT."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_TEXT = {
    0x00080008: "ImageType",
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x00080022: "AcquisitionDate",
    0x00080023: "ContentDate",
    0x0008002A: "AcquisitionDateTime",
    0x00080031: "SeriesTime",
    0x00080032: "AcquisitionTime",
    0x00080033: "ContentTime",
    0x00080060: "Modality",
    0x0008103E: "SeriesDescription",
    0x00100020: "PatientID",
    0x00180010: "ContrastBolusAgent",
    0x00180015: "BodyPartExamined",
    0x00180050: "SliceThickness",
    0x00180060: "KVP",
    0x00181030: "ProtocolName",
    0x00181060: "TriggerTime",
    0x00181100: "ReconstructionDiameter",
    0x00181160: "FilterType",
    0x00181210: "ConvolutionKernel",
    0x00185100: "PatientPosition",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
    0x00200011: "SeriesNumber",
    0x00200012: "AcquisitionNumber",
    0x00200013: "InstanceNumber",
    0x00200032: "ImagePositionPatient",
    0x00200037: "ImageOrientationPatient",
    0x00200052: "FrameOfReferenceUID",
    0x00200100: "TemporalPositionIdentifier",
    0x00204000: "ImageComments",
    0x00209056: "StackID",
    0x00280004: "PhotometricInterpretation",
    0x00280008: "NumberOfFrames",
    0x00280030: "PixelSpacing",
    0x00281052: "RescaleIntercept",
    0x00281053: "RescaleSlope",
    0x00281054: "RescaleType",
}
_UNSIGNED_SHORT = {
    0x00280002: "SamplesPerPixel",
    0x00280010: "Rows",
    0x00280011: "Columns",
    0x00280100: "BitsAllocated",
    0x00280101: "BitsStored",
    0x00280102: "HighBit",
    0x00280103: "PixelRepresentation",
    0x00280120: "PixelPaddingValue",
    0x00280121: "PixelPaddingRangeLimit",
}
"""The two padding values may be signed: they are kept as the unsigned 16-bit word."""
_DOUBLE = {
    0x00189087: "DiffusionBValue",
    0x00209241: "NominalPercentageOfCardiacPhase",
}
_WANTED = _TEXT | _UNSIGNED_SHORT | _DOUBLE

_PIXEL_DATA = 0x7FE00010
_FUNCTIONAL_GROUPS = (0x52009229, 0x52009230)
"""Multi-frame objects only, up to megabytes long; nothing wanted comes after them."""
_FIRST_READ = 1 << 14
"""Bytes; holds the whole header of nearly every CT slice."""

_SHORT = struct.Struct("<H")
_NUMBER = struct.Struct("<d")


@dataclass(frozen=True)
class Header:
    """The elements of one file that are needed to place it."""

    path: Path

    values: dict[str, str]
    """Keyword to value as text, several values parted by a backslash; absent ones left out."""

    transfer_syntax: str

    pixel_start: int | None
    """Byte in the file where uncompressed pixel data begin; None if pydicom has to find them."""

    pixel_bytes: int
    """Length of the pixel data as the header gives it, in bytes; 0 if not known."""

    def number(self, keyword: str, default: float | None = None) -> float:
        """One number; `default` where it is absent or empty."""
        text = self.values.get(keyword, "")
        if not text and default is not None:
            return default
        return self.numbers(keyword, 1)[0]

    def numbers(self, keyword: str, count: int) -> list[float]:
        """Exactly `count` finite numbers, or a VolumeError that names the file."""
        text = self.values.get(keyword, "")
        try:
            numbers = [float(part) for part in text.split("\\")]
        except ValueError:
            numbers = []
        if len(numbers) != count or any(abs(n) == float("inf") or n != n for n in numbers):
            raise VolumeError(
                f"{self.path.name}: {keyword} is {text!r}, {count} number(s) are needed; "
                "the file is damaged or incomplete."
            )
        return numbers


def is_uid(text: str) -> bool:
    """Whether a text is a UID (PS3.5, 9.1), and so also a safe file name.

    Example:
        >>> is_uid("1.2.840.10008.1.2"), is_uid("../1.2")
        (True, False)
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether a SeriesInstanceUID can name a file, although it may be no UID.

    Anonymizers make UIDs of more than 64 characters, and with letters.

    Example:
        >>> is_name("1.2.3.A7F03C.44.9"), is_name("../1.2"), is_name("")
        (True, False, False)
    """
    return _NAME.fullmatch(text) is not None and ".." not in text


def is_dicom_file(path: Path) -> bool:
    """Whether a file starts as DICOM does: with the preamble, or with group 0008 without it."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or starts_bare(start)


def read_header(path: Path) -> Header | None:
    """The header of one file.

    Args:
        path: any file.

    Returns:
        None if the file is not DICOM.

    Raises:
        VolumeError: it is DICOM by its name or its start, but cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(_FIRST_READ) or b""
            try:
                return _scan_file(path, start)
            except (CannotScanError, struct.error, RecursionError):
                if not is_dicom_file(path):
                    if path.suffix.lower() == ".dcm":
                        raise VolumeError(
                            f"{path.name} is not a DICOM file ({len(start)} bytes read); "
                            "copy it again, or remove it from the folder."
                        ) from None
                    return None
            try:
                return _scan_file(path, start + file.readall())
            except (CannotScanError, struct.error, RecursionError):
                return _read_with_pydicom(path)
    except OSError as error:
        raise VolumeError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def _scan_file(path: Path, data: bytes) -> Header:
    """Header from the first bytes of a file; they must reach the pixel data."""
    if data[128:132] == b"DICM":
        position = 132
    elif starts_bare(data):
        position = 0
    else:
        raise CannotScanError
    transfer_syntax = ""
    while _SHORT.unpack_from(data, position)[0] == 2:
        tag, _, start, length = element_at(data, position, explicit=True)
        position = start + length
        if tag == 0x00020010:
            transfer_syntax = _text(data[start:position])
    if not transfer_syntax:
        # DICOM's default is implicit VR; a data set that shows its VRs says otherwise.
        shown = data[position + 4 : position + 6] in SHORT_VR | LONG_VR
        transfer_syntax = EXPLICIT_LITTLE if shown else IMPLICIT_LITTLE
    if transfer_syntax in (EXPLICIT_BIG, DEFLATED):
        raise CannotScanError
    explicit = transfer_syntax != IMPLICIT_LITTLE
    values: dict[str, str] = {}
    while position < len(data):
        tag, vr, start, length = element_at(data, position, explicit)
        if tag == _PIXEL_DATA:
            native = transfer_syntax in (IMPLICIT_LITTLE, EXPLICIT_LITTLE) and length != UNDEFINED
            return Header(
                path, values, transfer_syntax, start if native else None, length if native else 0
            )
        if tag in _FUNCTIONAL_GROUPS:
            return Header(path, values, transfer_syntax, None, 0)
        if length == UNDEFINED:
            position = sequence_end(data, start, explicit and vr != b"UN")
            continue
        position = start + length
        if tag in _WANTED:
            if position > len(data):
                raise CannotScanError
            raw = data[start:position]
            if tag in _TEXT:
                values[_WANTED[tag]] = _text(raw)
            elif tag in _DOUBLE:
                if len(raw) == _NUMBER.size:
                    values[_WANTED[tag]] = str(_NUMBER.unpack(raw)[0])
            elif raw:
                values[_WANTED[tag]] = str(_SHORT.unpack_from(raw)[0])
    if position != len(data) or len(data) == _FIRST_READ:
        raise CannotScanError
    return Header(path, values, transfer_syntax, None, 0)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8").strip(" \0")
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip(" \0")


def _read_with_pydicom(path: Path) -> Header:
    """Header of a file that the scan does not know."""
    from pydicom import dcmread
    from pydicom.multival import MultiValue

    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=list(_WANTED), force=True)
        values = {}
        for tag, keyword in _WANTED.items():
            value = dataset[tag].value if tag in dataset else None
            if value is not None:
                parts = value if isinstance(value, MultiValue) else [value]
                if tag in _UNSIGNED_SHORT:
                    parts = [int(part) & 0xFFFF for part in parts]
                values[keyword] = "\\".join(str(part) for part in parts)
        meta = dataset.file_meta
    except Exception as error:  # pydicom raises whatever its parser trips over.
        raise VolumeError(f"{path.name} is a damaged DICOM file: {error}") from error
    if "SOPClassUID" not in values:
        raise VolumeError(
            f"{path.name} is a truncated or damaged DICOM file: it does not say what it is. "
            "Transfer the series again, or remove the file."
        )
    return Header(path, values, str(meta.get("TransferSyntaxUID", IMPLICIT_LITTLE)), None, 0)
