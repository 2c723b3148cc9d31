"""How both CTs were made: read from headers, told where it differs; the interval widens for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom, make_phantom, write_dicom_series, write_nifti
from resmtnet.findings import Size
from resmtnet.followup.acquisition import Acquisition, differences, widening
from resmtnet.followup.change import change_of

THIN = Acquisition(1.25, "B30f", "SIEMENS Sensation 16", False, False)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(shape_kji=(8, 16, 16), nodules=[], centre_lps_mm=(-75.0, 0.0, 20.0))


def dicom(phantom: Phantom, folder: Path, **headers: Any) -> CTVolume:
    write_dicom_series(phantom, folder)
    for file in folder.iterdir():
        dataset = dcmread(file)
        for name, value in headers.items():
            setattr(dataset, name, value)
        dataset.save_as(file)
    return CTVolume.open(folder)


def test_headers_say_how_a_ct_was_made(phantom: Phantom, tmp_path: Path) -> None:
    told = Acquisition.of(
        dicom(
            phantom,
            tmp_path,
            SliceThickness="5",
            ConvolutionKernel="B70f",
            Manufacturer="SIEMENS",
            ManufacturerModelName="Sensation 16",
            ContrastBolusAgent="Ultravist",
            PatientPosition="FFP",
        )
    )
    assert told == Acquisition(5.0, "B70f", "SIEMENS Sensation 16", True, True)


def test_overlapping_slices_are_as_thick_as_the_header_says(
    phantom: Phantom, tmp_path: Path
) -> None:
    assert Acquisition.of(dicom(phantom, tmp_path / "a", SliceThickness="3")).slice_mm == 3.0
    thinner = Acquisition.of(dicom(phantom, tmp_path / "b", SliceThickness="0.6"))
    assert thinner.slice_mm == phantom.geometry.spacing_mm[2]


def test_a_file_of_another_format_tells_its_slices_alone(phantom: Phantom, tmp_path: Path) -> None:
    write_nifti(phantom, tmp_path / "ct.nii")
    told = Acquisition.of(CTVolume.open(tmp_path / "ct.nii"))
    assert told == Acquisition(phantom.geometry.spacing_mm[2])
    (note,) = differences(told, THIN, None)
    assert "scanner, kernel and contrast agent of the prior CT are not known" in note
    assert "of both CTs" in differences(told, told, None)[0]


def test_slices_along_another_axis_are_found() -> None:
    sagittal = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    ct = CTVolume.from_array(np.zeros((4, 5, 6), np.int16), (0.7, 2.5, 0.7), direction=sagittal)
    assert Acquisition.of(ct).slice_mm == 2.5


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"slice_mm": 5.0}, "slices of 1.25 mm before and 5 mm now"),
        ({"kernel": "B70f"}, "kernel B30f before and B70f now"),
        ({"scanner": "GE LightSpeed"}, "SIEMENS Sensation 16 before and GE LightSpeed now"),
        ({"contrast": True}, "with a contrast agent now only"),
        ({"prone": True}, "prone now only"),
    ],
)
def test_what_differs_is_told(changed: dict[str, Any], word: str) -> None:
    (note,) = differences(THIN, replace(THIN, **changed), 1.0)
    assert word in note


def test_another_breath_is_told() -> None:
    (note,) = differences(THIN, THIN, 0.8)
    assert "-20% in volume" in note
    assert differences(THIN, THIN, 0.9) == []
    assert differences(THIN, THIN, None) == []


def test_the_same_protocol_needs_no_note() -> None:
    assert differences(THIN, THIN, 1.02) == []


@pytest.mark.parametrize("changed", [{"slice_mm": 5.0}, {"kernel": "B70f"}])
def test_thick_slices_and_another_kernel_widen_the_interval(
    changed: dict[str, Any],
) -> None:
    now = replace(THIN, **changed)
    assert widening(THIN, THIN) == 0.0
    assert widening(THIN, now) == widening(now, THIN) > 0.0
    before = Size(volume_mm3=100.0, interval_90={"volume_mm3": (80.0, 125.0)})
    after = Size(volume_mm3=150.0, interval_90={"volume_mm3": (120.0, 187.0)})
    same, wider = (
        change_of("volume_mm3", before, after, widening(THIN, one)) for one in (THIN, now)
    )
    assert same is not None
    assert wider is not None
    assert same.ratio_interval_90 is not None
    assert wider.ratio_interval_90 is not None
    assert wider.ratio_interval_90[0] < same.ratio_interval_90[0]
    assert wider.ratio_interval_90[1] > same.ratio_interval_90[1]


def test_a_kernel_that_nobody_tells_widens_nothing() -> None:
    assert widening(THIN, Acquisition(1.25)) == 0.0
