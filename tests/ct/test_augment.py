"""Fading: a solid nodule becomes ground glass inside its mask, and nothing else changes."""

import pytest
import torch

from resmtnet.config import AugmentConfig
from resmtnet.ct.augment import draw_fading, fade_nodules


@pytest.fixture
def patches():
    """Two patches of lung with a square: a solid one and one of ground glass."""
    inside = torch.zeros(2, 3, 16, 16)
    inside[:, 1, 6:10, 6:10] = 1.0
    hu = torch.full((2, 3, 16, 16), -850.0)
    hu[0] = torch.where(inside[0] > 0, torch.tensor(20.0), hu[0])
    hu[1] = torch.where(inside[1] > 0, torch.tensor(-600.0), hu[1])
    return hu, inside


def test_a_solid_nodule_loses_that_share_of_its_contrast(patches):
    hu, inside = patches
    faded = fade_nodules(hu, inside, torch.tensor([0.75, 0.75]))
    assert faded[0][inside[0] > 0].mean().item() == pytest.approx(20 - 0.75 * 870)
    assert torch.equal(faded[0][inside[0] == 0], hu[0][inside[0] == 0])


def test_ground_glass_and_empty_patches_stay(patches):
    hu, inside = patches
    assert torch.equal(fade_nodules(hu, inside, torch.tensor([0.0, 0.75])), hu)
    assert torch.equal(fade_nodules(hu, inside * 0, torch.tensor([0.75, 0.75])), hu)


def test_share_and_range_are_configured():
    config = AugmentConfig(faded_share=0.4, fade=(0.5, 0.9))
    amount = draw_fading(4000, config, torch.Generator().manual_seed(0))
    drawn = amount[amount > 0]
    assert len(drawn) / 4000 == pytest.approx(0.4, abs=0.03)
    assert 0.5 <= drawn.min() <= drawn.max() <= 0.9
