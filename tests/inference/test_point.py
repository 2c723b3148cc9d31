"""What is read off one point."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resmtnet.config import NetworkConfig, PatchConfig
from resmtnet.ct.volume import CTVolume
from resmtnet.errors import ModelError
from resmtnet.inference.ensemble import VIEWS, Ensemble
from resmtnet.inference.point import COARSE_FROM_MM, PointPrediction, predict_points
from resmtnet.network.resmtnet import ResMTNet

CONFIG = NetworkConfig(widths=(4, 4, 4), hidden=8)
PATCH = PatchConfig(size_px=16, mask_size_px=24, offsets_mm=(-2.0, 0.0, 2.0))


def members(count: int, config: NetworkConfig = CONFIG) -> list[ResMTNet]:
    torch.manual_seed(1)
    found = [ResMTNet(config).eval() for _ in range(count)]
    for network in found:
        for parameter in network.parameters():  # links and decoders start at nothing
            parameter.data += 0.05 * torch.randn_like(parameter)
    return found


@pytest.fixture(scope="module")
def ct() -> CTVolume:
    rng = np.random.default_rng(0)
    z, y, x = np.indices((40, 50, 50)) - 20
    ball = z**2 + (y - 5) ** 2 + (x - 5) ** 2 <= 16
    hu = np.where(ball, 30, -850) + rng.normal(0, 20, ball.shape)
    return CTVolume.from_array(hu.astype(np.int16), (1, 1, 1), (-25, -25, -20))


def test_members_are_averaged_and_kept_apart(ct):
    networks = members(2)
    both = predict_points(Ensemble(networks, PATCH), ct, [(0, 0, 0)])[0].observation
    alone = [predict_points(Ensemble([n], PATCH), ct, [(0, 0, 0)])[0].observation for n in networks]
    assert both.views["class"].shape == (2, len(VIEWS), 2)
    assert both.embedding.shape == (32,)
    for name, values in both.outputs.items():
        mean = (alone[0].outputs[name] + alone[1].outputs[name]) / 2
        np.testing.assert_allclose(values, mean, atol=1e-5)
    assert not np.allclose(alone[0].outputs["class"], alone[1].outputs["class"])


def test_members_with_fewer_views_see_different_flips(ct):
    networks = members(2)
    both = predict_points(Ensemble(networks, PATCH, head_views=2), ct, [(0, 0, 0)])[0].observation
    alone = [predict_points(Ensemble([n], PATCH), ct, [(0, 0, 0)])[0].observation for n in networks]
    for name, values in both.views.items():
        np.testing.assert_allclose(values[0], alone[0].views[name][0, :2], atol=1e-4)
        np.testing.assert_allclose(values[1], alone[1].views[name][0, 2:], atol=1e-4)


def test_last_layer_of_the_mean_embedding_gives_the_answer_itself(ct):
    network = members(1)[0]
    found = predict_points(Ensemble([network], PATCH), ct, [(0, 0, 0)])[0].observation
    half = torch.from_numpy(found.embeddings[0, :8])
    logits = network.heads["classification"].outputs["class"](half)
    np.testing.assert_allclose(logits.detach().numpy(), found.outputs["class"], atol=1e-5)


def test_masks_are_averaged_over_members_which_see_different_flips(ct):
    networks = members(2)
    sampler = Ensemble(networks, PATCH).sampler(ct, (1, 2, 0))
    same = Ensemble([networks[0], networks[0]], PATCH).mask_probability(sampler, -1, 1, PATCH)
    one = Ensemble([networks[0]], PATCH).mask_probability(sampler, -1, 1, PATCH)
    both = Ensemble(networks, PATCH).mask_probability(sampler, -1, 1, PATCH)
    assert one.shape == both.shape == (3, 24, 24)
    assert not np.allclose(same, one, atol=1e-6)  # the second sees the image flipped
    assert not np.allclose(both, one, atol=1e-6)
    assert np.abs(same - one).max() < 0.5  # and its mask is flipped back


def test_level_is_the_same_however_far_apart_its_neighbours_are_asked(ct):
    inference = Ensemble(members(2), PATCH)
    sampler = inference.sampler(ct, (0, 0, 0))
    fine = inference.mask_probability(sampler, -2, 2, PATCH)
    coarse = inference.mask_probability(sampler, -1, 1, replace(PATCH, mask_step_mm=2.0))
    np.testing.assert_allclose(coarse, fine[::2], atol=1e-5)


def test_network_that_sees_one_slice_answers(ct):
    patch = PatchConfig(size_px=16, mask_size_px=16, offsets_mm=(0.0,))
    found = predict_points(Ensemble(members(1), patch), ct, [(0.0, 0.0, 0.0)])[0]
    assert np.isfinite(found.observation.outputs["malignancy"]).all()


def test_inference_without_members_is_refused():
    with pytest.raises(ModelError, match="at least one"):
        Ensemble([], PATCH)


def test_head_that_an_ablation_lacks_knows_nothing(ct):
    config = NetworkConfig(widths=(4, 4, 4), hidden=8, branches=("classification",))
    found = predict_points(Ensemble(members(1, config), PATCH), ct, [(0, 0, 0)])[0].observation
    assert found.outputs["malignancy"].tolist() == [0] * 5
    assert np.exp(found.outputs["equivalent_diameter_mm"][0]) == pytest.approx(8)


def test_network_without_a_decoder_draws_no_mask_and_doubts_nothing(ct):
    config = NetworkConfig(widths=(4, 4, 4), hidden=8, mask=False)
    scene = predict_points(Ensemble(members(1, config), PATCH), ct, [(0, 0, 0)])[0]
    assert scene.mask(0.1).voxels is None
    assert scene.mask_mean() == 1


def test_mask_answers_at_the_nodule_and_is_silent_beside_it(bright, ct):
    at, beside = predict_points(bright, ct, [(0.0, 0.0, 0.0), (-9.0, -9.0, 0.0)])
    assert at.mask_mean() > 0.9
    assert beside.mask_mean() < 0.1
    assert at.mask(0.5).measured.equivalent_diameter_mm == pytest.approx(8, rel=0.1)
    assert beside.mask(0.5).measured is None


def test_click_beside_the_centre_is_as_familiar_as_one_at_it(bright, ct):
    centred, off_centre = predict_points(bright, ct, [(0.0, 0.0, 0.0), (2.0, -2.0, 1.0)])
    assert off_centre.mask_mean() == pytest.approx(centred.mask_mean(), abs=0.05)


def test_large_nodule_is_looked_at_in_coarser_steps(bright, ct):
    found = predict_points(bright, ct, [(0.0, 0.0, 0.0)])[0]
    for diameter_mm, step_mm in ((COARSE_FROM_MM - 1, 1.0), (COARSE_FROM_MM + 1, 2.0)):
        views = dict(found.observation.views)
        views["equivalent_diameter_mm"] = np.full((2, 4, 2), np.log(diameter_mm))
        large = type(found.observation)(views, found.observation.embeddings)
        scene = PointPrediction(bright, found.sampler, large)
        assert scene.patches[0][0].mask_step_mm == step_mm
        assert scene.mask(0.5).measured.equivalent_diameter_mm == pytest.approx(8, rel=0.12)


def test_nodule_that_does_not_end_in_the_small_patch_is_drawn_in_the_wide_one(bright):
    z, y, x = np.indices((40, 60, 60)) - 30
    hu = np.where((z + 10) ** 2 + y**2 + x**2 <= 10**2, 30, -850).astype(np.int16)
    ct = CTVolume.from_array(hu, (1, 1, 1), (-30, -30, -20))
    found = predict_points(bright, ct, [(0.0, 0.0, 0.0)])[0]
    views = dict(found.observation.views)
    views["equivalent_diameter_mm"] = np.full((2, 4, 2), np.log(5.0))
    small = type(found.observation)(views, found.observation.embeddings)
    scene = PointPrediction(bright, found.sampler, small)
    assert [config.mask_size_px for config, _ in scene.patches] == [16, 32]
    masked = scene.mask(0.5)
    assert not masked.cut
    assert masked.measured.equivalent_diameter_mm == pytest.approx(20, rel=0.05)


def test_air_and_edge_are_told(bright, ct):
    inside, corner = predict_points(bright, ct, [(-6.0, -6.0, 0.0), (-24.0, -24.0, -19.0)])
    air = CTVolume.from_array(np.full((30, 30, 30), -1000, np.int16), (1, 1, 1))
    assert inside.why_no_nodule() is None
    assert inside.notes() == ()
    assert "outside the CT" in corner.notes()[0]
    assert "air" in predict_points(bright, air, [(15, 15, 15)])[0].why_no_nodule()


def test_mass_that_ends_beyond_the_patch_is_looked_at_in_coarser_steps(ct):
    predicted = predict_points(Ensemble(members(1), PATCH), ct, [(0, 0, 0)])[0]
    config, levels = predicted.mass_patch
    assert (config.pixel_mm, config.mask_step_mm) == (2 * PATCH.pixel_mm, 4.0)
    assert levels(-1, 1).shape == (3, PATCH.mask_size_px, PATCH.mask_size_px)
