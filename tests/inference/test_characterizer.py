"""The path from a CT and points to findings, with the shipped model."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from resmtnet import Characterizer, CTVolume
from resmtnet.config import NetworkConfig
from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom
from resmtnet.errors import ConfigError, PointError
from resmtnet.findings import SCHEMA, Finding
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.presence import NodulePresence
from resmtnet.network.resmtnet import ResMTNet

READERS_EQUIVALENT_MM, READERS_LONG_AXIS_MM = 23.722, 32.756
REAL_CENTRE = (56.2, 86.2, -115.9)


def as_ct(made: Phantom) -> CTVolume:
    grid = made.geometry
    return CTVolume.from_array(made.hu, grid.spacing_mm[::-1], grid.origin_lps_mm, grid.direction)


@pytest.fixture(scope="module")
def model() -> Characterizer:
    return Characterizer.load(device="cpu")


@pytest.fixture(scope="module")
def ct(phantom) -> CTVolume:
    return as_ct(phantom)


@pytest.fixture(scope="module")
def centre(phantom):
    return phantom.nodules[0].centre_lps_mm


@pytest.fixture(scope="module")
def finding(model, ct, centre) -> Finding:
    return model(ct, [centre], context="screening_baseline")[0]


def test_mask_lies_on_the_voxels_of_the_ct(finding, ct, centre):
    voxel_mm3 = np.prod(ct.geometry.spacing_mm)
    assert finding.mask.dtype == np.uint8
    assert finding.size.volume_mm3 == pytest.approx(finding.mask.sum() * voxel_mm3)
    at = np.round(ct.geometry.lps_to_ijk(centre)).astype(int) - finding.start_ijk
    assert finding.mask[tuple(at[::-1])] == 1


def test_document_has_the_fields_of_the_schema_and_only_finite_numbers(model, ct, finding):
    document = model.document(ct, [finding], {"infer": 12.3})
    json.dumps(document, allow_nan=False)
    assert document["schema"] == SCHEMA
    assert document["label_basis"] == "reader_rating"
    assert document["image"]["shape"] == list(ct.geometry.size_ijk)
    nodule = document["nodules"][0]
    assert set(nodule) == {
        "id", "source", "candidate_score", "nodule_probability", "centre_lps_mm", "centre_ijk",
        "centroid_lps_mm", "class", "malignancy", "size", "characteristics", "uncertainty",
        "guidelines", "risk", "prior", "mask_value", "warnings",
    }  # fmt: skip
    assert sum(nodule["class"]["probabilities"].values()) == pytest.approx(1)
    assert nodule["mask_value"] == document["label_names"][nodule["class"]["name"]]


def test_json_of_a_finding_is_read_back(finding):
    entry = finding.to_json()
    assert Finding.from_json(entry).to_json() == entry


def test_order_of_points_is_kept_and_neighbours_change_nothing(model, ct, centre, finding):
    other = tuple(np.add(centre, (14.0, 8.0, -6.0)))
    findings = model(ct, [other, centre])
    assert [f.id for f in findings] == ["N1", "N2"]
    assert findings[0].centre_lps_mm == pytest.approx(other)
    assert findings[1].probability_malignant == pytest.approx(
        finding.probability_malignant, abs=1e-4
    )


def test_threads_share_one_model(model, ct, centre, finding):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: model(ct, [centre])[0], range(8)))
    assert {round(f.probability_malignant, 4) for f in answers} == {
        round(finding.probability_malignant, 4)
    }


@pytest.mark.parametrize("point", [(9e3, 0, 0), (np.nan, 0, 0), (1, 2), "abc"])
def test_point_that_is_none_of_the_ct_is_refused_in_one_line(model, ct, point):
    with pytest.raises(PointError, match=r"^[^\n]+$"):
        model(ct, [point])


def test_unknown_context_is_refused_with_those_allowed(model, ct, centre):
    for ask in (lambda: model(ct, [centre], context="autumn"), lambda: model.find(ct, context="x")):
        with pytest.raises(ConfigError, match="screening_baseline"):
            ask()


def test_category_needs_a_context(model, ct, centre, finding):
    assert model(ct, [centre])[0].guidelines["lung_rads"] is None
    assert finding.guidelines["context"] == "screening_baseline"


def test_click_on_air_is_told_and_named_indeterminate(model):
    air = CTVolume.from_array(np.full((60, 60, 60), -1000, np.int16), (1.5, 1, 1))
    found = model(air, [(30, 30, 45)])[0]
    assert found.class_name == "indeterminate"
    assert found.mask is None
    assert any("air" in warning for warning in found.warnings)


def ball_ct(diameter_mm: float) -> CTVolume:
    z, y, x = np.indices((90, 90, 90)) - 45
    hu = np.where(z**2 + y**2 + x**2 <= (diameter_mm / 2) ** 2, 40, -860)
    hu = gaussian_filter(hu.astype(float), 0.8)  # what a scanner makes of a sharp edge
    hu = hu + np.random.default_rng(0).normal(0, 20, hu.shape)
    return CTVolume.from_array(hu.astype(np.int16), (1, 1, 1), (-45, -45, -45))


@pytest.mark.parametrize("diameter_mm", [6.0, 10.0, 20.0, 30.0])
def test_solid_phantom_nodule_is_measured_within_ten_percent(model, diameter_mm):
    where = (-75.0, 0.0, 20.0)
    nodule = NoduleSpec(diameter_mm, "solid", centre_lps_mm=where)
    made = make_phantom(seed=3, shape_kji=(64, 80, 80), nodules=[nodule], centre_lps_mm=where)
    found = model(as_ct(made), [where])[0]
    truth = made.nodules[0]
    assert found.size.equivalent_diameter_mm == pytest.approx(truth.equivalent_diameter_mm, rel=0.1)
    assert found.centroid_lps_mm == pytest.approx(truth.centre_lps_mm, abs=1.0)


@pytest.mark.parametrize("diameter_mm", [60, 75])
def test_mass_of_more_than_50_mm_is_told_and_gets_no_category(model, diameter_mm):
    found = model(ball_ct(diameter_mm), [(0, 0, 0)], context="screening_baseline")[0]
    measured_mm = found.size.equivalent_diameter_mm
    assert measured_mm is None or measured_mm == pytest.approx(diameter_mm, rel=0.15)
    assert any("larger than" in w or "more than 50 mm" in w for w in found.warnings)
    assert found.guidelines["lung_rads"] is None


def test_mass_as_large_as_the_patch_is_called_doubtful_and_gets_no_category(model):
    found = model(ball_ct(50), [(0, 0, 0)], context="screening_baseline")[0]
    assert found.class_name == "indeterminate"
    assert found.warnings
    assert found.guidelines["lung_rads"] is None


def test_doubtful_finding_gets_no_category(model, ct, centre):
    for found in model(ct, [centre], context="incidental"):
        doubtful = any("unlike" in warning for warning in found.warnings)
        assert not doubtful or found.guidelines["fleischner"] is None


@pytest.mark.parametrize("device", ["cpu:x", "tpu", "cuda:99"])
def test_device_that_is_not_there_is_refused(device):
    with pytest.raises(ConfigError, match="device"):
        Characterizer.load(device=device)


def test_edge_of_the_ct_is_told(model, ct):
    corner = ct.geometry.ijk_to_lps((1, 1, 1))
    found = model(ct, [corner])[0]
    assert any("outside the CT" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("spacing_mm", "words"), [(1.0, None), (2.5, "coarse"), (5.0, "unreliable")]
)
def test_thick_slices_are_told(model, spacing_mm, words):
    ct = CTVolume.from_array(np.full((30, 64, 64), -800, np.int16), (spacing_mm, 1, 1))
    warnings = " ".join(model.document(ct, model(ct, [(32, 32, 12)]))["warnings"])
    assert ("apart" in warnings) == bool(words)
    assert not words or words in warnings


def test_empty_search_is_not_called_negative(model, ct):
    assert any("not a negative read" in w for w in model.document(ct, [])["warnings"])


def test_candidates_are_unconfirmed_and_without_category(model, ct):
    findings = model.find(ct, context="screening_baseline", max_candidates=3)
    assert findings
    assert len(findings) <= 3
    for found in findings:
        assert found.source == "candidate"
        assert found.candidate_score is not None
        assert found.guidelines["lung_rads"] is None


def test_places_of_another_detector_are_judged_like_our_own(model, ct, centre):
    (found,) = model.find(ct, points=[centre])
    assert found.source == "candidate"
    assert found.centre_lps_mm == centre
    assert found.to_json()["candidate_score"] is None
    with pytest.raises(PointError):
        model.find(ct, points=[(0, 0, 9999)])


@pytest.fixture
def judging(model) -> Characterizer:
    """A random member with the task "nodule or not" that finds denser places more probable."""
    torch.manual_seed(0)
    network = ResMTNet(NetworkConfig(widths=(4, 4, 4), hidden=8, nodule_task=True)).eval()
    calibration = Calibration(nodule=NodulePresence(candidate_share=0.5))
    made = Characterizer(replace(model.model, networks=(network,), calibration=calibration))
    made.inference = DenseIsNodule(made.inference)
    return made


class DenseIsNodule:
    """Says of each point how dense it is, in the units of the network's input."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def heads(self, samplers):
        told = []
        for sampler in samplers:
            dense = float(sampler.slices([-1.0, 1.0], 16)[:, 4:12, 4:12].mean())
            views = np.broadcast_to(np.array([0.0, 4 * dense]), (1, 4, 2))
            (said,) = self.inner.heads([sampler])
            told.append(replace(said, views={**said.views, "nodule": views}))
        return told


