"""The phantom: reproducible, true to what was asked, and the same in every file format."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pydicom
import pytest

from resmtnet.ct.phantom import (
    NoduleSpec,
    make_phantom,
    series_uid,
    write_dicom_series,
    write_nifti,
    write_study_folder,
)
from resmtnet.errors import InputError

with warnings.catch_warnings():  # SWIG's deprecation warnings, raised inside ITK's C code, crash it
    warnings.simplefilter("ignore")
    import itk

    itk.imread  # noqa: B018 - loads the lazy modules behind it
    itk.GDCMSeriesFileNames  # noqa: B018

RIGHT_LUNG = (-75.0, 5.0, 20.0)
ROUND = NoduleSpec(12.0, centre_lps_mm=RIGHT_LUNG)


def small(*nodules, seed=1, shape=(24, 36, 40), spacing=(1.25, 0.9, 0.8), **options):
    """A little box of right lung, with slices, rows and columns that all differ."""
    options.setdefault("centre_lps_mm", RIGHT_LUNG)
    return make_phantom(seed, shape, spacing, nodules, **options)


@pytest.fixture(scope="module")
def phantom():
    return small(ROUND)


def inside(phantom):
    return phantom.hu[phantom.label_map() == 1]


def test_the_same_seed_gives_the_same_voxels_and_another_one_does_not(phantom):
    np.testing.assert_allclose(small(ROUND).hu, phantom.hu, atol=1)
    assert not np.array_equal(small(ROUND, seed=2).hu, phantom.hu)


def test_seeds_differ_without_noise_too():
    first, second = (small(seed=seed, noise_hu=0.0) for seed in (1, 2))
    assert not np.array_equal(first.hu, second.hu)


def test_voxels_are_int16_hounsfield_units_of_the_shape_asked(phantom):
    assert phantom.hu.dtype == np.int16
    assert phantom.hu.shape == (24, 36, 40)
    assert phantom.geometry.size_ijk == (40, 36, 24)
    assert phantom.geometry.spacing_mm == (0.8, 0.9, 1.25)
    assert phantom.hu.min() >= -1024


def test_the_volume_is_centred_where_asked(phantom):
    middle = phantom.geometry.ijk_to_lps((19.5, 17.5, 11.5))
    np.testing.assert_allclose(middle, RIGHT_LUNG, atol=1e-6)


def test_the_whole_chest_holds_air_fat_soft_tissue_bone_and_two_lungs():
    chest = make_phantom(0, (8, 80, 80), (20.0, 4.0, 4.0), (), noise_hu=0.0)
    middle = chest.hu[4]
    assert chest.hu[:, 0, 0].max() < -990
    lung = (middle > -930) & (middle < -700)
    left, right = lung[:, 40:].mean(), lung[:, :40].mean()
    assert min(left, right) > 0.1
    assert np.mean((middle > -120) & (middle < -70)) > 0.02
    assert np.mean((middle > 20) & (middle < 70)) > 0.03
    assert middle.max() > 300


def test_the_lungs_hold_vessels():
    lung = small(shape=(40, 60, 60), centre_lps_mm=(-65.0, 5.0, 0.0), noise_hu=0.0).hu
    assert 0.002 < np.mean(lung > -500) < 0.3
    assert np.median(lung) < -780


@pytest.mark.parametrize("diameter_mm", [5.0, 10.0, 16.0])
@pytest.mark.parametrize("texture", ["solid", "part-solid", "non-solid"])
def test_the_nodule_has_the_volume_asked_for(diameter_mm, texture):
    spec = NoduleSpec(diameter_mm, texture, 0.5, 0.5, centre_lps_mm=RIGHT_LUNG)
    result = small(spec, noise_hu=0.0)
    (nodule,) = result.nodules
    asked_mm3 = math.pi / 6 * diameter_mm**3
    voxel_mm3 = math.prod(result.geometry.spacing_mm)
    assert nodule.volume_mm3 == pytest.approx(asked_mm3, rel=0.02)
    assert nodule.equivalent_diameter_mm == pytest.approx(diameter_mm, rel=0.01)
    assert (result.label_map() == 1).sum() * voxel_mm3 == pytest.approx(asked_mm3, rel=0.08)


def test_the_axes_of_a_round_nodule_are_its_diameter(phantom):
    (nodule,) = phantom.nodules
    assert nodule.long_axis_mm == pytest.approx(12.0, rel=0.03)
    assert nodule.short_axis_mm == pytest.approx(12.0, rel=0.03)
    assert nodule.mean_diameter_mm == pytest.approx(12.0, rel=0.03)


def test_the_mask_is_centred_where_the_nodule_was_asked_for(phantom):
    kji = np.argwhere(phantom.label_map() == 1).mean(axis=0)
    np.testing.assert_allclose(phantom.geometry.ijk_to_lps(kji[::-1]), RIGHT_LUNG, atol=0.2)


def test_texture_sets_the_density():
    solid, glass = (
        np.median(inside(small(NoduleSpec(12.0, texture, centre_lps_mm=RIGHT_LUNG))))
        for texture in ("solid", "non-solid")
    )
    assert solid == pytest.approx(30, abs=25)
    assert glass == pytest.approx(-620, abs=35)


def test_a_part_solid_nodule_has_a_core_of_the_fraction_asked_for():
    def dense(fraction):
        spec = NoduleSpec(16.0, "part-solid", solid_fraction=fraction, centre_lps_mm=RIGHT_LUNG)
        result = small(spec, noise_hu=0.0)
        return result, result.hu > -285

    vessels = dense(0.0)[1]
    for fraction in (0.4, 0.7):
        result, voxels = dense(fraction)
        volume_mm3 = (voxels & ~vessels).sum() * math.prod(result.geometry.spacing_mm)
        assert result.nodules[0].solid_component_mm == pytest.approx(16 * fraction, rel=0.03)
        assert (6 * volume_mm3 / math.pi) ** (1 / 3) == pytest.approx(16 * fraction, rel=0.1)


def test_only_a_part_solid_nodule_states_a_solid_component(phantom):
    assert phantom.nodules[0].solid_component_mm is None


def roughness(result):
    """Surface of the mask over that of a sphere of its volume, in voxel faces."""
    mask = np.pad(result.label_map() == 1, 1)
    faces = sum(np.count_nonzero(np.diff(mask.astype(np.int8), axis=axis)) for axis in range(3))
    return faces / mask.sum() ** (2 / 3)


@pytest.mark.parametrize("parameter", ["spiculation", "lobulation"])
def test_spiculation_and_lobulation_roughen_the_surface(parameter):
    grid = {"shape": (48, 48, 48), "spacing": (0.5, 0.5, 0.5)}
    smooth = NoduleSpec(12.0, centre_lps_mm=RIGHT_LUNG)
    rough = NoduleSpec(12.0, centre_lps_mm=RIGHT_LUNG, **{parameter: 1.0})
    assert roughness(small(rough, **grid)) > 1.04 * roughness(small(smooth, **grid))


def test_lobulation_makes_the_nodule_less_round():
    lobed = small(NoduleSpec(12.0, lobulation=1.0, centre_lps_mm=RIGHT_LUNG)).nodules[0]
    assert lobed.short_axis_mm < 0.97 * lobed.long_axis_mm


def test_spikes_do_not_count_in_the_axes():
    spiky = small(NoduleSpec(12.0, spiculation=1.0, centre_lps_mm=RIGHT_LUNG)).nodules[0]
    assert spiky.long_axis_mm <= 12.0


def test_without_a_centre_nodules_lie_apart_inside_lung():
    specs = [NoduleSpec(8.0), NoduleSpec(8.0)]
    plain = small(shape=(36, 60, 60), noise_hu=0.0)
    placed = small(*specs, shape=(36, 60, 60), noise_hu=0.0)
    first, second = placed.nodules
    assert math.dist(first.centre_lps_mm, second.centre_lps_mm) > 12
    assert np.median(plain.hu[placed.label_map() > 0]) < -750


def test_noise_has_the_standard_deviation_asked_for():
    clean, noisy = (small(noise_hu=noise).hu.astype(float) for noise in (0.0, 30.0))
    assert (noisy - clean).std() == pytest.approx(30, rel=0.05)


def test_the_blur_softens_edges():
    sharp, blurred = (small(ROUND, noise_hu=0.0, psf_fwhm_mm=w).hu for w in (0.0, 3.0))
    steepest = [np.abs(np.diff(hu.astype(float), axis=2)).max() for hu in (sharp, blurred)]
    assert steepest[1] < 0.7 * steepest[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"equivalent_diameter_mm": 0.5}, "2 to 60 mm"),
        ({"texture": "ground glass"}, "allowed: non-solid, part-solid, solid"),
        ({"spiculation": 2.0}, "allowed: 0 to 1"),
        ({"lobulation": -1.0}, "allowed: 0 to 1"),
        ({"solid_fraction": math.nan}, "allowed: 0 to 1"),
    ],
)
def test_an_impossible_nodule_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        NoduleSpec(**options)


def test_a_nodule_outside_the_volume_is_refused():
    with pytest.raises(InputError, match="outside the volume"):
        small(NoduleSpec(5.0, centre_lps_mm=(0.0, 0.0, 500.0)))


def test_a_volume_without_room_for_the_nodule_is_refused():
    with pytest.raises(InputError, match="no room"):
        small(NoduleSpec(30.0))


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_itk_reads_the_nifti_with_the_same_voxels_and_physical_space(phantom, tmp_path, name):
    image = itk.imread(str(write_nifti(phantom, tmp_path / name)))
    np.testing.assert_array_equal(itk.array_from_image(image), phantom.hu)
    assert_same_grid(image, phantom.geometry)


def assert_same_grid(image, geometry):
    np.testing.assert_allclose(list(itk.spacing(image)), geometry.spacing_mm, atol=1e-5)
    np.testing.assert_allclose(list(itk.origin(image)), geometry.origin_lps_mm, atol=1e-4)
    np.testing.assert_allclose(
        itk.array_from_matrix(image.GetDirection()), geometry.direction, atol=1e-6
    )


def test_a_nifti_needs_its_extension(phantom, tmp_path):
    with pytest.raises(InputError, match=r"\.nii"):
        write_nifti(phantom, tmp_path / "ct.img")


def test_itk_reads_the_dicom_series_with_the_same_voxels_and_physical_space(phantom, tmp_path):
    write_dicom_series(phantom, tmp_path)
    names = itk.GDCMSeriesFileNames.New()
    names.SetDirectory(str(tmp_path))
    (uid,) = names.GetSeriesUIDs()
    image = itk.imread(list(names.GetFileNames(uid)), itk.SS)
    assert uid.startswith(series_uid(phantom))
    np.testing.assert_array_equal(itk.array_from_image(image), phantom.hu)
    assert_same_grid(image, phantom.geometry)


TYPE_1_OR_2 = [
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "Modality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Manufacturer",
    "ImageType",
    "AcquisitionNumber",
    "KVP",
    "SliceThickness",
    "PatientPosition",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
]


def test_a_dicom_slice_holds_what_a_ct_image_needs(phantom, tmp_path):
    paths = write_dicom_series(phantom, tmp_path, patient_id="P7")
    assert len(paths) == 24
    dataset = pydicom.dcmread(paths[3])
    assert dataset.SOPClassUID.name == "CT Image Storage"
    assert str(dataset.PatientName) == "PHANTOM^SYNTHETIC"
    assert dataset.PatientID == "P7"
    assert dataset.RescaleIntercept == -1024
    assert dataset.InstanceNumber == 4
    for type_1_or_2 in TYPE_1_OR_2:
        assert type_1_or_2 in dataset
    np.testing.assert_array_equal(dataset.pixel_array.astype(int) - 1024, phantom.hu[3])


def test_uids_follow_from_the_content(phantom, tmp_path):
    def uids(source, folder, **options):
        return [
            pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
            for path in write_dicom_series(source, tmp_path / folder, **options)
        ]

    first = uids(phantom, "a")
    assert len(set(first)) == 24
    assert uids(phantom, "b") == first
    assert not set(uids(phantom, "c", patient_id="other")) & set(first)
    assert not set(uids(small(ROUND, seed=2), "d")) & set(first)


@pytest.mark.parametrize("form", ["nifti", "dicom"])
def test_a_study_folder_lists_one_image_and_hides_its_truth(phantom, tmp_path, form):
    paths = write_study_folder(tmp_path, phantom.seed, form, phantom)
    visible = [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
    truth = json.loads(paths.truth.read_text())
    assert visible == [paths.image]
    assert truth["image_id"] == ("phantom-1" if form == "nifti" else series_uid(phantom))
    (nodule,) = truth["nodules"]
    assert nodule["centre_lps_mm"] == list(RIGHT_LUNG)
    assert nodule["equivalent_diameter_mm"] == pytest.approx(12.0, rel=0.01)
    np.testing.assert_allclose(
        phantom.geometry.ijk_to_lps(nodule["centre_ijk"]), RIGHT_LUNG, atol=1e-6
    )


def test_a_study_folder_takes_its_phantom_from_the_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "resmtnet.ct.phantom.files.make_phantom", lambda seed: small(ROUND, seed=seed)
    )
    paths = write_study_folder(tmp_path, seed=5)
    assert paths.image.name == "phantom-5.nii.gz"
    assert json.loads(paths.truth.read_text())["seed"] == 5


def test_an_unknown_format_is_refused_before_anything_is_written(phantom, tmp_path):
    with pytest.raises(InputError, match="allowed: nifti, dicom"):
        write_study_folder(tmp_path, 0, "nrrd", phantom)
    assert not list(tmp_path.iterdir())
