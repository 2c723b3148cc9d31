"""What is unlike the training nodules, by embedding and by the mask's silence."""

import numpy as np
import pytest
import torch

from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.out_of_distribution import (
    OutOfDistribution,
    TypicalRange,
    fit_out_of_distribution,
)


def seen(*embedding: float) -> RawOutputs:
    return RawOutputs({}, np.array([embedding], np.float32))


@pytest.fixture(scope="module")
def fitted() -> OutOfDistribution:
    rng = np.random.default_rng(0)
    training, held = rng.normal(size=(600, 4)), rng.normal(size=(400, 4))
    masks = rng.uniform(0.3, 0.99, 400)
    return fit_out_of_distribution(training, [seen(*row) for row in held], masks.tolist())


def test_typical_nodule_is_well_within_the_limit(fitted):
    assert fitted.score(seen(0, 0, 0, 0), 0.8) < 0.5


def test_far_embedding_is_outside_though_the_mask_is_sure(fitted):
    assert fitted.score(seen(9, 9, 9, 9), 0.9) > 1


def test_silent_mask_is_outside_though_the_embedding_is_typical(fitted):
    assert fitted.score(seen(0.5, 0.5, 0.5, 0.5), 0.001) > 1


def test_one_calibration_nodule_in_a_hundred_is_outside():
    rng = np.random.default_rng(1)
    training, held = rng.normal(size=(500, 3)), rng.normal(size=(1000, 3))
    masks = rng.uniform(0.2, 0.99, 1000).tolist()
    rows = [seen(*row) for row in held]
    fitted = fit_out_of_distribution(training, rows, masks)
    outside = [fitted.score(row, mask) > 1 for row, mask in zip(rows, masks, strict=True)]
    assert np.mean(outside) == pytest.approx(0.01, abs=0.002)


def test_networks_without_masks_are_judged_by_their_embedding():
    rng = np.random.default_rng(0)
    rows = [seen(*row) for row in rng.normal(size=(300, 3))]
    fitted = fit_out_of_distribution(rng.normal(size=(300, 3)), rows, [1.0] * 300)
    assert fitted.score(seen(0, 0, 0), 1.0) < 1 < fitted.score(seen(9, 9, 9), 1.0)


def test_without_fitted_signs_nothing_is_unfamiliar():
    assert OutOfDistribution().score(seen(1e6), 0.0) == 0


def test_score_survives_its_json(fitted):
    values, arrays = fitted.to_json()
    tensors = {name: torch.from_numpy(array).numpy() for name, array in arrays.items()}
    other = OutOfDistribution.from_json(values, tensors)
    assert other.signs == fitted.signs
    one = seen(1, 2, 3, 4)
    assert other.score(one, 0.2) == pytest.approx(fitted.score(one, 0.2), rel=1e-5)


def test_sign_counts_in_spreads_from_its_median():
    assert TypicalRange(1.0, 2.0).of(5.0) == 2.0
