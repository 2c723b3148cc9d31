"""Calibration of a network that was barely trained, on synthetic balls."""

from dataclasses import replace

import numpy as np
import pytest

from resmtnet.config import NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.data.archive import Archive
from resmtnet.errors import InputError, ModelError
from resmtnet.experiment import Listener, run_experiment
from resmtnet.model_store import read_model

CONFIG = TrainingConfig(
    epochs=80,
    learning_rate=1e-2,
    ema_decay=0.9,
    batch_size=8,
    context_variants=1,
    calibration_folds=(0, 1, 2),
    mask_share=1.0,
    network=NetworkConfig(widths=(8, 8, 8), hidden=8),
    patch=PatchConfig(size_px=24, offsets_mm=(-2.0, 0.0, 2.0)),
)


@pytest.fixture(scope="module")
def experiment(small_archive: Archive, tmp_path_factory):
    out, told = tmp_path_factory.mktemp("experiment"), []
    listener = Listener(calibration=lambda done, of: told.append((done, of)))
    info = run_experiment(small_archive, CONFIG, out, version="t1", listener=listener)
    return out, info, told


def test_model_that_was_written_is_read(experiment):
    out, info, _ = experiment
    model = read_model(out / "model")
    assert model.info == info
    assert model.config == CONFIG


def test_every_constant_is_fitted_and_finite(experiment):
    calibration = read_model(experiment[0] / "model").calibration
    values, arrays = calibration.to_json()
    assert 0.5 <= calibration.decision_threshold <= 0.8
    assert set(values["size_quantiles"]) >= {"volume_mm3", "long_axis_mm", "short_axis_mm"}
    for name in ("class_slope", "score_quantile", "ood_limit", "mask_threshold"):
        assert np.isfinite(values[name]), name
    assert all(np.isfinite(q) and q > 0 for q in values["size_quantiles"].values())
    assert all(np.isfinite(a).all() for a in arrays.values())
    assert values["baselines"]["nodules"] == 8


def test_training_nodules_are_within_the_distribution(experiment, small_archive):
    calibration = read_model(experiment[0] / "model").calibration
    assert calibration.out_of_distribution(calibration.embedding_mean) == 0
    assert calibration.out_of_distribution(calibration.embedding_mean + 1e3) > 1


def test_progress_counts_every_nodule(experiment):
    told = experiment[2]
    assert told == [(n, 20) for n in range(1, 21)]


def test_network_that_draws_no_masks_is_not_published(small_archive, tmp_path):
    with pytest.raises(ModelError, match="train for more epochs"):
        run_experiment(small_archive, replace(CONFIG, epochs=1), tmp_path, version="t1")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("resume", "words"), [(False, "give --resume"), (True, "leave out")])
def test_a_checkpoint_is_neither_overwritten_nor_invented(
    experiment, small_archive, tmp_path, resume, words
):
    out = tmp_path if resume else experiment[0]
    with pytest.raises(InputError, match=words):
        run_experiment(small_archive, CONFIG, out, version="t2", resume=resume)
