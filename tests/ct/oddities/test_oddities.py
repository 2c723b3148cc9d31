"""Files as they are found in practice: each is read right, or refused or warned of, never wrong.

`ODDITIES` is the table of them: what is odd, where it was reported, and what is right. The same
table stands in docs/reading-files.md.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from odd_files import (
    AFFINE_RAS,
    META_GRID,
    NK,
    NRRD_GRID,
    ORIGIN_LPS_MM,
    SPACING_MM,
    chest,
    without_meta_header,
    write_meta,
    write_nifti,
    write_nrrd,
    write_series,
    write_slice,
)
from resmtnet.ct import CTVolume
from resmtnet.errors import VolumeError

HU = chest()
OTHER = chest(seed=1)
STEP = SPACING_MM[2]
BOTTOM = ORIGIN_LPS_MM[2]


@dataclass(frozen=True)
class Oddity:
    """One kind of odd file."""

    kind: str
    source: str
    """Where it was reported."""
    write: Callable[[Path], Path]
    """Writes it into an empty folder, and gives what is opened."""
    hu: np.ndarray | str | None
    """The HU that are right, or how they differ from `HU`; None: it is refused."""
    told: str = ""
    """What the error or one of the warnings says; "": there is no warning."""


def _two(folder: Path, **second: Any) -> Path:
    """Two acquisitions at the same positions, their files in mixed order."""
    write_series(folder, HU, "b")
    return write_series(folder, OTHER, "a", **second)


def _passes(folder: Path, shift: float, number: int | None, first: int = 101) -> Path:
    """A second pass that is out of step with the first by a part of the slice spacing."""
    write_series(folder, HU, "a")
    z = [BOTTOM + (k + shift) * STEP for k in range(NK)]
    return write_series(
        folder,
        OTHER,
        "b",
        z,
        lambda k: {"AcquisitionNumber": number or 1, "InstanceNumber": first + k},
    )


def _interleaved(folder: Path) -> Path:
    """Two reconstructions whose numbers alternate, and no other element."""
    write_series(folder, HU, "a", change=lambda k: {"InstanceNumber": 2 * k + 1})
    return write_series(folder, OTHER, "b", change=lambda k: {"InstanceNumber": 2 * k + 2})


def _by_time(folder: Path) -> Path:
    """Two phases of which every image has a time of its own."""
    for start, hu, prefix in ((120000, HU, "a"), (120500, OTHER, "b")):
        write_series(
            folder, hu, prefix, change=lambda k, start=start: {"AcquisitionTime": f"{start + k}"}
        )
    return folder


def _step_and_shoot(folder: Path) -> Path:
    """One volume of acquisitions of four slices each, as a sequential scan makes them."""
    return write_series(folder, HU, change=lambda k: {"AcquisitionNumber": 1 + k // 4})


def _copies(folder: Path) -> Path:
    write_series(folder, HU)
    for path in list(folder.iterdir())[:5]:
        shutil.copy(path, folder / f"copy of {path.name}")
    return folder


def _off_grid(folder: Path) -> Path:
    z = sorted([BOTTOM + k * STEP for k in range(NK - 1)] + [BOTTOM + 5 * STEP + 0.2])
    return write_series(folder, HU, z_mm=z)


def _missing(folder: Path) -> Path:
    write_series(folder, HU)
    (folder / "a005.dcm").unlink()
    return folder


def _with(folder: Path, **image: Any) -> Path:
    """A series with an image of another kind in it."""
    write_series(folder, HU)
    write_slice(HU, 0, folder / "x.dcm", **image)
    return folder


def _padded(folder: Path, word: int, declared: bool, **bits: Any) -> Path:
    """A corner of each slice is padding."""
    folder.mkdir(exist_ok=True)
    for k in range(NK):
        path = folder / f"{k:03d}.dcm"
        ds = write_slice(HU, k, path, PixelRepresentation=0, **bits)
        words = (HU[k].astype(np.int32) + 1024).astype("<u2")
        words[0, :5] = word
        ds.PixelData = words.tobytes()
        if declared:
            ds.add_new(0x00280120, "US", word)
        ds.save_as(path, write_like_original=False)
    return folder


def _bare(folder: Path, implicit: bool) -> Path:
    write_series(folder, HU)
    without_meta_header(folder, implicit)
    return folder


def _no_syntax(folder: Path) -> Path:
    write_series(folder, HU)
    for path in folder.iterdir():
        ds = dcmread(path)
        ds.is_implicit_VR = True
        del ds.file_meta.TransferSyntaxUID
        ds.save_as(path, write_like_original=True)
    return folder


def _syntax(folder: Path, uid: str) -> Path:
    """A transfer syntax that nothing here decodes, written over that of the files."""
    write_series(folder, HU)
    old = b"1.2.840.10008.1.2.1\0"
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(old, uid.encode().ljust(len(old), b"\0"), 1))
    return folder


def _forms(path: Path, sform: np.ndarray, qform: np.ndarray) -> Path:
    image = nib.Nifti1Image(HU.T, sform)
    image.set_sform(sform, 1)
    image.set_qform(qform, 1)
    nib.save(image, path)
    return path


def _unit(path: Path, code: int, factor: float) -> Path:
    affine = np.diag([factor, factor, factor, 1.0]) @ AFFINE_RAS
    image = nib.Nifti1Image(HU.T, affine)
    image.set_qform(affine, 1)
    image.header["xyzt_units"] = code
    nib.save(image, path)
    return path


def _damaged(path: Path, at: int) -> Path:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    return path


def _short(path: Path, n_bytes: int) -> Path:
    path.write_bytes(path.read_bytes()[:-n_bytes])
    return path


def _named(path: Path, name: str) -> Path:
    return path.rename(path.parent / name)


def _metres(path: Path, unit: str, factor: float) -> Path:
    spacing = [f"{mm * factor:.7g}" for mm in SPACING_MM]
    origin = [f"{mm * factor:.7g}" for mm in ORIGIN_LPS_MM]
    grid = (
        f"space directions: ({spacing[0]},0,0) (0,{spacing[1]},0) (0,0,{spacing[2]})\n"
        f"space origin: ({','.join(origin)})\nspace units: " + f'"{unit}" ' * 3 + "\n"
    )
    return write_nrrd(path, HU, grid)


MIRRORED = np.diag([-1.0, 1.0, 1.0, 1.0]) @ AFFINE_RAS
ELSEWHERE = AFFINE_RAS + np.array([[0, 0, 0, 7.0]] + [[0, 0, 0, 0]] * 3)

DCM2NIIX, SLICER = (
    "https://github.com/rordenlab/dcm2niix/issues",
    "https://github.com/Slicer/Slicer",
)
VTK_DICOM = "https://github.com/dgobbi/vtk-dicom/issues"
CORNERSTONE = "https://github.com/cornerstonejs/cornerstone3D/issues"
PYDICOM, PYNRRD = (
    "https://github.com/pydicom/pydicom/issues",
    "https://github.com/mhe/pynrrd/issues",
)

ODDITIES = [
    # Which acquisition is a slice of?
    Oddity(
        "two kernels",
        f"{CORNERSTONE}/555",
        lambda p: _two(p / "s", ConvolutionKernel="B70f"),
        OTHER,
        "ConvolutionKernel B70f",
    ),
    Oddity(
        "two times",
        f"{DCM2NIIX}/837",
        lambda p: _two(p / "s", AcquisitionTime="130000"),
        OTHER,
        "AcquisitionTime 130000",
    ),
    Oddity("two energies", "DICOM PS3.3 C.8.2.1", lambda p: _two(p / "s", KVP="140"), OTHER, "KVP"),
    Oddity(
        "two image types",
        "https://github.com/rordenlab/dcm2niix/pull/174",
        lambda p: _two(p / "s", ImageType=["DERIVED", "SECONDARY", "MPR"]),
        OTHER,
        "ImageType",
    ),
    Oddity(
        "two patients under one UID",
        "no report of its own",
        lambda p: _two(p / "s", PatientID="B"),
        OTHER,
        "PatientID",
    ),
    Oddity(
        "two fields of view",
        "no report of its own",
        lambda p: _fields_of_view(p / "s"),
        HU,
        "ImagePositionPatient",
    ),
    Oddity(
        "phases by the time of each image",
        f"{CORNERSTONE}/555",
        lambda p: _by_time(p / "s"),
        HU,
        "holds 2 stacks",
    ),
    Oddity(
        "alternating instance numbers",
        f"{DCM2NIIX}/837",
        lambda p: _interleaved(p / "s"),
        HU,
        "InstanceNumber",
    ),
    Oddity(
        "half a slice out of step",
        f"{VTK_DICOM}/220",
        lambda p: _passes(p / "s", 0.5, 2),
        HU,
        "AcquisitionNumber",
    ),
    Oddity(
        "overlapping and out of step",
        f"{VTK_DICOM}/220",
        lambda p: _passes(p / "s", 6.3, 2),
        HU,
        "AcquisitionNumber",
    ),
    Oddity(
        "out of step, by number only",
        f"{DCM2NIIX}/721",
        lambda p: _passes(p / "s", 0.5, None),
        HU,
        "InstanceNumber",
    ),
    Oddity(
        "nothing tells them apart",
        f"{DCM2NIIX}/837",
        lambda p: _two(p / "s"),
        None,
        "lie at one position",
    ),
    Oddity(
        "acquisitions that continue one another",
        f"{DCM2NIIX}/48",
        lambda p: _step_and_shoot(p / "s"),
        HU,
    ),
    Oddity(
        "copies of files", "no report of its own", lambda p: _copies(p / "s"), HU, "5 of 17 images"
    ),
    # Groups by tolerance
    Oddity(
        "spacing with other digits",
        "https://github.com/pyushkevich/itksnap/pull/128",
        lambda p: write_series(
            p / "s",
            HU,
            change=lambda k: {"PixelSpacing": ["0.7000000", "0.80"] if k % 2 else ["0.7", "0.8"]},
        ),
        HU,
    ),
    Oddity(
        "orientation off in the sixth digit",
        f"{DCM2NIIX}/22",
        lambda p: write_series(
            p / "s",
            HU,
            change=lambda k: {"ImageOrientationPatient": [1, 0.000001 * (k % 3), 0, 0, 1, 0]},
        ),
        HU,
    ),
    Oddity(
        "one slice off the grid",
        f"{DCM2NIIX}/22",
        lambda p: _off_grid(p / "s"),
        np.delete(HU, 6, 0),
        "uneven",
    ),
    # HU
    Oddity(
        "RescaleSlope 0",
        "https://github.com/OpenGATE/GateTools/pull/68",
        lambda p: write_series(p / "s", HU, RescaleSlope="0"),
        HU,
        "RescaleSlope is 0",
    ),
    Oddity(
        "no RescaleSlope",
        "DICOM PS3.3 C.8.2.1",
        lambda p: write_series(p / "s", HU, RescaleSlope=None),
        None,
        "no RescaleSlope",
    ),
    Oddity(
        "no RescaleIntercept",
        "https://github.com/notmatthancock/pylidc/pull/32",
        lambda p: write_series(p / "s", HU, RescaleIntercept=None),
        None,
        "RescaleIntercept",
    ),
    Oddity(
        "values that are no HU",
        "DICOM PS3.3 C.11.1",
        lambda p: write_series(p / "s", HU, RescaleType="MGML"),
        None,
        "RescaleType MGML",
    ),
    Oddity(
        "padding above the stored bits",
        f"{VTK_DICOM}/173",
        lambda p: _padded(p / "s", 63536, True, BitsStored=12, HighBit=11),
        "padded",
    ),
    Oddity(
        "padding 63536 of 16 bits",
        f"{VTK_DICOM}/173",
        lambda p: _padded(p / "s", 63536, True),
        "padded",
    ),
    Oddity(
        "padding 8000H",
        "https://github.com/Enet4/dicom-rs/issues/460",
        lambda p: _padded(p / "s", 0x8000, True),
        "padded",
    ),
    Oddity(
        "padding that no element names",
        f"{VTK_DICOM}/128",
        lambda p: _padded(p / "s", 63536, False, BitsStored=12, HighBit=11),
        "padded",
        "taken for padding",
    ),
    Oddity(
        "HighBit above right-aligned words",
        "https://github.com/pydicom/pydicom/pull/2066",
        lambda p: write_series(p / "s", HU, BitsStored=12, HighBit=15, PixelRepresentation=0),
        HU,
        "HighBit 15 does not go with BitsStored 12",
    ),
    Oddity(
        "MONOCHROME1",
        "https://github.com/SimpleITK/SimpleITK/issues/1795",
        lambda p: write_series(p / "s", HU, PhotometricInterpretation="MONOCHROME1"),
        HU,
    ),
    # Units and geometry
    Oddity(
        "NRRD without spacing",
        f"{PYNRRD}/109",
        lambda p: write_nrrd(p / "ct.nrrd", HU, grid="", space=""),
        None,
        "--spacing x,y,z",
    ),
    Oddity(
        "NRRD with spacings of nan",
        f"{PYNRRD}/37",
        lambda p: write_nrrd(p / "ct.nrrd", HU, grid="spacings: nan nan nan\n", space=""),
        None,
        "--spacing x,y,z",
    ),
    Oddity(
        "MetaImage without ElementSpacing",
        f"{PYNRRD}/109",
        lambda p: write_meta(p / "ct.mha", HU, grid=""),
        None,
        "--spacing x,y,z",
    ),
    Oddity(
        "NRRD without orientation",
        f"{PYNRRD}/37",
        lambda p: write_nrrd(p / "ct.nrrd", HU, grid="spacings: 0.8 0.7 2\n", space=""),
        HU,
        "left and right are not known",
    ),
    Oddity(
        "NRRD in metres",
        f"{SLICER}/issues/7631",
        lambda p: _metres(p / "ct.nrrd", "m", 1e-3),
        HU,
        "is in m: converted to mm",
    ),
    Oddity(
        "NRRD in microns",
        "https://github.com/ANTsX/ANTsPy/issues/514",
        lambda p: _metres(p / "ct.nrrd", "um", 1e3),
        HU,
        "is in um: converted to mm",
    ),
    Oddity(
        "NRRD in pixels",
        f"{SLICER}/issues/7631",
        lambda p: _metres(p / "ct.nrrd", "pixel", 1.0),
        None,
        "unit of its grid is pixel",
    ),
    Oddity(
        "NRRD in a unit that is not said",
        f"{SLICER}/issues/7631",
        lambda p: write_nrrd(p / "ct.nrrd", HU, grid=NRRD_GRID.replace("0.8,", "0.0008,")),
        None,
        "or its unit",
    ),
    Oddity(
        "NIfTI in metres",
        "https://github.com/InsightSoftwareConsortium/ITK/pull/4595",
        lambda p: _unit(p / "ct.nii.gz", 1, 1e-3),
        HU,
        "is in meter: converted to mm",
    ),
    Oddity(
        "NIfTI in microns",
        "https://github.com/InsightSoftwareConsortium/ITK/pull/4595",
        lambda p: _unit(p / "ct.nii", 3, 1e3),
        HU,
        "is in micron: converted to mm",
    ),
    Oddity(
        "qform mirrored",
        "https://github.com/nipy/nibabel/discussions/1523",
        lambda p: _forms(p / "ct.nii.gz", AFFINE_RAS, MIRRORED),
        None,
        "opposite sides",
    ),
    Oddity(
        "sform mirrored",
        "https://github.com/nipy/nibabel/discussions/1523",
        lambda p: _forms(p / "ct.nii", MIRRORED, AFFINE_RAS),
        None,
        "opposite sides",
    ),
    Oddity(
        "qform elsewhere",
        "https://github.com/nipy/nibabel/discussions/1523",
        lambda p: _forms(p / "ct.nii.gz", AFFINE_RAS, ELSEWHERE),
        HU,
        "disagree",
    ),
    Oddity(
        "NIfTI with a wrong checksum",
        "RFC 1952",
        lambda p: _damaged(write_nifti(p / "ct.nii.gz", HU), -6),
        None,
        "is damaged",
    ),
    Oddity(
        "NRRD with a wrong checksum",
        "RFC 1952",
        lambda p: _damaged(write_nrrd(p / "ct.nrrd", HU, encoding="gzip"), -6),
        None,
        "ct.nrrd",
    ),
    Oddity(
        "MetaImage with a wrong checksum",
        "RFC 1950",
        lambda p: _damaged(write_meta(p / "ct.mha", HU, compressed=True), -2),
        None,
        "damaged",
    ),
    Oddity(
        "head CT",
        "no report of its own",
        lambda p: write_series(p / "s", HU, BodyPartExamined="HEAD"),
        HU,
        "not a CT of the chest",
    ),
    # What a workstation reads, ignores or names
    Oddity(
        "explicit VR without meta header", f"{PYDICOM}/860", lambda p: _bare(p / "s", False), HU
    ),
    Oddity("implicit VR without meta header", f"{PYDICOM}/258", lambda p: _bare(p / "s", True), HU),
    Oddity("no TransferSyntaxUID", f"{PYDICOM}/860", lambda p: _no_syntax(p / "s"), HU),
    Oddity(
        "colour image in the series",
        f"{SLICER}/pull/7089",
        lambda p: _with(
            p / "s",
            SamplesPerPixel=3,
            PhotometricInterpretation="RGB",
            BitsAllocated=8,
            PixelData=bytes(3 * HU[0].size),
        ),
        HU,
        "1 in colour",
    ),
    Oddity(
        "localizer in the series",
        "no report of its own",
        lambda p: _with(
            p / "s",
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
        ),
        HU,
        "1 localizer",
    ),
    Oddity(
        "other modality in the series",
        "no report of its own",
        lambda p: _with(p / "s", Modality="OT"),
        HU,
        "1 of modality OT",
    ),
    Oddity(
        "missing slice",
        f"{DCM2NIIX}/721",
        lambda p: _missing(p / "s"),
        "filled",
        "1 slice is missing",
    ),
    Oddity(
        "upper-case MetaImage",
        f"{SLICER}/issues/3511",
        lambda p: _named(write_meta(p / "ct.mha", HU), "CT.MHA"),
        HU,
    ),
    Oddity(
        "upper-case NIfTI",
        f"{SLICER}/issues/3511",
        lambda p: _named(write_nifti(p / "ct.nii.gz", HU), "CT.NII.GZ"),
        HU,
    ),
    Oddity(
        "mixed-case NIfTI",
        f"{SLICER}/issues/3511",
        lambda p: _named(write_nifti(p / "ct.nii", HU), "Ct.Nii"),
        HU,
    ),
    Oddity(
        "upper-case NRRD",
        f"{SLICER}/issues/3511",
        lambda p: _named(write_nrrd(p / "ct.nrrd", HU), "CT.NRRD"),
        HU,
    ),
    Oddity(
        "NIfTI-2",
        "https://github.com/InsightSoftwareConsortium/ITK/issues/3639",
        lambda p: write_nifti(p / "ct.nii", HU, version=2),
        HU,
    ),
    Oddity(
        "compressed NIfTI-2",
        "https://github.com/InsightSoftwareConsortium/ITK/issues/3639",
        lambda p: write_nifti(p / "ct.nii.gz", HU, version=2),
        HU,
    ),
    Oddity(
        "LUNA16 MetaImage",
        "https://luna16.grand-challenge.org",
        lambda p: write_meta(
            p / "1.3.6.1.mha",
            HU,
            META_GRID + "CenterOfRotation = 0 0 0\nAnatomicalOrientation = RAI\n",
        ),
        HU,
    ),
    Oddity(
        "space and letters of any script in the name",
        "no report of its own",
        lambda p: write_nifti(p / "Müller 肺 1.nii.gz", HU),
        HU,
    ),
    # Words
    Oddity(
        "unknown transfer syntax",
        f"{CORNERSTONE}/2650",
        lambda p: _syntax(p / "s", "1.2.840.10008.1.2.9"),
        None,
        "not supported",
    ),
    Oddity(
        "short MetaImage",
        "https://github.com/lfz/DSB2017/issues/4",
        lambda p: _short(write_meta(p / "ct.mha", HU), 500),
        None,
        "ct.mha is truncated",
    ),
    Oddity(
        ".mhd without its voxels",
        "https://github.com/deep-learning-with-pytorch/dlwpt-code/issues/20",
        lambda p: write_meta(p / "ct.mhd", HU, data="gone.raw"),
        None,
        "gone.raw",
    ),
    Oddity(
        "short .nii",
        "no report of its own",
        lambda p: _short(write_nifti(p / "ct.nii", HU), 500),
        None,
        "ct.nii",
    ),
]


def _fields_of_view(folder: Path) -> Path:
    """Two reconstructions around other centres."""
    write_series(folder, HU, "a")
    for k in range(NK):
        write_slice(
            OTHER, k, folder / f"b{k:03d}.dcm", ImagePositionPatient=[20, 9, BOTTOM + k * STEP]
        )
    return folder


@pytest.mark.parametrize("oddity", ODDITIES, ids=lambda oddity: oddity.kind.replace(" ", "-"))
def test_an_odd_file_is_read_right_or_refused(tmp_path: Path, oddity: Oddity) -> None:
    path = oddity.write(tmp_path)
    if oddity.hu is None:
        with pytest.raises(VolumeError) as caught:
            CTVolume.open(path).array()
        assert oddity.told in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    ct = CTVolume.open(path)
    crop = ct.crop(ct.geometry.ijk_to_lps((3, 3, 5)), 12.0)
    array = ct.array()
    assert np.allclose(ct.geometry.spacing_mm, SPACING_MM, atol=1e-4)
    if "left and right" not in oddity.told:
        assert np.allclose(ct.geometry.origin_lps_mm, ORIGIN_LPS_MM, atol=1e-3)
    expected = oddity.hu
    if isinstance(expected, str):
        changed, expected = expected, HU.copy()
        if changed == "padded":
            expected[:, 0, :5] = -1024
        else:
            expected[5] = np.rint(expected[4] * 0.5 + expected[6] * 0.5)
    assert np.array_equal(array, expected)
    told = (*ct.warnings, *crop.warnings)
    assert any(oddity.told in text for text in told) if oddity.told else told == ()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: write_nrrd(p / "ct.nrrd", HU, grid="", space=""), None),
        (lambda p: write_meta(p / "ct.mha", HU, grid=""), None),
        (lambda p: write_nrrd(p / "ct.nrrd", HU), "gives its own voxel spacing"),
        (lambda p: write_nifti(p / "ct.nii.gz", HU), "gives its own voxel spacing"),
        (lambda p: write_series(p / "s", HU), "DICOM gives its own"),
    ],
)
def test_a_spacing_can_be_given_to_a_file_that_has_none(
    tmp_path: Path, write: Callable[[Path], Path], message: str | None
) -> None:
    path = write(tmp_path)
    if message:
        with pytest.raises(VolumeError, match=message):
            CTVolume.open(path, spacing_ijk_mm=SPACING_MM)
        return
    ct = CTVolume.open(path, spacing_ijk_mm=SPACING_MM)
    assert ct.geometry.spacing_mm == SPACING_MM
    assert np.array_equal(ct.array(), HU)
    with pytest.raises(VolumeError, match="spacing"):
        CTVolume.open(path, spacing_ijk_mm=(0.8, 0.7, 0.0))


def test_each_stack_can_be_asked_for_and_is_whole(tmp_path: Path) -> None:
    path = _two(tmp_path / "s", ConvolutionKernel="B70f")
    assert np.array_equal(CTVolume.open(path, stack=1).array(), OTHER)
    second = CTVolume.open(path, stack=2)
    assert np.array_equal(second.array(), HU)
    assert "as asked for: stack 2" in second.warnings[0]
    for number in (0, 3):
        with pytest.raises(VolumeError, match=r"holds 2: stack 1: .*B70f; stack 2: "):
            CTVolume.open(path, stack=number)
    with pytest.raises(VolumeError, match="one volume"):
        CTVolume.open(write_nifti(tmp_path / "ct.nii", HU), stack=1)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_a_file_replaced_with_the_same_size_and_time_is_read_anew(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"ct{suffix}"
    for hu in (HU, OTHER):
        path.unlink(missing_ok=True)
        if suffix == ".nii.gz":
            image = nib.Nifti1Image(hu.T, AFFINE_RAS)
            path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=0))
        else:
            (write_nrrd if suffix == ".nrrd" else write_meta)(path, hu)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        assert np.array_equal(CTVolume.open(path).array(), hu)


def test_the_table_is_in_the_documentation() -> None:
    page = Path(__file__).parents[3] / "docs" / "reading-files.md"
    text = page.read_text("utf-8")
    assert [oddity.kind for oddity in ODDITIES if f"| {oddity.kind} |" not in text] == []
