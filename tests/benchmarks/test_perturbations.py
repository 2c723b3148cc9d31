"""Changes of a CT that must not change the answer."""

from dataclasses import replace

import numpy as np
import pytest

import perturbations as robustness
from resmtnet import CTVolume
from resmtnet.errors import InputError
from resmtnet.findings import Finding, Malignancy, Size, Uncertainty

SPACING_KJI_MM = (2.0, 0.5, 1.0)
ORIGIN_MM = (10.0, -20.0, 5.0)
AT_KJI = (2, 5, 3)


@pytest.fixture
def click() -> robustness.Click:
    """A volume of random HU with one voxel of 777 HU, and the point at that voxel."""
    hu = np.random.default_rng(0).integers(-900, 100, (6, 9, 8)).astype(np.int16)
    hu[AT_KJI] = 777
    ct = CTVolume.from_array(hu, SPACING_KJI_MM, ORIGIN_MM, image_id="tiny")
    x, y, z = ct.geometry.ijk_to_lps(AT_KJI[::-1])
    return ct, (float(x), float(y), float(z))


def at_point(click: robustness.Click) -> int:
    ct, point = click
    i, j, k = np.round(ct.geometry.lps_to_ijk(point), 6)
    assert (i, j, k) == (round(i), round(j), round(k))
    return int(ct.array()[int(k), int(j), int(i)])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flip_takes_the_point_along_and_undoes_itself(click, axis):
    once = robustness.flipped(click, axis)
    assert at_point(once) == 777
    assert np.array_equal(once[0].array(), np.flip(click[0].array(), axis))
    twice = robustness.flipped(once, axis)
    assert np.array_equal(twice[0].array(), click[0].array())
    assert twice[1] == pytest.approx(click[1])


@pytest.mark.parametrize("axes", [(1, 2), (0, 1), (0, 2), (2, 0)])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_is_rot90_and_takes_point_and_spacing_along(click, axes, turns):
    turned, point = robustness.rotated(click, axes, turns)
    assert np.array_equal(turned.array(), np.rot90(click[0].array(), turns, axes))
    assert at_point((turned, point)) == 777
    spacing = list(SPACING_KJI_MM)
    if turns % 2:
        spacing[axes[0]], spacing[axes[1]] = spacing[axes[1]], spacing[axes[0]]
    assert turned.geometry.spacing_mm[::-1] == pytest.approx(spacing)


def test_four_quarter_turns_change_nothing(click):
    turned, point = robustness.rotated(click, (1, 2), 4)
    assert np.array_equal(turned.array(), click[0].array())
    assert point == pytest.approx(click[1])


def test_shift_moves_the_point_by_voxels(click):
    ct, point = robustness.shifted(click, (1, 0, -1))
    assert ct is click[0]
    assert np.subtract(point, click[1]) == pytest.approx([1.0, 0.0, -2.0])


def test_offset_is_added_and_stays_within_the_range_of_a_ct(click):
    moved = robustness.offset(click, 30)[0].array()
    assert np.array_equal(moved, click[0].array() + 30)
    assert robustness.offset(click, -3000)[0].array().min() == -1024


def test_noise_has_its_deviation_and_follows_its_seed(click):
    ct = CTVolume.from_array(np.zeros((20, 40, 40), np.int16), (1, 1, 1))
    flat = (ct, (10.0, 10.0, 10.0))
    one, same, other = (
        robustness.noisy(flat, 30, np.random.default_rng(seed))[0].array() for seed in (1, 1, 2)
    )
    assert one.std() == pytest.approx(30, rel=0.02)
    np.testing.assert_allclose(one, same, atol=1)
    assert np.abs(one.astype(int) - other).max() > 10


def test_blur_widens_an_edge_in_the_plane_only_and_sharpening_steepens_it():
    hu = np.zeros((5, 12, 12), np.int16)
    hu[:, :, 6:] = 400
    hu[3:] = 1000
    edge = (CTVolume.from_array(hu, (1, 1, 1)), (5.0, 5.0, 1.0))
    soft = robustness.blurred(edge, 0.7)[0].array()
    sharp = robustness.sharpened(edge, 1.0, 1.0)[0].array()
    assert 0 < soft[1, 6, 5] < soft[1, 6, 6] < 400
    assert sharp[1, 6, 5] < 0 < 400 < sharp[1, 6, 6]
    assert (soft[3:] == 1000).all()  # slices are not mixed


