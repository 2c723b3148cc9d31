"""The output layers of a model as plain arrays, applied to stored embeddings.

They are linear in the embedding, so that new output layers give their outputs for a nodule without
its image, as long as the feature extractor before them (the trunk) is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from resmtnet.characteristics import NODULE, branch_tasks
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.network.resmtnet import BRANCHES, ResMTNet
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.types import Array

State = Mapping[str, Tensor]

OUTPUTS = ".outputs."
"""Part of the names of the layers that embeddings enter."""


@dataclass(frozen=True, eq=False)
class Linear:
    """One output layer of every member."""

    weight: Array
    """[members, outputs, D]; 0 at what the branch of the task does not see."""
    bias: Array
    """[members, outputs]"""

    def __call__(self, embeddings: Array) -> Array:
        """[..., members, D] -> [..., members, outputs]."""
        answers: Array = (self.weight @ embeddings[..., None])[..., 0] + self.bias
        return answers


@dataclass(frozen=True, eq=False)
class LinearHeads:
    """The output layers of a model."""

    layers: Mapping[str, Linear]
    """By task."""
    trunk: str
    """sha256 of everything before them."""

    @classmethod
    def of(cls, networks: Sequence[ResMTNet]) -> LinearHeads:
        """Read the members' heads; networks are not changed in place once they were read."""
        return _read(tuple(networks))

    @classmethod
    def of_states(
        cls, states: Sequence[State], branches: Sequence[str], trunk: str | None = None
    ) -> LinearHeads:
        """Read heads from the members' weights.

        Args:
            states: of the members.
            branches: as ResMTNet.names.
            trunk: its sha256 where it is known; else it is computed from all weights.
        """
        layers = {}
        names = [branch for branch in BRANCHES if branch in branches]
        for n, branch in enumerate(names):
            for task in (*branch_tasks(branch), NODULE):
                name = f"heads.{branch}{OUTPUTS}{task.name}"
                if task is NODULE and f"{name}.weight" not in states[0]:
                    continue  # an optional task, of one branch
                weight = np.stack([_array(state[f"{name}.weight"]) for state in states])
                width = weight.shape[2]
                around = [(0, 0), (0, 0), (n * width, (len(names) - 1 - n) * width)]
                bias = np.stack([_array(state[f"{name}.bias"]) for state in states])
                layers[task.name] = Linear(np.pad(weight, around), bias)
        return cls(layers, trunk or trunk_sha256(states))

    def moved(self, biases: Mapping[str, Array]) -> LinearHeads:
        """Return heads whose biases are moved, [outputs] by task, alike in every member."""
        layers = {
            name: replace(layer, bias=layer.bias + biases[name]) if name in biases else layer
            for name, layer in self.layers.items()
        }
        return replace(self, layers=layers)

    def answer_all(self, held: Sequence[CachedNodule]) -> list[CachedNodule]:
        """Return what these heads say of nodules that others over the same trunk have seen.

        All views of a member move alike, to the mean that the heads give for its embedding.
        """
        if not held:
            return []
        embeddings = np.array([h.observation.embeddings for h in held], float)  # [N, members, D]
        views, means = {}, {}
        for name, layer in self.layers.items():
            if name not in held[0].observation.views:
                continue  # seen by a package that did not know the task
            old = np.array([h.observation.views[name] for h in held])  # [N, members, views, out]
            told = layer(embeddings)
            views[name] = old + (told - old.mean(2))[:, :, None]
            means[name] = told.mean(1)
        return [
            replace(h, observation=_observation(h.observation, views, means, n))
            for n, h in enumerate(held)
        ]

    def answer(self, held: CachedNodule) -> CachedNodule:
        """Return what these heads say of one nodule; see answer_all."""
        return self.answer_all([held])[0]


@lru_cache(maxsize=8)  # a training asks for the same heads a dozen times
def _read(networks: tuple[ResMTNet, ...]) -> LinearHeads:
    return LinearHeads.of_states([n.state_dict() for n in networks], networks[0].names)


def _observation(
    seen: RawOutputs, views: Mapping[str, Array], means: Mapping[str, Array], n: int
) -> RawOutputs:
    """Return an observation with the new answers of nodule n; their means are known already."""
    told = RawOutputs({**seen.views, **{k: v[n] for k, v in views.items()}}, seen.embeddings)
    absent = {k: v.mean((0, 1)) for k, v in seen.views.items() if k not in views}
    vars(told)["outputs"] = {**absent, **{k: v[n] for k, v in means.items()}}  # a cached property
    return told


def move_biases(state: State, biases: Mapping[str, Array]) -> dict[str, Tensor]:
    """Return a member's weights with the biases of some output layers moved; see Heads.moved."""
    moved = dict(state)
    for name, tensor in state.items():
        task = name.removesuffix(".bias").rpartition(".")[2]
        if OUTPUTS in name and name.endswith(".bias") and task in biases:
            moved[name] = tensor + torch.from_numpy(biases[task]).to(tensor)
    return moved


def weights_of(network: ResMTNet) -> dict[str, Tensor]:
    """Return a member's weights on the CPU, wherever it answers."""
    return {name: tensor.cpu() for name, tensor in network.state_dict().items()}


def trunk_sha256(states: Sequence[State]) -> str:
    """Return the sha256 of all weights but those of the output layers."""
    digest = hashlib.sha256()
    for state in states:
        for name in sorted(state):
            if OUTPUTS not in name:
                digest.update(name.encode())
                digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _array(tensor: Tensor) -> Array:
    found: Array = tensor.detach().cpu().double().numpy()
    return found
