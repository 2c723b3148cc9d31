"""Trains the output layers on stored embeddings: a few thousand weights, all data at each step.

With the embeddings fixed the loss is nearly convex, so L-BFGS finds its minimum in a few dozen
steps, and the same one on every run. The pull towards the anchor keeps what the data say nothing
about.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from resmtnet.config import LossConfig
from resmtnet.data.targets import targets_of
from resmtnet.inference.model_folder import Model
from resmtnet.network.losses import joint_loss
from resmtnet.network.resmtnet import Output, ResMTNet
from resmtnet.retraining.linear_heads import OUTPUTS, weights_of
from resmtnet.training.carried_sets import read_replay
from resmtnet.types import Array, Progress

Targets = Mapping[str, Tensor]
Layers = Mapping[str, Tensor]
WEIGHT = "_weight"
LEAST_GAIN = 1e-5
"""Of the loss in one step, as a share of it; with less the training ends."""


@dataclass(frozen=True, eq=False)
class Data:
    """Embeddings and targets of the site's nodules and of those replayed, in one table."""

    embeddings: Tensor
    """[N, members, D]"""
    targets: Targets
    """Of all; the weights are shares of the loss."""
    offsets: Mapping[str, Tensor] = field(default_factory=dict)
    """[N, outputs] by task, added to what the layers say: the habit of the site's readers, which
    the layers need not learn."""

    @classmethod
    def mixed(
        cls,
        site: tuple[Tensor, Targets],
        replay: tuple[Tensor, Targets],
        replay_share: float,
        offsets: Mapping[str, Array] | None = None,
    ) -> Data:
        """Join both: the loss is their weighted mean, whatever their numbers.

        Args:
            site: embeddings [n, members, D] and targets.
            replay: the same of the replayed nodules.
            replay_share: their weight, 0..1.
            offsets: of the site's nodules, [outputs] by task; see Data.offsets.
        """
        shares = (1 - replay_share) / len(site[0]), replay_share / len(replay[0])
        targets = {
            name: torch.cat(
                [
                    part[1][name] * (share if name.endswith(WEIGHT) else 1.0)
                    for part, share in zip((site, replay), shares, strict=True)
                ]
            )
            for name in site[1]
        }
        is_site = torch.cat([torch.ones(len(site[0])), torch.zeros(len(replay[0]))])[:, None]
        moved = {
            name: is_site * torch.from_numpy(offset).float()[None]
            for name, offset in (offsets or {}).items()
        }
        return cls(torch.cat([site[0], replay[0]]).float(), targets, moved)


def train_heads(
    network: ResMTNet,
    anchor: ResMTNet,
    embeddings: Tensor,
    targets: Targets,
    weights: LossConfig,
    *,
    pull: float,
    steps: int,
    each_step: Callable[[], None] = lambda: None,
    offsets: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the output layers of least loss for one member.

    Args:
        network: starts from its layers.
        anchor: held close to its layers.
        embeddings: [N, D] of this member.
        targets: see Data.
        weights: of the terms of the joint loss.
        pull: weight of the squared distance to the anchor.
        steps: at most.
        each_step: called after every step.
        offsets: see Data.
    """
    state = weights_of(network)
    names = [name for name in state if OUTPUTS in name]

    def loss_of(layers: Layers) -> Tensor:
        said = _answers(network, layers, embeddings)
        said |= {name: said[name] + offset for name, offset in (offsets or {}).items()}
        output = Output(said, embeddings)
        return torch.stack(list(joint_loss(output, targets, weights, 1).values())).sum()

    return _least(loss_of, names, state, weights_of(anchor), pull, steps, each_step)


def _least(
    loss_of: Callable[[Layers], Tensor],
    names: list[str],
    start: Layers,
    home: Layers,
    pull: float,
    steps: int,
    each_step: Callable[[], None],
) -> dict[str, Tensor]:
    """Return the layers, of some names, of least loss and distance from home."""
    from scipy.optimize import minimize

    like = [start[name] for name in names]
    begin, anchor = _flat(start, names), _flat(home, names)

    def loss_and_slope(values: Array) -> tuple[float, Array]:
        flat = torch.tensor(values, dtype=torch.float32, requires_grad=True)
        loss = loss_of(dict(zip(names, _parts(flat, like), strict=True)))
        loss = loss + pull * (flat - anchor).square().sum()
        (slope,) = torch.autograd.grad(loss, flat)
        return float(loss.detach()), slope.double().numpy()

    found = minimize(
        loss_and_slope,
        begin.double().numpy(),
        jac=True,
        method="L-BFGS-B",
        callback=lambda values: each_step(),
        options={"maxiter": steps, "ftol": LEAST_GAIN},
    )
    parts = _parts(torch.tensor(found.x, dtype=torch.float32), like)
    return dict(zip(names, parts, strict=True))


def train_members(
    pairs: Sequence[tuple[ResMTNet, ResMTNet]],
    data: Data,
    weights: LossConfig,
    *,
    pull: float,
    steps: int,
    tell: Progress = lambda done, of: None,
) -> list[dict[str, Tensor]]:
    """Return the weights of every member with trained layers; see train_heads.

    Args:
        pairs: every member and its anchor.
        data: of all members.
        weights: of the terms of the joint loss.
        pull: weight of the squared distance to the anchor.
        steps: at most, for each member.
        tell: called after each step with the steps done and those in all.
    """
    states, total = [], steps * len(pairs)
    for number, (network, anchor) in enumerate(pairs):
        count = itertools.count(number * steps + 1)

        def each_step(count: Iterator[int] = count) -> None:
            tell(next(count), total)

        trained = train_heads(
            network,
            anchor,
            data.embeddings[:, number],
            data.targets,
            weights,
            pull=pull,
            steps=steps,
            each_step=each_step,
            offsets=data.offsets,
        )
        states.append({**weights_of(network), **trained})
    return states


@lru_cache(maxsize=2)  # a cross-fit trains several times
def replayed(model: Model) -> tuple[Tensor, Targets]:
    """Return embeddings [N, members, D] and targets of the nodules that a model replays."""
    replay = model.carried(read_replay)
    targets = targets_of(replay.nodules, model.config.subsolid_factor)
    return torch.from_numpy(replay.embeddings), targets


def _answers(
    network: ResMTNet, layers: Mapping[str, Tensor], embeddings: Tensor
) -> dict[str, Tensor]:
    """Return what layers say, [N, outputs] by task; see Head.forward."""
    tasks = {}
    parts = embeddings.chunk(len(network.names), 1)
    for part, branch in zip(parts, network.names, strict=True):
        for task in network.heads[branch].outputs:  # type: ignore[union-attr]
            name = f"heads.{branch}{OUTPUTS}{task}"
            tasks[task] = part @ layers[f"{name}.weight"].T + layers[f"{name}.bias"]
    return tasks


def _flat(state: Mapping[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([state[name].flatten() for name in names])


def _parts(flat: Tensor, like: list[Tensor]) -> list[Tensor]:
    pieces = torch.split(flat, [part.numel() for part in like])
    return [piece.view_as(part) for piece, part in zip(pieces, like, strict=True)]