@pytest.mark.parametrize(("thickness_mm", "slices"), [(2.0, 6), (4.0, 3), (5.0, 2)])
def test_thick_slices_keep_the_mean_and_its_place(click, thickness_mm, slices):
    ramp = np.broadcast_to(100 * np.arange(6, dtype=np.int16)[:, None, None], (6, 9, 8))
    ct = CTVolume.from_array(ramp.copy(), SPACING_KJI_MM, ORIGIN_MM)
    thick, point = robustness.thick_slices((ct, click[1]), thickness_mm)
    assert point == click[1]
    assert thick.shape_kji == (slices, 9, 8)
    z = thick.geometry.ijk_to_lps([(0, 0, k) for k in range(slices)])[:, 2]
    # HU grows by 100 a slice of 2 mm, so that a new slice's mean tells its own middle, up to the
    # rounding of a slice that is cut in two
    assert thick.array()[:, 0, 0] == pytest.approx((z - ORIGIN_MM[2]) * 50, abs=6)


def test_thinner_slices_are_refused(click):
    with pytest.raises(InputError, match="get no thinner"):
        robustness.thick_slices(click, 1.0)


def test_box_around_the_point_keeps_voxels_in_their_place(click):
    held, point = robustness.held_around(click, 4.0)
    assert point == click[1]
    assert at_point((held, point)) == 777
    assert held.shape_kji < click[0].shape_kji
    whole, _ = robustness.held_around(click, 400.0)
    assert whole.shape_kji == click[0].shape_kji


def test_points_inside_lie_in_the_mask_and_follow_the_seed(click):
    ct, _ = click
    mask = ct.array() > -400
    one, same, other = (
        robustness.points_inside(mask, ct.geometry, 5, np.random.default_rng(s)) for s in (1, 1, 2)
    )
    assert len(one) == 5
    np.testing.assert_allclose(one, same)
    assert one != other
    assert all(at_point((ct, point)) > -400 for point in one)
    single = ct.array() == 777
    assert robustness.points_inside(single, ct.geometry, 5, np.random.default_rng(0)) == [
        pytest.approx(click[1])
    ]


def finding(probability: float, diameter_mm: float | None) -> Finding:
    return Finding(
        id="N1",
        source="point",
        centre_lps_mm=(0.0, 0.0, 0.0),
        centre_ijk=(0.0, 0.0, 0.0),
        class_name="malignant" if probability > 0.5 else "benign",
        probability_malignant=probability,
        malignancy=Malignancy(3.0, (2.0, 4.0), (0.2,) * 5),
        size=Size(equivalent_diameter_mm=diameter_mm),
        characteristics={},
        uncertainty=Uncertainty(0.1, 0.0, 0.5),
        guidelines={},
        mask=None if diameter_mm is None else np.ones((1, 1, 1), np.uint8),
        start_ijk=None if diameter_mm is None else (0, 0, 0),
    )


def test_change_counts_what_differs_and_what_is_lost():
    before, after = finding(0.7, 10.0), finding(0.4, 9.0)
    change = robustness.Change.between(before, after)
    assert change.probability == pytest.approx(0.3)
    assert change.diameter == pytest.approx(0.1)
    assert change.renamed
    assert change.lost_mask is False
    assert robustness.Change.between(before, finding(0.7, None)).lost_mask
    found_late = robustness.Change.between(finding(0.7, None), before)
    assert found_late.lost_mask is None
    assert found_late.diameter is None


def test_regressed_size_is_not_taken_for_a_measured_one():
    regressed = replace(finding(0.7, 10.0), mask=None, start_ijk=None)
    assert robustness.Change.between(finding(0.7, 10.0), regressed).lost_mask


def test_summary_of_nothing_has_no_numbers():
    summary = robustness.summarise_changes([])
    assert summary["nodules"] == 0
    assert summary["probability_median"] is summary["renamed_share"] is None
