"""Batches: the same by seed, targets that follow the patch, nothing invented."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resmtnet.characteristics import TASKS
from resmtnet.config import AugmentConfig, NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.data.dataset import NO_AUGMENT, TrainingSet, targets_of
from resmtnet.data.volumes import nodule_ct
from resmtnet.inference import Inference
from resmtnet.network.resmtnet import ResMTNet

CONFIG = TrainingConfig(batch_size=8, context_variants=1, patch=PatchConfig(size_px=24))


@pytest.fixture(scope="module")
def data(small_archive):
    return TrainingSet(small_archive, range(16), CONFIG)


def batch(data, seed=0):
    return next(data.epoch(torch.Generator().manual_seed(seed)))


def test_a_seed_gives_a_batch(data):
    one, same, other = batch(data), batch(data), batch(data, 1)
    assert torch.equal(one.slices, same.slices)
    assert torch.equal(one.extra, same.extra)
    assert not torch.equal(one.slices, other.slices)


def test_shapes_follow_the_configuration(data):
    b = batch(data)
    assert b.slices.shape == (8, 5, 24, 24)
    assert b.extra.shape == (4, 5, 24, 24)
    assert b.extra_mask.shape == (4, 3, 24, 24)
    assert data.steps == 2


def test_sizes_grow_with_the_patch(data, monkeypatch):
    still = replace(CONFIG, augment=NO_AUGMENT)
    monkeypatch.setattr(data, "config", replace(CONFIG, augment=AugmentConfig(scale=0.5)))
    scaled = batch(data).targets["long_axis_mm"]
    monkeypatch.setattr(data, "config", still)
    plain = batch(data).targets["long_axis_mm"]
    change = scaled - plain
    assert change.abs().max() > 0.05
    assert change.abs().max() <= np.log(1.5) + 1e-6


def test_mask_levels_lie_on_the_nodule_and_off_it(data):
    shares = torch.cat(
        [b.extra_mask for s in range(4) for b in data.epoch(torch.Generator().manual_seed(s))]
    )
    filled = shares.amax((2, 3))
    assert shares.min() >= 0
    assert shares.max() <= 1 + 1e-6
    assert (filled > 0.9).any()
    assert (filled < 0.01).any()


def test_without_a_mask_no_extra_levels_are_made(data, monkeypatch):
    bare = replace(CONFIG, network=NetworkConfig(mask=False))
    monkeypatch.setattr(data, "config", bare)
    assert len(batch(data).extra) == 0


def test_every_task_has_a_target_and_a_weight(small_archive):
    targets = targets_of(small_archive.nodules)
    assert set(targets) == {t.name for t in TASKS} | {f"{t.name}_weight" for t in TASKS}
    assert all(torch.isfinite(x).all() for x in targets.values())
    assert targets["malignancy"][0].tolist() == pytest.approx([0, 0, 0, 2 / 3, 1 / 3])


def test_ratings_that_are_missing_weigh_nothing(small_archive):
    bare = replace(small_archive.nodules[0], ratings={})
    targets = targets_of([bare])
    for name in ("class", "malignancy", "texture_class", "calcification"):
        assert targets[f"{name}_weight"].item() == 0
    assert targets["long_axis_mm_weight"].item() == 1


def test_ratings_outside_their_scale_are_left_out(small_archive):
    nodule = small_archive.nodules[0]
    odd = replace(nodule, ratings=nodule.ratings | {"internal_structure": (1, 1, 5)})
    targets = targets_of([odd])
    assert targets["internal_structure"][0].tolist() == [1, 0, 0, 0]
    assert targets["internal_structure_weight"].item() == 0.5


def test_training_patch_equals_inference_patch(small_archive):
    config = replace(CONFIG, batch_size=1, augment=NO_AUGMENT, network=NetworkConfig(mask=False))
    nodule = small_archive.nodules[3]
    trained = batch(TrainingSet(small_archive, [3], config)).slices[0]
    ct, centre = nodule_ct(small_archive, nodule, seed=config.seed + 7919 * 3)
    inference = Inference(ResMTNet(NetworkConfig(widths=(4, 4, 4))), config.patch)
    seen = inference.sampler(ct, centre).slices(config.patch.offsets_mm)
    torch.testing.assert_close(seen, trained, atol=0.01, rtol=0)
