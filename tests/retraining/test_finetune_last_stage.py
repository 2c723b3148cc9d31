"""Training of the hidden layers over stored inputs: what it learns, keeps, leaves, and refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from resmtnet.errors import InputError
from resmtnet.inference.model_folder import Model, read_model, verify, write_model
from resmtnet.readings.record import Reading
from resmtnet.retraining.backbone import CARRIED, carried
from resmtnet.retraining.finetune import FineTuneConfig, FineTuned, fine_tune
from resmtnet.retraining.gate import Margins, judge
from resmtnet.retraining.linear_heads import HIDDEN, OUTPUTS, LinearHeads
from resmtnet.retraining.samples import Sample
from resmtnet.retraining.stage import STAGE, stage_files
from resmtnet.training.cached_nodule import CachedNodule, predict
from resmtnet.training.carried_sets import (
    calibration_set_files,
    read_calibration_set,
    read_reference,
    read_reference_answers,
    read_replay,
    reference_files,
)

QUICK = FineTuneConfig(depth="last_stage", epochs=25, hidden_l2=1.0)
HALF, ENTERING = 8, 24
"""Embedding and inputs of a branch, in the networks of the world."""
NEW = 12
"""An input that the shipped hidden layers ignore."""


@dataclass(frozen=True, eq=False)
class Stage:
    """The world with hidden layers that hand on a part of what enters them."""

    world: object
    model: Model
    inputs: dict[str, np.ndarray]
    """Of the site's nodules, by the id of a sample."""
    traits: dict[str, float]
    """What the ignored input says, by nodule."""

    def samples(self, rule: Callable | None = None, count: int | None = None) -> list[Sample]:
        return self.world.samples(rule, count)

    def tuned(self, samples: list[Sample], config: FineTuneConfig = QUICK, **more) -> FineTuned:
        found = fine_tune(self.model, samples, config, inputs=self.inputs, **more)
        assert found is not None
        return found


