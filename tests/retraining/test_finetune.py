"""From readings to a candidate: what it learns, what it keeps, what it leaves behind."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from resmtnet.errors import ConfigError, InputError, ModelError
from resmtnet.findings import ModelInfo
from resmtnet.inference.model_folder import MANIFEST, read_model, verify
from resmtnet.retraining.candidate import FineTuned, recalibrate
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.training.cached_nodule import CachedNodule, predict, raw_prediction
from resmtnet.training.carried_sets import (
    read_calibration_set,
    read_reference,
    read_reference_answers,
    read_replay,
)

QUICK = FineTuneConfig(epochs=25)


@pytest.fixture(scope="module")
def severe(say) -> Callable:
    """One reader, a level and a half above the others, who draws 15% too large."""

    def rule(one: CachedNodule):
        case = one.case
        sizes = {
            "volume_mm3": case.volume_mm3 * 1.15**3,
            "long_axis_mm": case.long_axis_mm * 1.15,
        }
        return [say(one, "S", malignancy=min(5, max(case.malignancy) + 1), sizes=sizes)]

    return rule


def tuned(world, samples=None, config=QUICK, **more) -> FineTuned:
    return recalibrate(fine_tune(world.model, samples or world.samples(), config, **more))


def scores(candidate: FineTuned, held: list[CachedNodule]) -> np.ndarray:
    return np.array([predict(h, candidate.calibration).score for h in candidate.answer_all(held)])


@pytest.fixture(scope="module")
def of_severe(world, severe) -> FineTuned:
    """A candidate trained on what the severe reader says of all nodules."""
    return tuned(world, world.samples(severe))


def test_habits_of_a_reader_are_learnt(world, of_severe):
    before = [predict(h, world.model.calibration) for h in world.reference]
    after = [predict(h, of_severe.calibration) for h in of_severe.answer_all(world.reference)]
    assert np.mean([a.score - b.score for a, b in zip(after, before, strict=True)]) > 0.5


def test_what_the_weights_learn_is_apart_from_the_habit(world, of_severe):
    """Without the habit, a version trained on severe readings says what it said before."""
    usual = of_severe.calibration.without_habit()
    before = [predict(h, world.model.calibration) for h in world.reference]
    after = [predict(h, usual) for h in of_severe.answer_all(world.reference)]
    drift = [a.score - b.score for a, b in zip(after, before, strict=True)]
    assert abs(np.mean(drift)) < 0.15
    sizes = [np.log(a.long_axis_mm / b.long_axis_mm) for a, b in zip(after, before, strict=True)]
    assert abs(np.mean(sizes)) < 0.02


def test_a_habit_of_size_moves_mask_and_numbers_together(world, of_severe):
    assert of_severe.calibration.habit.size_factor == pytest.approx(1.15, abs=0.05)
    usual = of_severe.calibration.without_habit()
    for one in of_severe.answer_all(world.reference)[:20]:
        measured = raw_prediction(one, of_severe.calibration).measured
        told = predict(one, of_severe.calibration).long_axis_mm
        assert told == pytest.approx(measured.long_axis_mm)
        assert told > raw_prediction(one, usual).measured.long_axis_mm


def test_right_corrections_change_little(world):
    candidate = tuned(world)
    before = np.array([predict(h, world.model.calibration).score for h in world.reference])
    assert abs(scores(candidate, world.reference) - before).mean() < 0.1


def test_replay_keeps_what_the_site_does_not_speak_of(world, say):
    """The site calls everything benign; replay remembers that there is another class."""

    def benign(one: CachedNodule):
        return [say(one, "B", class_name="benign")]

    def lost(config: FineTuneConfig) -> float:
        heads = tuned(world, world.samples(benign), config).heads
        old, new = (
            h.answer_all(world.reference) for h in (LinearHeads.of(world.model.networks), heads)
        )
        margins = [
            n.observation.outputs["class"] - o.observation.outputs["class"]
            for n, o in zip(new, old, strict=True)
        ]
        return float(np.abs(margins).mean())

    held = replace(QUICK, l2=0.0, replay_share=0.9)
    assert lost(held) < 0.5 * lost(replace(held, replay_share=0.0))


@pytest.mark.parametrize(
    ("stronger", "weaker"),
    [({"l2": 1000.0}, {"l2": 0.1}), ({"epochs": 1}, {"epochs": 25})],
    ids=["l2", "epochs"],
)
def test_settings_hold_the_weights_back(world, severe, stronger, weaker):
    def moved(setting: dict) -> float:
        config = replace(QUICK, doubt=1e3, **setting)
        old = LinearHeads.of(world.model.networks).layers["malignancy"].weight
        heads = tuned(world, world.samples(severe, 40), config).heads
        return float(abs(heads.layers["malignancy"].weight - old).mean())

    assert moved(stronger) < moved(weaker)


def test_habit_that_may_be_chance_does_not_count(world, severe):
    def tilt(doubt: float) -> float:
        candidate = tuned(world, world.samples(severe, 40), replace(QUICK, doubt=doubt))
        return candidate.provenance["site"]["habit"]["score_tilt"]

    assert tilt(0.0) > tilt(3.0) > tilt(1e3) == 0


def test_reader_who_gave_sizes_alone_moves_no_other_head(world, say):
    sizes = world.samples(lambda one: [say(one, "A", sizes={"long_axis_mm": 30.0})], 30)
    candidate = tuned(world, sizes, replace(QUICK, replay_share=0.0, l2=1.0))
    for state, network in zip(candidate.states, world.model.networks, strict=True):
        old = network.state_dict()
        changed = {name for name in state if not torch.equal(state[name], old[name])}
        assert changed
        assert all(".outputs.long_axis_mm." in name for name in changed)
    assert candidate.calibration.class_intercept == pytest.approx(
        world.model.calibration.class_intercept, abs=0.01
    )


def test_weights_are_held_to_the_anchor(world, of_severe):
    networks = tuple(
        replace_weights(network, state)
        for network, state in zip(world.model.networks, of_severe.states, strict=True)
    )
    parent = replace(world.model, networks=networks)
    samples, strong = world.samples(count=20), replace(QUICK, l2=1e5, doubt=1e3)
    back = recalibrate(fine_tune(parent, samples, strong, anchor=world.model))
    stays = recalibrate(fine_tune(parent, samples, strong))
    shipped = LinearHeads.of(world.model.networks).layers["malignancy"].bias
    own = LinearHeads.of(networks).layers["malignancy"].bias
    np.testing.assert_allclose(back.heads.layers["malignancy"].bias, shipped, atol=0.02)
    np.testing.assert_allclose(stays.heads.layers["malignancy"].bias, own, atol=0.02)


def replace_weights(network, state):
    other = copy.deepcopy(network)
    other.load_state_dict(state)
    return other


def test_candidate_says_what_it_was_made_from(world):
    samples = world.samples(count=30)
    provenance = tuned(world, samples).provenance
    assert provenance["parent"]["sha256"] == world.model.info.sha256
    assert provenance["readings"] == sorted(r.id for s in samples for r in s.consensus.readings)
    assert provenance["site"]["nodules"] == 30
    assert provenance["data"] == "latent"
    json.dumps(provenance)


def test_what_was_judged_is_what_is_read_again(world, of_severe, tmp_path):
    info = of_severe.write(tmp_path / "model", "2")
    model = read_model(tmp_path / "model")
    assert model.info == info
    again = LinearHeads.of(model.networks).answer_all(world.site)
    for one, other in zip(of_severe.answer_all(world.site), again, strict=True):
        told, expected = predict(other, model.calibration), predict(one, of_severe.calibration)
        assert told.probability_malignant == pytest.approx(expected.probability_malignant, abs=1e-6)
        assert told.score == pytest.approx(expected.score, abs=1e-6)
        assert told.long_axis_mm == pytest.approx(expected.long_axis_mm)


def test_version_carries_all_that_the_next_training_needs(world, severe, of_severe, tmp_path):
    of_severe.write(tmp_path / "model", "2")
    kept = read_replay(tmp_path / "model")
    assert kept.nodules == read_replay(world.model.folder).nodules
    assert len(read_calibration_set(tmp_path / "model")) == 120
    told = read_reference_answers(tmp_path / "model")
    reference = read_reference(tmp_path / "model")
    for (_, answer), one in zip(told, reference, strict=True):
        usual = of_severe.calibration.without_habit()
        assert answer.score == pytest.approx(predict(one, usual).score, abs=1e-3)
    second = recalibrate(fine_tune(read_model(tmp_path / "model"), world.samples(severe), QUICK))
    drift = scores(second, world.reference) - scores(of_severe, world.reference)
    assert abs(drift).mean() < 0.15  # the habit is not added a second time


def test_same_readings_give_the_same_candidate(world):
    one, other = (tuned(world, world.samples(count=20)) for _ in range(2))
    for name, value in one.states[0].items():
        torch.testing.assert_close(value, other.states[0][name], rtol=1e-4, atol=1e-5)


def test_progress_is_told_step_by_step(world):
    told: list = []
    fine_tune(world.model, world.samples(), QUICK, tell=lambda *step: told.append(step))
    assert told == sorted(told)
    assert told[-1][0] <= told[-1][1] == 2 * QUICK.epochs


def test_depth_full_without_an_archive_is_refused_in_one_line(world):
    with pytest.raises(InputError, match="--conf archive=DIR") as refused:
        fine_tune(world.model, world.samples(), FineTuneConfig(depth="full"))
    assert "\n" not in str(refused.value)


def test_nothing_to_train_on_is_told(world):
    with pytest.raises(InputError, match="no reading can train"):
        fine_tune(world.model, [])


def test_model_without_a_replay_set_is_told(world, tmp_path):
    bare = replace(world.model, folder=tmp_path, info=replace(world.model.info, sha256="none"))
    with pytest.raises(ModelError, match=r"replay\.csv is missing"):
        fine_tune(bare, world.samples())


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": "half"},
        {"epochs": 0},
        {"learning_rate": -1.0},
        {"replay_share": 1.0},
        {"l2": -1.0},
        {"doubt": -1.0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_settings_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        FineTuneConfig(**wrong)


def test_versions_that_carry_a_file_of_an_older_package_are_served_and_trained_again(
    world, severe, tmp_path
):
    """Models once carried stage.safetensors; versions that were published then still do."""

    def write_old(folder):
        shutil.copytree(world.model.folder, folder)
        (folder / "stage.safetensors").write_bytes(b"numbers")
        return signed(folder, versions.next_version())

    versions = ModelRegistry(tmp_path / "models", world.model.folder)
    published = versions.publish(write_old)
    parent, served = versions.load(read_model)
    assert (served.name, served.warning) == (published.name, None)
    candidate = recalibrate(fine_tune(parent, world.samples(severe), QUICK, anchor=world.model))
    candidate.write(tmp_path / "next", "3")
    assert set(verify(tmp_path / "next")["files"]) == set(verify(world.model.folder)["files"])


def signed(folder, version) -> ModelInfo:
    """Write a manifest that lists every file of a model folder."""
    manifest = json.loads((folder / MANIFEST).read_text())
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    table = "".join(f"{name}:{sha256}\n" for name, sha256 in files.items())
    sha256 = hashlib.sha256(table.encode()).hexdigest()
    manifest |= {"version": version, "files": files, "sha256": sha256}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return ModelInfo("resmtnet", version, sha256)
