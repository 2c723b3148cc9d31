"""The weights of an ensemble's members: as stored in one file, as states, as networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from resmtnet.config import TrainingConfig
from resmtnet.errors import ModelError
from resmtnet.network.resmtnet import ResMTNet

STORED = torch.float16
"""Type of stored weights; loaded to float32, they change a probability by less than 0.002."""


def networks_of(
    config: TrainingConfig, states: Sequence[Mapping[str, Tensor]], device: str = "cpu"
) -> tuple[ResMTNet, ...]:
    """Return the networks with the given states, in evaluation mode and without gradients.

    Args:
        config: holds their shape.
        states: of each member, as state_dict gives them.
        device: to which they go.

    Raises:
        RuntimeError: a state does not fit the shape.
    """
    found = []
    for state in states:
        network = ResMTNet(config.network)
        network.load_state_dict(state)
        found.append(network.to(device).eval().requires_grad_(False))
    return tuple(found)


def split_members(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ...]:
    """Return the state of each member from names such as "1.stem.0.weight"; halves become floats.

    >>> split_members({"0.a": torch.zeros(1), "1.a": torch.ones(1)})
    ({'a': tensor([0.])}, {'a': tensor([1.])})
    """
    members: dict[int, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        number, _, own = name.partition(".")
        members.setdefault(int(number), {})[own] = (
            tensor.float() if tensor.dtype == STORED else tensor
        )
    return tuple(members[number] for number in sorted(members))


def join_members(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of all members under numbered names, floats as halves.

    Raises:
        ModelError: no members, or a value that a half cannot hold.
    """
    if not members:
        raise ModelError("a model without members cannot be written; give at least one")
    joined = {
        f"{number}.{name}": tensor.to(
            "cpu",
            STORED if tensor.is_floating_point() else tensor.dtype,
            copy=True,
            memory_format=torch.contiguous_format,
        )
        for number, state in enumerate(members)
        for name, tensor in state.items()
    }
    for name, tensor in joined.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{name} holds a value that is not finite in {STORED}: train anew")
    return joined


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file: numbers only, nothing that could run."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error})") from error
    return tensors