def test_improbable_candidates_are_left_out_and_the_rest_is_ranked(judging, ct, centre):
    air = tuple(np.add(centre, (0.0, 14.0, 0.0)))
    both = judging.find(ct, points=[air, centre], candidate_threshold=0.0)
    assert [found.centre_lps_mm for found in both] == [centre, air]
    assert both[0].nodule_probability > both[1].nodule_probability
    limit = (both[0].nodule_probability + both[1].nodule_probability) / 2
    (shown,) = judging.find(ct, points=[air, centre], candidate_threshold=limit)
    assert (shown.id, shown.centre_lps_mm) == ("N1", centre)
    assert judging.find(ct, points=[air, centre], max_candidates=1)[0].centre_lps_mm == centre


def test_threshold_outside_its_range_is_refused(judging, ct, centre):
    with pytest.raises(ConfigError, match="candidate_threshold"):
        judging.find(ct, points=[centre], candidate_threshold=1.5)


@pytest.mark.real_data
def test_real_nodule_is_malignant_and_measured_as_the_readers_did(model, real_ct):
    found = model(CTVolume.open(real_ct), [REAL_CENTRE])[0]
    assert found.class_name == "malignant"
    assert found.size.equivalent_diameter_mm == pytest.approx(READERS_EQUIVALENT_MM, rel=0.25)
    assert found.size.long_axis_mm == pytest.approx(READERS_LONG_AXIS_MM, rel=0.25)