def entering(embeddings: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Inputs [members, 2 * ENTERING] whose embedding is the given one, and the ignored trait."""
    members = len(embeddings)
    parts = embeddings.reshape(members, 2, HALF)
    trait = float(rng.normal())
    more = rng.normal(0, 0.3, (members, 2, ENTERING - HALF))
    more[:, :, NEW - HALF] = trait
    return np.concatenate([parts, more], 2).reshape(members, -1).astype(np.float32), trait


@pytest.fixture(scope="module")
def stage(world, tmp_path_factory) -> Stage:
    folder, rng = world.model.folder, np.random.default_rng(7)
    states = []
    for network in world.model.networks:
        state = dict(network.state_dict())
        for name, value in state.items():
            if HIDDEN in name:
                state[name] = torch.eye(*value.shape) if value.dim() == 2 else 0 * value
        states.append(state)
    replay, kept, reference = read_replay(folder), read_calibration_set(folder), world.reference
    stored = {
        n.id: entering(e, rng)[0] for n, e in zip(replay.nodules, replay.embeddings, strict=True)
    }
    for one in (*kept, *reference):
        stored[one.case.id], _ = entering(one.observation.embeddings, rng)
    entered = {h.case.id: entering(h.observation.embeddings, rng) for h in world.site}
    inputs = {s.said.id: entered[s.said.nodule][0] for s in world.samples()}
    traits = {name: trait for name, (_, trait) in entered.items()}
    calibration = world.model.calibration
    further = carried(folder, *CARRIED) | stage_files(stored) | calibration_set_files(kept)
    further |= reference_files(reference, calibration)
    own = tmp_path_factory.mktemp("stage") / "model"
    config = world.model.config
    write_model(own, "1", states, config, calibration, {"data": "latent"}, further)
    return Stage(world, read_model(own), inputs, traits)


@pytest.fixture(scope="module")
def by_trait(stage, say) -> Callable:
    """Readers who go by what the shipped hidden layers ignore."""

    def rule(one: CachedNodule) -> list[Reading]:
        rating = int(np.clip(round(3 + 1.5 * stage.traits[one.case.id]), 1, 5))
        return [say(one, "S", malignancy=rating)]

    return rule


def follows(stage: Stage, candidate: FineTuned, held: list[CachedNodule]) -> float:
    """Correlation of the scores of nodules with the ignored trait."""
    named = [replace(h, case=replace(h.case, id=f"{h.case.patient_id}/{h.case.id}")) for h in held]
    scores = [predict(h, candidate.calibration).score for h in candidate.answer_all(named)]
    return float(np.corrcoef(scores, [stage.traits[h.case.id] for h in held])[0, 1])


def scores(candidate: FineTuned, held: list[CachedNodule]) -> np.ndarray:
    return np.array([predict(h, candidate.calibration).score for h in candidate.answer_all(held)])


def test_it_learns_what_the_output_layers_cannot(stage, by_trait):
    """The readers go by something that enters the hidden layers and does not leave them."""
    trained, unseen = stage.samples(by_trait, 80), stage.world.site[80:]
    eager = replace(QUICK, l2=1.0, hidden_l2=0.1, replay_share=0.1)
    deeper = stage.tuned(trained, eager)
    heads = stage.tuned(trained, replace(eager, depth="heads"))
    assert follows(stage, deeper, unseen) > 0.7
    assert abs(follows(stage, heads, unseen)) < 0.4


def test_right_corrections_change_little(stage):
    candidate = stage.tuned(stage.samples(), FineTuneConfig(depth="last_stage", epochs=25))
    reference = read_reference(stage.model.folder)
    before = np.array([predict(h, stage.model.calibration).score for h in reference])
    assert abs(scores(candidate, reference) - before).mean() < 0.1


def test_strong_pull_leaves_the_hidden_layers_as_they_are(stage, by_trait):
    def moved(pull: float) -> float:
        candidate = stage.tuned(stage.samples(by_trait, 30), replace(QUICK, hidden_l2=pull))
        old = stage.model.networks[0].state_dict()
        new = candidate.states[0]
        return max(float((new[n] - old[n]).abs().max()) for n in old if HIDDEN in n)

    assert moved(1e7) < 1e-3 < moved(0.1)


def test_weights_before_the_hidden_layers_stay_bit_by_bit(stage, by_trait):
    candidate = stage.tuned(stage.samples(by_trait, 30))
    for network, state in zip(stage.model.networks, candidate.states, strict=True):
        old = network.state_dict()
        changed = {name for name in old if not torch.equal(old[name], state[name])}
        assert {name for name in changed if HIDDEN in name}
        assert {name for name in changed if OUTPUTS in name}
        assert all(HIDDEN in name or OUTPUTS in name for name in changed)


def test_same_readings_give_the_same_candidate(stage, by_trait):
    one, other = (stage.tuned(stage.samples(by_trait, 20)) for _ in range(2))
    for name, value in one.states[1].items():
        assert torch.equal(value, other.states[1][name])


def test_progress_is_told_and_a_stop_is_heeded(stage):
    told: list = []
    stopped = fine_tune(
        stage.model,
        stage.samples(),
        QUICK,
        inputs=stage.inputs,
        tell=told.append,
        stop=lambda: len(told) >= 3,
    )
    assert stopped is None
    assert len(told) == 3


def test_published_version_is_trained_again_at_either_depth(stage, by_trait, tmp_path):
    first = stage.tuned(stage.samples(by_trait))
    first.write(tmp_path / "model", "2")
    model = read_model(tmp_path / "model")
    assert LinearHeads.of(model.networks).trunk == first.heads.trunk
    assert LinearHeads.of(model.networks).trunk != LinearHeads.of(stage.model.networks).trunk
    assert (model.folder / STAGE).read_bytes() == (stage.model.folder / STAGE).read_bytes()
    assert read_replay(model.folder).nodules == read_replay(stage.model.folder).nodules
    site = first.sight.look([s.held for s in stage.samples(by_trait)])
    samples = [replace(s, held=h) for s, h in zip(stage.samples(by_trait), site, strict=True)]
    reference = read_reference(model.folder)
    for depth in ("heads", "last_stage"):
        config = replace(QUICK, depth=depth)
        second = fine_tune(model, samples, config, inputs=stage.inputs, anchor=stage.model)
        assert second
        drift = scores(second, reference) - scores(first, read_reference(stage.model.folder))
        assert abs(drift).mean() < 0.15  # the habit is not added a second time
        verdict = judge(second, model, stage.model, reference, samples[:0], Margins())
        assert verdict.compared["reference, against shipped"]
        second.write(tmp_path / depth, "3")
        assert set(verify(tmp_path / depth)["files"]) == set(verify(model.folder)["files"])


def test_version_holds_what_its_own_layers_say(stage, by_trait, tmp_path):
    candidate = stage.tuned(stage.samples(by_trait))
    candidate.write(tmp_path / "model", "2")
    model = read_model(tmp_path / "model")
    heads = LinearHeads.of(model.networks)
    for part in (read_reference(model.folder), read_calibration_set(model.folder)):
        for one, again in zip(part, heads.answer_all(part), strict=True):
            told, said = (h.observation.outputs["malignancy"] for h in (one, again))
            np.testing.assert_allclose(told, said, atol=1e-4)
    told = [answer.score for _, answer in read_reference_answers(model.folder)]
    np.testing.assert_allclose(told, scores(candidate, read_reference(stage.model.folder)), 1e-3)
    mean = model.calibration.familiarity.mean
    np.testing.assert_allclose(mean, read_replay(model.folder).flat.mean(0), atol=2e-3)


def test_weights_are_held_to_the_anchor_below_the_hidden_layers(stage, by_trait):
    """A version whose hidden layers were trained is pulled back to those that were shipped."""
    first = stage.tuned(stage.samples(by_trait), replace(QUICK, hidden_l2=0.01))
    networks = [copy.deepcopy(network) for network in stage.model.networks]
    for network, state in zip(networks, first.states, strict=True):
        network.load_state_dict(state)
    parent = replace(stage.model, networks=tuple(networks))
    strong = replace(QUICK, l2=1e5, hidden_l2=1e5)
    more = {"inputs": stage.inputs, "anchor": stage.model}
    back = fine_tune(parent, stage.samples(count=20), strong, **more)
    assert back
    for name, home in stage.model.networks[0].state_dict().items():
        if HIDDEN in name:
            torch.testing.assert_close(back.states[0][name], home, atol=0.02, rtol=0)


def test_model_without_stage_inputs_is_refused_in_one_line(world):
    with pytest.raises(
        InputError, match="use depth heads, or full with the training archive"
    ) as refused:
        fine_tune(world.model, world.samples(), QUICK)
    assert "\n" not in str(refused.value)


def test_site_nodules_without_stage_inputs_are_refused_by_name(stage):
    samples = stage.samples(count=5)
    known = {s.said.id: stage.inputs[s.said.id] for s in samples[:3]}
    with pytest.raises(InputError, match=samples[3].said.id):
        fine_tune(stage.model, samples, QUICK, inputs=known)
