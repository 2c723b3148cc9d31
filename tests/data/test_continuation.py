"""What is put beyond a stack's ends: no nodule, no trace of where it ended."""

import numpy as np
import pytest
import torch

from resmtnet.data.continuation import continue_ends


def stack(radius: float = 6.0):
    y, x = np.indices((60, 60)) - 30
    disc = np.hypot(x, y) <= radius
    hu = np.where(disc, 40, -850)[None].repeat(4, 0)
    noise = np.random.default_rng(0).normal(0, 20, hu.shape)
    return (hu + noise).astype(np.int16), (disc * 255).astype(np.uint8)[None].repeat(4, 0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_measured_slices_stay_as_they_are():
    hu, mask = stack()
    longer, longer_mask, below = continue_ends(hu, mask, (2.5, 0.7, 0.7), 10, generator())
    assert below == 4
    assert len(longer) == 4 + 2 * 4
    np.testing.assert_array_equal(longer[below : below + 4], hu)
    np.testing.assert_array_equal(longer_mask[below : below + 4], mask)
    assert not longer_mask[:below].any()
    assert not longer_mask[below + 4 :].any()


def test_the_nodule_is_gone_from_the_outermost_slices():
    hu, mask = stack()
    longer, _, _ = continue_ends(hu, mask, (2.5, 0.7, 0.7), 10, generator())
    for end in (longer[0], longer[-1]):
        assert end[26:35, 26:35].mean() == pytest.approx(-850, abs=40)


def test_the_texture_goes_on():
    hu, mask = stack()
    longer, _, _ = continue_ends(hu, mask, (2.5, 0.7, 0.7), 10, generator())
    assert longer[0][26:35, 26:35].std() > 5


def test_randomness_comes_from_the_generator():
    hu, mask = stack()
    one, same, other = (
        continue_ends(hu, mask, (2.5, 0.7, 0.7), 10, generator(seed))[0] for seed in (0, 0, 1)
    )
    np.testing.assert_allclose(one, same, atol=1)
    assert (one != other).any()
