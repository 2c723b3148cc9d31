"""The one preprocessing, on volumes whose HU tell their position."""

import numpy as np
import pytest
import torch

from resmtnet.config import AugmentConfig, PatchConfig
from resmtnet.ct.augment import change_hu, draw_intensity, draw_motion, draw_thickness
from resmtnet.ct.geometry import Geometry
from resmtnet.ct.patch import (
    axial_affine,
    axial_points,
    normalise,
    patch_points,
    sample,
    sample_axial,
    voxel_affine,
)

CONFIG = PatchConfig(size_px=16)


def ramp(geometry: Geometry) -> np.ndarray:
    """HU = 2x + 3y + 5z of the voxel's LPS position."""
    ijk = np.stack(np.meshgrid(*map(np.arange, geometry.size_ijk), indexing="ij"), -1)
    return (geometry.ijk_to_lps(ijk) @ [2.0, 3.0, 5.0]).transpose(2, 1, 0)


def patch_of(geometry: Geometry, centre) -> torch.Tensor:
    points = patch_points(torch.tensor([[-4.0, 0.0, 4.0]]), CONFIG)[0]
    affine = voxel_affine(geometry, centre)
    return sample(torch.from_numpy(ramp(geometry)), affine, points)


def test_patch_columns_run_along_l_rows_along_p_slices_along_s():
    geometry = Geometry((40, 40, 40), (0.8, 0.8, 1.5), (-10, 5, 3), np.eye(3))
    patch = patch_of(geometry, (5.0, 20.0, 30.0))
    middle = 2 * 5.0 + 3 * 20.0 + 5 * 30.0
    line = np.arange(16) - 7.5
    expected = middle + 2 * line[None, None] + 3 * line[None, :, None]
    expected = expected + 5 * np.array([-4.0, 0.0, 4.0])[:, None, None]
    np.testing.assert_allclose(patch.numpy(), expected, atol=0.01)


def test_patch_is_the_same_for_permuted_and_flipped_voxels():
    plain = Geometry((40, 40, 40), (0.8, 0.8, 1.5), (-10, 5, 3), np.eye(3))
    turned = Geometry(
        (40, 40, 40),
        (1.5, 0.8, 0.8),
        (21.2, 5, 61.5),
        np.array([[0, 0, -1], [0, 1, 0], [-1, 0, 0.0]]),
    )
    centre = (5.0, 20.0, 30.0)
    torch.testing.assert_close(patch_of(turned, centre), patch_of(plain, centre), atol=0.01, rtol=0)


def test_stored_crop_and_ct_give_the_same_patch():
    geometry = Geometry((40, 40, 40), (0.8, 0.8, 1.5), (-10, 5, 3), np.eye(3))
    centre_ijk = (18.0, 19.0, 17.5)
    one = voxel_affine(geometry, geometry.ijk_to_lps(centre_ijk))
    other = axial_affine((1.5, 0.8, 0.8), centre_ijk[::-1])
    torch.testing.assert_close(one, other)


def test_beyond_the_volume_the_border_goes_on_or_nothing_does():
    volume, points = torch.full((4, 4, 4), 7.0), torch.tensor([[100.0, 0.0, 0.0]])
    affine = axial_affine((1, 1, 1), (2, 2, 2))
    assert sample(volume, affine, points).item() == 7
    assert sample(volume, affine, points, outside="zeros").item() == 0


def test_window_is_configurable():
    hu = torch.tensor([-160.0, 240.0])
    assert normalise(hu, PatchConfig(hu_low=-160, hu_high=240)).tolist() == [-1.25, 2.75]


def test_pixel_size_spreads_the_points():
    one = patch_points(torch.zeros(1, 1), PatchConfig(size_px=16))
    two = patch_points(torch.zeros(1, 1), PatchConfig(size_px=16, pixel_mm=2.0))
    torch.testing.assert_close(two, 2 * one)


def test_motion_enlarges_by_its_log_scale():
    config = AugmentConfig(shift_mm=0, flip_and_rotate=False)
    motion = draw_motion(4, config, torch.Generator().manual_seed(0), 0.0)
    spread = torch.einsum("bii->b", motion.matrix) / 3
    torch.testing.assert_close(spread, (-motion.log_scale).exp())
    assert motion.log_scale.abs().max() > 0


def test_motion_keeps_lengths_but_for_the_scale():
    motion = draw_motion(8, AugmentConfig(scale=0), torch.Generator().manual_seed(0), 3.0)
    identity = motion.matrix @ motion.matrix.transpose(1, 2)
    torch.testing.assert_close(identity, torch.eye(3).expand(8, 3, 3))
    assert motion.shift_mm.abs().max() <= 3


OFF = {"gain": 0.0, "offset_hu": 0.0, "noise_hu": 0.0, "blur": 0.0, "sharpen": 0.0}


def changed(hu, **strengths):
    generator = torch.Generator().manual_seed(0)
    config = AugmentConfig(**{**OFF, "kernel_share": 1.0, **strengths})
    noise = torch.randn(hu.shape, generator=generator)
    return change_hu(hu, draw_intensity(len(hu), config, generator), noise)


def test_hu_change_is_off_when_its_strengths_are_zero():
    hu = torch.randn(2, 3, 8, 8) * 100
    assert torch.equal(changed(hu), hu)


@pytest.mark.parametrize(
    ("name", "strength"),
    [("gain", 0.1), ("offset_hu", 30.0), ("noise_hu", 20.0), ("blur", 0.9), ("sharpen", 0.5)],
)
def test_each_strength_changes_the_hu(name, strength):
    hu = torch.randn(16, 3, 8, 8) * 100
    assert (changed(hu, **{name: strength}) - hu).abs().max() > 0.1


def test_a_softer_kernel_smooths_and_a_sharper_one_roughens():
    hu = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 100
    assert changed(hu, blur=0.9).std() < hu.std() < changed(hu, sharpen=0.5).std()


def test_few_patches_are_thickened_and_none_beyond_the_limit():
    config = AugmentConfig(thickness_mm=3.0, thickness_share=0.25)
    drawn = draw_thickness(4000, config, torch.Generator().manual_seed(0))
    assert drawn.max() <= 3
    assert (drawn > 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_axial_sampling_equals_trilinear_sampling():
    generator = torch.Generator().manual_seed(0)
    volume = torch.randint(-1000, 400, (9, 30, 34), generator=generator, dtype=torch.int16)
    spacing_mm, centre_kji = (2.0, 0.7, 0.8), (4.3, 14.2, 16.9)
    config = PatchConfig(size_px=16)
    turn = torch.tensor([[[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, -1.1]]])
    shift_mm, heights_mm = torch.tensor([[0.4, -1.2, 0.9]]), torch.tensor([[-3.0, 0.0, 2.5]])
    points = patch_points(heights_mm, config, turn, shift_mm)
    expected = sample(volume, axial_affine(spacing_mm, centre_kji), points)
    spacing, centre = torch.tensor([spacing_mm]), torch.tensor([centre_kji])
    plane = axial_points(config, turn, shift_mm, spacing, centre)
    k = (heights_mm * turn[:, 2, 2] + shift_mm[:, 2]) / spacing_mm[0] + centre_kji[0]
    index = torch.stack([k.floor(), k.floor() + 1], -1)
    share = torch.stack([1 - (k - k.floor()), k - k.floor()], -1)
    found = sample_axial(volume, index.long(), share, plane)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
