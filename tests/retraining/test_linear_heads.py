"""New output layers over what others have seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resmtnet.inference.model_folder import read_model
from resmtnet.retraining.linear_heads import LinearHeads, move_biases, trunk_sha256
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import read_reference


def answers(held: CachedNodule) -> dict[str, np.ndarray]:
    return {name: values.mean(1) for name, values in held.observation.views.items()}


def test_heads_say_of_a_stored_embedding_what_the_network_says(world):
    network, one = world.model.networks[1], world.site[0]
    embedding = torch.from_numpy(one.observation.embeddings[1:])
    with torch.no_grad():
        expected = {
            **network.heads["classification"](embedding[:, :8]),
            **network.heads["regression"](embedding[:, 8:]),
        }
    told = answers(LinearHeads.of(world.model.networks).answer(one))
    for name, value in expected.items():
        np.testing.assert_allclose(told[name][1], value[0].numpy(), atol=1e-5)


def test_views_move_alike(world):
    one = world.site[0]
    views = {k: np.concatenate([v, v + 1], 1) for k, v in one.observation.views.items()}
    two = replace(one, observation=replace(one.observation, views=views))
    heads = LinearHeads.of(world.model.networks).moved({"class": np.array([0.0, 0.7])})
    moved = heads.answer(two).observation.views["class"]
    np.testing.assert_allclose(moved[:, 1] - moved[:, 0], 1.0)


def test_moved_biases_are_those_of_the_moved_weights(world):
    biases = {"malignancy": np.array([-2.0, -1, 0, 1, 2]), "long_axis_mm": np.array([0.1, 0.0])}
    networks = world.model.networks
    states = [move_biases(network.state_dict(), biases) for network in networks]
    moved = LinearHeads.of(networks).moved(biases).answer(world.site[0])
    stored = LinearHeads.of_states(states, networks[0].names).answer(world.site[0])
    for name, value in answers(moved).items():
        np.testing.assert_allclose(answers(stored)[name], value, atol=1e-5)


def test_trunk_is_known_by_all_but_the_output_layers(world):
    state = world.model.networks[0].state_dict()
    of_heads = {k: v + 1 if ".outputs." in k else v for k, v in state.items()}
    of_stem = {k: v + 1 if k == "stem.0.weight" else v for k, v in state.items()}
    assert trunk_sha256([state]) == trunk_sha256([of_heads]) != trunk_sha256([of_stem])


def test_shipped_heads_repeat_what_the_shipped_reference_set_was_told(checkout: Path):
    model = read_model(checkout / "model")
    kept = read_reference(model.folder)[:20]
    for old, new in zip(kept, LinearHeads.of(model.networks).answer_all(kept), strict=True):
        for name, value in answers(old).items():
            np.testing.assert_allclose(answers(new)[name], value, atol=0.02)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_number_of_nodules_is_answered(world, count):
    assert len(LinearHeads.of(world.model.networks).answer_all(world.site[:count])) == count
