"""A whole series of LIDC-IDRI, as a scanner and an archive made it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resmtnet.ct import CTVolume, dicom_series

pytestmark = pytest.mark.real_data

NODULE_LPS_MM = (56.2, 86.2, -115.9)


def test_the_volume_is_that_of_itk(real_ct: Path) -> None:
    import itk

    ct = CTVolume.open(real_ct)
    names = itk.GDCMSeriesFileNames.New(Directory=str(real_ct))
    image = itk.imread(list(names.GetFileNames(names.GetSeriesUIDs()[0])))
    assert np.array_equal(ct.array(), itk.array_from_image(image))
    for ijk in [(0, 0, 0), (511, 0, 0), (0, 511, 132)]:
        expected = list(image.TransformIndexToPhysicalPoint(ijk))
        assert np.allclose(ct.geometry.ijk_to_lps(ijk), expected, atol=1e-3)
    assert ct.warnings == ()


def test_a_crop_is_read_without_the_rest(real_ct: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = dicom_series.decode
    monkeypatch.setattr(dicom_series, "decode", lambda h: decoded.append(h) or decode(h))
    ct = CTVolume.open(real_ct)
    assert decoded == []
    crop = ct.crop(NODULE_LPS_MM, 64.0)
    assert len(decoded) == crop.hu.shape[0] == 30
    i, j, k = np.rint(crop.geometry.lps_to_ijk(NODULE_LPS_MM)).astype(int)
    assert -150 < np.median(crop.hu[k, j - 5 : j + 6, i - 5 : i + 6]) < 150  # solid, 33 mm
    assert crop.warnings == ()
