"""Batches: the same by seed, targets that follow the patch, nothing invented."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from resmtnet.characteristics import NODULE, SIZES, TASKS
from resmtnet.config import AugmentConfig, NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.data.crops import load_block
from resmtnet.data.dataset import NO_AUGMENT, Rows, TrainingSet
from resmtnet.data.targets import targets_of
from resmtnet.data.volumes import nodule_ct
from resmtnet.inference.ensemble import Ensemble
from resmtnet.network.resmtnet import ResMTNet

CONFIG = TrainingConfig(batch_size=8, context_variants=1, slices=5, patch=PatchConfig(size_px=24))


@pytest.fixture(scope="module")
def data(small_archive):
    return TrainingSet(load_block(small_archive, 1, 0), small_archive.nodules, range(16), CONFIG)


def batch(data, seed=0):
    return next(data.epoch(torch.Generator().manual_seed(seed)))


def test_a_seed_gives_a_batch(data):
    one, same, other = batch(data), batch(data), batch(data, 1)
    torch.testing.assert_close(same.slices, one.slices, atol=1e-4, rtol=0)
    torch.testing.assert_close(same.extra, one.extra, atol=1e-4, rtol=0)
    assert not torch.allclose(one.slices, other.slices, atol=0.01)


def test_shapes_follow_the_configuration(data):
    b = batch(data)
    assert b.slices.shape == (8, 5, 24, 24)
    assert b.slices_mask.shape == (8, 3, 24, 24)
    assert b.extra.shape == (3, 5, 24, 24)
    assert b.extra_mask.shape == (3, 3, 24, 24)
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


def test_levels_of_the_mask_may_be_drawn_within_the_nodule(data, monkeypatch):
    def most_beyond_mm(share: float) -> float:
        monkeypatch.setattr(data, "config", replace(CONFIG, mask_inside_share=share))
        extra, middle = data._draw_extra(500, torch.Generator().manual_seed(0))
        return float((middle.abs() - data._half_height_mm[extra]).max())

    assert most_beyond_mm(1.0) <= 1e-5
    assert most_beyond_mm(0.0) > 5


def test_nodules_are_faded_where_the_mask_alone_is_trained(data, monkeypatch):
    faded = replace(NO_AUGMENT, faded_share=1.0)
    monkeypatch.setattr(data, "config", replace(CONFIG, augment=NO_AUGMENT, mask_inside_share=1.0))
    plain = batch(data)
    monkeypatch.setattr(data, "config", replace(CONFIG, augment=faded, mask_inside_share=1.0))
    changed = batch(data)
    assert torch.allclose(plain.slices, changed.slices, atol=1e-4)
    inside = plain.extra_mask > 0.99
    assert inside.any()
    assert (plain.extra[:, 1:-1] - changed.extra[:, 1:-1])[inside].mean() > 1.0


def test_without_a_mask_no_extra_levels_are_made(data, monkeypatch):
    bare = replace(CONFIG, network=NetworkConfig(mask=False))
    monkeypatch.setattr(data, "config", bare)
    assert len(batch(data).extra) == 0


def test_every_task_has_a_target_and_a_weight(small_archive):
    targets = targets_of(small_archive.nodules)
    tasks = (*TASKS, NODULE)
    names = {t.name for t in tasks} | {f"{t.name}_weight" for t in tasks} | {"mask_weight"}
    assert set(targets) == names | {f"{t.name}_variance" for t in SIZES}
    assert all(torch.isfinite(x).all() for x in targets.values())
    assert targets["malignancy"][0].tolist() == pytest.approx([0, 0, 0, 2 / 3, 1 / 3])


def test_nodules_that_nobody_outlined_train_no_mask(data, small_archive):
    nodules = [replace(nodule, mask_readers=0) for nodule in small_archive.nodules]
    bare = next(TrainingSet(data.block, nodules, range(16), CONFIG).epoch(torch.Generator()))
    assert not bare.targets["mask_weight"].any()
    assert len(bare.extra) == 0
    some = [replace(nodules[0], mask_readers=3), *nodules[1:]]
    one = TrainingSet(data.block, some, range(16), CONFIG)
    assert one._draw_weight.nonzero().flatten().tolist() == [0]


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


def test_a_size_that_is_unknown_weighs_nothing(small_archive):
    bare = replace(small_archive.nodules[0], volume_mm3=float("nan"))
    targets = targets_of([bare])
    assert targets["equivalent_diameter_mm_weight"].item() == 0
    assert torch.isfinite(targets["equivalent_diameter_mm"]).all()


def test_readers_who_differ_give_a_size_its_variance(small_archive):
    one = replace(small_archive.nodules[0], reader_long_axes_mm=(10.0, 10.0))
    two = replace(one, reader_long_axes_mm=(8.0, 12.0))
    variance = targets_of([one, two])["long_axis_mm_variance"]
    assert variance[0] == 0
    assert variance[1].item() == pytest.approx(np.log(12 / 8) ** 2 / 2, rel=1e-5)


def test_the_texture_of_subsolid_nodules_weighs_more(small_archive):
    solid = replace(small_archive.nodules[0], ratings={"texture": (5, 5)})
    ground = replace(solid, ratings={"texture": (1, 1)})
    assert targets_of([solid, ground], 3.0)["texture_class_weight"].tolist() == [1, 3]


def test_a_step_sees_some_neighbouring_slices(data, monkeypatch):
    monkeypatch.setattr(data, "config", replace(CONFIG, augment=NO_AUGMENT))
    whole = batch(data)
    monkeypatch.setattr(data, "config", replace(CONFIG, augment=NO_AUGMENT, slices=3))
    some = batch(data)
    assert some.slices.shape == (8, 3, 24, 24)
    assert some.slices_mask.shape == (8, 1, 24, 24)
    assert next(data.plain()).slices.shape == (8, 5, 24, 24)
    heights = data._heights(40, torch.Generator().manual_seed(0))
    assert set(heights.diff(dim=1).flatten().tolist()) == {2.0}
    assert set(heights[:, 0].tolist()) == {-4.0, -2.0, 0.0}
    assert whole.slices.shape[1] == 5


def test_processes_share_a_batch_without_changing_it(data, small_archive):
    whole = next(data.epoch(torch.Generator().manual_seed(3)))
    block = data.block
    parts = [
        next(
            TrainingSet(block, small_archive.nodules, range(16), CONFIG, Rows(rank, 3)).epoch(
                torch.Generator().manual_seed(3)
            )
        )
        for rank in range(3)
    ]
    # Rows that are interpolated in batches of another size differ in the last digits.
    for name in ("slices", "extra", "extra_mask"):
        together = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(together, getattr(whole, name), atol=1e-4, rtol=0)
    for name, values in whole.targets.items():
        together = torch.cat([part.targets[name] for part in parts])
        torch.testing.assert_close(together, values, atol=1e-5, rtol=1e-5)
    assert {part.total for part in parts} == {whole.total}


def test_thick_slices_are_averaged(data, monkeypatch):
    thick = replace(NO_AUGMENT, thickness_mm=12.0, thickness_share=1.0)
    monkeypatch.setattr(data, "config", replace(CONFIG, augment=NO_AUGMENT))
    plain = batch(data).slices
    monkeypatch.setattr(data, "config", replace(CONFIG, augment=thick))
    assert batch(data).slices[:, 2].std() < plain[:, 2].std()


def test_the_block_is_kept_beside_the_archive_and_equals_a_new_one(small_archive):
    told = []
    one, other = load_block(small_archive, 2, 5), load_block(small_archive, 2, 5, told.append)
    assert not told
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert (small_archive.path / "crops-2-5" / "crops.json").is_file()


def test_training_patch_equals_inference_patch(small_archive):
    config = replace(CONFIG, batch_size=1, augment=NO_AUGMENT, network=NetworkConfig(mask=False))
    nodule = small_archive.nodules[3]
    block = load_block(small_archive, 1, 0)
    trained = batch(TrainingSet(block, small_archive.nodules, [3], config)).slices[0]
    ct, centre = nodule_ct(small_archive, nodule, seed=7919 * 3)
    inference = Ensemble([ResMTNet(NetworkConfig(widths=(4, 4, 4)))], config.patch)
    seen = inference.sampler(ct, centre).slices(config.patch.offsets_mm)
    torch.testing.assert_close(seen, trained, atol=0.01, rtol=0)


def test_batches_of_the_mask_alone_are_wide_and_hold_nothing_for_the_heads(data):
    batches = list(data.mask_epoch(torch.Generator().manual_seed(0)))
    assert len(batches) == data.steps
    assert len(batches[0].slices) == 0
    assert batches[0].extra.shape == (8, 7, 48, 48)
    assert batches[0].extra_mask.shape == (8, 5, 48, 48)
    assert batches[0].total == 8
