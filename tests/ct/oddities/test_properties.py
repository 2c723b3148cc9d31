"""Any legal way to write a CT reads to the HU and the places that pydicom, nibabel and ITK give."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pydicom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from odd_files import write_slice
from resmtnet.ct import CTVolume

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
]
AXES = [
    np.array([np.eye(3)[a] * signs[0], np.eye(3)[b] * signs[1]])
    for a, b in itertools.permutations(range(3), 2)
    for signs in itertools.product((1, -1), repeat=2)
]
SLOW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def dicom_writers(draw: st.DrawFn) -> dict[str, object]:
    """One legal combination of how a series is stored."""
    signed = draw(st.booleans())
    stored = draw(st.sampled_from([12, 13, 16]))
    return {
        "syntax": draw(st.sampled_from(SYNTAXES)),
        "signed": signed,
        "stored": stored,
        "slope": draw(st.sampled_from(["1", "1.0", "1.000000", "2", "0.5"])),
        "intercept": draw(
            st.sampled_from(
                ["-1024", "-1024.0", "-1000", "0"]
                if signed
                else ["-1024", "-1024.0", "-1000", "-8192"]
            )
        ),
        "axes": draw(st.sampled_from(AXES)),
        "order": draw(st.permutations(range(5))),
        "digits": draw(st.integers(2, 6)),
        "step": draw(st.sampled_from([0.6, 1.25, 2.0, 5.0])),
        "photometric": draw(st.sampled_from(["MONOCHROME2", "MONOCHROME1"])),
        "names": draw(st.sampled_from(["{:03d}.dcm", "IM{}", "{}.IMA", "slice {} ä"])),
        "seed": draw(st.integers(0, 1000)),
    }


def _write(folder: Path, how: dict[str, object]) -> None:
    low, high = (-(2 ** (how["stored"] - 1)), 2 ** (how["stored"] - 1) - 1)  # type: ignore[operator]
    if not how["signed"]:
        low, high = 0, high - low
    random = np.random.default_rng(how["seed"])  # type: ignore[arg-type]
    row, column = how["axes"]  # type: ignore[misc]
    normal = np.cross(row, column)
    digits = how["digits"]
    for k in range(5):
        words = random.integers(max(low, -3000), min(high, 3000), (6, 7))
        path = folder / str(how["names"]).format(how["order"][k])  # type: ignore[index]
        position = np.array([3.5, -20.0, 100.0]) + k * how["step"] * normal  # type: ignore[operator]
        big = how["syntax"] == ExplicitVRBigEndian
        ds = write_slice(
            np.zeros((1, 20, 24), np.int16),
            0,
            path,
            InstanceNumber=k + 1,
            ImagePositionPatient=[f"{x:.{digits}f}" for x in position],
            ImageOrientationPatient=[f"{x:.{digits}f}" for x in (*row, *column)],
            PixelSpacing=[f"{0.75:.{digits}f}", f"{0.5:.{digits}f}"],
            Rows=6,
            Columns=7,
            BitsStored=how["stored"],
            HighBit=how["stored"] - 1,  # type: ignore[operator]
            PixelRepresentation=int(bool(how["signed"])),
            PhotometricInterpretation=how["photometric"],
            RescaleSlope=how["slope"],
            RescaleIntercept=how["intercept"],
            PixelData=words.astype("<i2" if how["signed"] else "<u2").tobytes(),
        )
        ds.is_implicit_VR = how["syntax"] == ImplicitVRLittleEndian
        ds.is_little_endian = not big
        ds.file_meta.TransferSyntaxUID = how["syntax"]
        if big:
            ds.PixelData = words.astype(">i2" if how["signed"] else ">u2").tobytes()
        if how["syntax"] == RLELossless:
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        pydicom.dcmwrite(path, ds, write_like_original=False)


@SLOW
@given(how=dicom_writers())
def test_a_series_reads_to_what_pydicom_gives_however_it_is_written(how: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        _write(folder, how)
        ct = CTVolume.open(folder)
        array = ct.array()
        for path in folder.iterdir():
            ds = pydicom.dcmread(path)
            scaled = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
            k = ct.geometry.lps_to_ijk([float(x) for x in ds.ImagePositionPatient])
            assert np.allclose(k[:2], 0, atol=0.02)
            assert np.abs(k[2] - round(float(k[2]))) < 0.02
            assert np.array_equal(array[round(float(k[2]))], np.rint(scaled).clip(-32768, 32767))
            assert ct.geometry.spacing_mm[:2] == (
                float(ds.PixelSpacing[1]),
                float(ds.PixelSpacing[0]),
            )


@st.composite
def image_writers(draw: st.DrawFn) -> dict[str, object]:
    """One legal way to write a volume as one file."""
    first, second = draw(st.sampled_from([(axes[0], axes[1]) for axes in AXES]))
    hand = draw(st.sampled_from([1, -1]))
    angle = draw(st.sampled_from([0.0, 0.1, 0.7]))
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    return {
        "suffix": draw(st.sampled_from([".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])),
        "dtype": draw(st.sampled_from([np.int16, np.uint16, np.float32, np.uint8])),
        "direction": turn @ np.stack([first, second, hand * np.cross(first, second)], axis=1),
        "spacing": draw(st.tuples(*[st.sampled_from([0.5, 0.703125, 1.0, 2.5])] * 3)),
        "origin": draw(st.tuples(*[st.floats(-300, 300, width=32)] * 3)),
        "compressed": draw(st.booleans()),
        "seed": draw(st.integers(0, 1000)),
    }


@SLOW
@given(how=image_writers())
def test_a_file_reads_to_what_itk_gives_however_it_is_written(how: dict[str, object]) -> None:
    dtype = np.dtype(how["dtype"])  # type: ignore[call-overload]
    low = 0 if dtype.kind == "u" else -1000
    random = np.random.default_rng(how["seed"])  # type: ignore[arg-type]
    voxels = random.integers(low, 250, (4, 5, 6)).astype(dtype)
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / f"ct 1{how['suffix']}"
        image = itk.image_from_array(voxels)
        image.SetSpacing(how["spacing"])
        image.SetOrigin([float(x) for x in how["origin"]])  # type: ignore[attr-defined]
        image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(how["direction"])))
        itk.imwrite(image, str(path), compression=bool(how["compressed"]))
        ct = CTVolume.open(path)
        assert np.array_equal(ct.array(), voxels)
        for ijk in [(0, 0, 0), (5, 0, 0), (0, 4, 0), (0, 0, 3)]:
            expected = list(image.TransformIndexToPhysicalPoint(ijk))
            assert np.allclose(ct.geometry.ijk_to_lps(ijk), expected, atol=2e-3)
        if str(how["suffix"]).startswith(".nii"):
            affine = nib.load(path).affine
            ras = affine @ (5, 4, 3, 1)
            assert np.allclose(ct.geometry.ijk_to_lps((5, 4, 3)), ras[:3] * (-1, -1, 1), atol=2e-3)
