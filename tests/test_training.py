"""The training loop: by seed, resumable, and it learns."""

import csv
from dataclasses import replace

import pytest
import torch

from resmtnet.config import NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.data.dataset import TrainingSet
from resmtnet.errors import ConfigError
from resmtnet.training import Trainer, learning_rate

CONFIG = TrainingConfig(
    epochs=2,
    batch_size=8,
    context_variants=1,
    network=NetworkConfig(widths=(4, 6, 8), hidden=8),
    patch=PatchConfig(size_px=24),
)


@pytest.fixture(scope="module")
def data(small_archive):
    return TrainingSet(small_archive, range(16), CONFIG)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    told = []
    weights = Trainer(data, CONFIG, out).run(told.append)
    return weights, told, out


def test_a_seed_gives_the_same_weights(data, whole_run, tmp_path):
    assert same(Trainer(data, CONFIG, tmp_path).run(), whole_run[0])


def test_another_seed_gives_others(data, whole_run, tmp_path):
    assert not same(Trainer(data, replace(CONFIG, seed=1), tmp_path).run(), whole_run[0])


def test_a_run_that_was_cut_off_ends_with_the_same_weights(data, whole_run, tmp_path):
    class StoppedError(Exception):
        pass

    def stop_in_the_second_epoch(progress):
        if progress.epoch == 1 and progress.step == 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        Trainer(data, CONFIG, tmp_path).run(stop_in_the_second_epoch)
    again = Trainer(data, CONFIG, tmp_path)
    assert again.resume()
    assert again.epoch == 1
    assert same(again.run(), whole_run[0])


def test_there_is_nothing_to_resume_in_an_empty_folder(data, tmp_path):
    assert not Trainer(data, CONFIG, tmp_path).resume()


def test_a_checkpoint_of_another_configuration_is_refused(data, whole_run):
    with pytest.raises(ConfigError, match="another configuration"):
        Trainer(data, replace(CONFIG, epochs=3), whole_run[2]).resume()


def test_every_step_is_told_and_every_epoch_is_logged(whole_run):
    _, told, out = whole_run
    assert [(p.epoch, p.step) for p in told] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with (out / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[0]["mask"]) > 0


def test_the_loss_falls(data, tmp_path):
    config = replace(CONFIG, epochs=25)
    trainer = Trainer(data, config, tmp_path)
    trainer.run()
    losses = [row["loss"] for row in trainer.history]
    assert sum(losses[-3:]) < 0.85 * sum(losses[:3])


def test_three_dimensions_train_too(small_archive, tmp_path):
    patch = PatchConfig(size_px=24, offsets_mm=tuple(float(z) for z in range(-8, 8)))
    network = replace(CONFIG.network, spatial_dims=3, mask=False)
    config = replace(CONFIG, epochs=1, network=network, patch=patch)
    trainer = Trainer(TrainingSet(small_archive, range(8), config), config, tmp_path)
    trainer.run()
    assert trainer.history[0]["loss"] > 0


def test_learning_rate_rises_then_falls_to_nothing():
    config = TrainingConfig(epochs=10)
    rates = [learning_rate(step, config, 10) for step in range(100)]
    assert rates[0] == 0
    assert max(rates) <= config.learning_rate
    assert rates.index(max(rates)) in range(3, 8)
    assert rates[-1] < 1e-5
