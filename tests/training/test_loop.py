"""The training loop: by seed, resumable, and it learns."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resmtnet.config import LossConfig, NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.data.crops import load_block
from resmtnet.data.dataset import TrainingSet
from resmtnet.errors import ConfigError
from resmtnet.training import loop
from resmtnet.training.loop import Trainer, learning_rate

CONFIG = TrainingConfig(
    epochs=2,
    mask_epochs=0,
    batch_size=8,
    context_variants=1,
    network=NetworkConfig(widths=(4, 6, 8), hidden=8),
    patch=PatchConfig(size_px=24),
)


@pytest.fixture(scope="module")
def data(small_archive):
    return TrainingSet(load_block(small_archive, 1, 0), small_archive.nodules, range(16), CONFIG)


def same(one, other):
    return all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-5) for name in one)


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    told = []
    weights = Trainer(data, CONFIG, out).run(told.append)
    return weights, told, out


def test_a_seed_gives_the_same_weights(data, whole_run, tmp_path):
    assert same(Trainer(data, CONFIG, tmp_path).run(), whole_run[0])


def test_bfloat16_on_a_cpu_is_asked_for_and_needs_its_instructions(monkeypatch):
    fast = replace(CONFIG, bfloat16_on_cpu=True)
    monkeypatch.setattr(loop, "cpu_has_bfloat16", lambda: True)
    assert loop._precision("cpu", fast)._enabled
    assert not loop._precision("cpu", CONFIG)._enabled
    monkeypatch.setattr(loop, "cpu_has_bfloat16", lambda: False)
    assert not loop._precision("cpu", fast)._enabled


def test_training_in_bfloat16_learns(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "cpu_has_bfloat16", lambda: True)
    trainer = Trainer(data, replace(CONFIG, bfloat16_on_cpu=True), tmp_path)
    weights = trainer.run()
    assert all(value.dtype != torch.bfloat16 for value in weights.values())
    assert trainer.history[-1]["loss"] < trainer.history[0]["loss"]


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
    data = TrainingSet(load_block(small_archive, 1, 0), small_archive.nodules, range(8), config)
    trainer = Trainer(data, config, tmp_path)
    trainer.run()
    assert trainer.history[0]["loss"] > 0


def test_learning_rate_rises_then_falls_to_nothing():
    config = TrainingConfig(epochs=10)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == 0
    assert max(rates) <= config.learning_rate
    assert rates.index(max(rates)) in range(3, 8)
    assert rates[-1] < 1e-5


def test_a_watched_loss_that_stops_falling_ends_the_training(small_archive, tmp_path, monkeypatch):
    config = replace(CONFIG, epochs=40, stopping_folds=(4,), patience=2)
    block, nodules = load_block(small_archive, 1, 0), small_archive.nodules
    data, watched = (
        TrainingSet(block, nodules, index, config) for index in (range(16), range(16, 20))
    )
    trainer = Trainer(data, config, tmp_path, watched=watched)
    losses, averaged = iter([3.0, 2.0, 2.5, 2.1]), []

    def loss_of(watched):
        averaged.append({name: value.clone() for name, value in trainer.averaged.items()})
        return next(losses)

    monkeypatch.setattr(trainer, "_watched_loss", loss_of)
    best = trainer.run()
    assert [row["stopping_loss"] for row in trainer.history] == [3.0, 2.0, 2.5, 2.1]
    assert same(best, averaged[1])
    assert not same(best, averaged[3])


def test_the_watched_loss_is_that_of_the_averaged_weights(small_archive, tmp_path):
    config = replace(CONFIG, epochs=1, stopping_folds=(4,), patience=2)
    block, nodules = load_block(small_archive, 1, 0), small_archive.nodules
    data, watched = (
        TrainingSet(block, nodules, index, config) for index in (range(16), range(16, 20))
    )
    trainer = Trainer(data, config, tmp_path, watched=watched)
    trainer.run()
    assert trainer.history[0]["stopping_loss"] == pytest.approx(trainer._watched_loss(watched))
    assert 0 < trainer.history[0]["stopping_loss"] < 100


def test_frozen_norms_keep_their_statistics(data, tmp_path):
    trainer = Trainer(data, replace(CONFIG, freeze_norms=True, epochs=1), tmp_path)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    trainer.run()
    after = trainer.network.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items() if "running" in k)
    assert not same(before, after)


def test_learnt_variances_weigh_the_terms(data, tmp_path):
    config = replace(CONFIG, loss=LossConfig(balance="uncertainty"), epochs=1)
    trainer = Trainer(data, config, tmp_path)
    trainer.run()
    learnt = torch.stack(list(trainer.objective.log_variance.values()))
    assert learnt.abs().min() > 0
    again = Trainer(data, config, tmp_path)
    assert again.resume()
    assert torch.equal(learnt, torch.stack(list(again.objective.log_variance.values())))


def test_tensorboard_shows_every_epoch(whole_run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole_run[2] / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [0, 1]


def test_two_processes_take_the_step_of_one(small_archive, tmp_path):
    script = Path(__file__).parent / "distributed_step.py"
    archive = small_archive.path
    load_block(small_archive, 1, 0)
    alone = tmp_path / "alone.pt"
    run = [sys.executable, str(script), str(archive), str(alone)]
    subprocess.run(run, check=True, timeout=120)
    together = tmp_path / "together.pt"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*torchrun, str(script), str(archive), str(together)],
        check=True,
        timeout=120,
        env=environment,
    )
    one, two = (torch.load(path, weights_only=True) for path in (alone, together))
    assert one["processes"] == 1
    assert two["processes"] == 2
    assert sum(float(g.abs().sum()) for g in one["gradients"].values()) > 0
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(two["gradients"][name], gradient, rtol=1e-3, atol=1e-5)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_epochs_of_the_mask_alone_leave_trunk_and_heads(data, tmp_path):
    heads = Trainer(data, replace(CONFIG, mask_epochs=0), tmp_path / "heads").run()
    config = replace(CONFIG, mask_epochs=2)
    trainer = Trainer(data, config, tmp_path / "both")
    both = trainer.run()
    changed = {name for name in heads if not torch.allclose(heads[name], both[name], atol=1e-6)}
    assert changed
    assert all(name.startswith("decoder.") for name in changed)
    assert [sorted(set(row) & {"mask", "class"}) for row in trainer.history] == [
        ["class", "mask"],
        ["class", "mask"],
        ["mask"],
        ["mask"],
    ]


def test_a_run_that_was_cut_off_in_the_epochs_of_the_mask_goes_on_alike(data, tmp_path):
    class StoppedError(Exception):
        pass

    config = replace(CONFIG, epochs=1, mask_epochs=2)
    whole = Trainer(data, config, tmp_path / "whole").run()
    steps = []

    def stop_in_the_third_epoch(progress):
        steps.append(progress)
        if len(steps) == 2 * data.steps + 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        Trainer(data, config, tmp_path / "cut").run(stop_in_the_third_epoch)
    again = Trainer(data, config, tmp_path / "cut")
    assert again.resume()
    assert (again.epoch, again.mask_epoch) == (1, 1)
    assert same(again.run(), whole)