@pytest.mark.real_data
def test_voxel_order_and_format_do_not_change_the_finding(model, real_ct, tmp_path):
    import itk

    original = CTVolume.open(real_ct)
    grid, hu = original.geometry, original.array()
    expected = model(original, [REAL_CENTRE])[0]
    swapped = hu.transpose(2, 0, 1)[:, ::-1]  # j runs along the old k, upside down
    direction = grid.direction[:, [1, 2, 0]] * [1, -1, 1]
    origin = grid.ijk_to_lps((0, 0, grid.size_ijk[2] - 1))
    spacing = (grid.spacing_mm[0], grid.spacing_mm[2], grid.spacing_mm[1])  # k, j, i
    volumes = [CTVolume.from_array(swapped, spacing, tuple(origin), direction)]
    image = itk.image_from_array(hu)
    image.SetSpacing([float(s) for s in grid.spacing_mm])
    image.SetOrigin([float(o) for o in grid.origin_lps_mm])
    image.SetDirection(np.array(grid.direction))
    for suffix in ("nii", "nrrd"):
        itk.imwrite(image, str(tmp_path / f"ct.{suffix}"))
        volumes.append(CTVolume.open(tmp_path / f"ct.{suffix}"))
    for ct in volumes:
        found = model(ct, [REAL_CENTRE])[0]
        assert found.class_name == expected.class_name
        assert found.size.volume_mm3 == pytest.approx(expected.size.volume_mm3, rel=0.01)
        assert found.size.long_axis_mm == pytest.approx(expected.size.long_axis_mm, rel=0.01)
        assert found.centroid_lps_mm == pytest.approx(expected.centroid_lps_mm, abs=0.5)


def test_warm_up_takes_the_way_of_a_click_on_a_dicom_series(model, monkeypatch):
    answered = []

    def record(self, ct, findings, timing_ms=None):
        answered.append((ct, findings))
        return document(self, ct, findings, timing_ms)

    document = Characterizer.document
    monkeypatch.setattr(Characterizer, "document", record)
    model.warm_up()
    (ct, (finding,)) = answered[0]
    assert ct.path is not None
    assert not ct.path.exists()  # nothing stays behind
    assert finding.mask is not None
    assert finding.size.long_axis_mm == pytest.approx(10, abs=3)
    assert finding.guidelines["context"] is not None
