"""Training of one network in several processes, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import distributed as dist
from torch import nn


@contextmanager
def processes(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; give this process's device.

    Args:
        device: "cpu" (gloo) or "cuda" (nccl, one GPU a process).
    """
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield device
        return
    cuda = device.startswith("cuda")
    if cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
        dist.barrier()  # one that leaves early would break off what the others still exchange
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this is."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Return whether this process writes files and talks."""
    return rank() == 0


def spread(module: nn.Module, device: str) -> nn.Module:
    """Wrap a module so that its gradients are averaged over the processes."""
    if world_size() == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(module, [device] if device.startswith("cuda") else None)


def mean_over_processes(values: Mapping[str, float], device: str) -> dict[str, float]:
    """Return the means of numbers over all processes, which give the same names."""
    if world_size() == 1:
        return dict(values)
    packed = torch.tensor([values[name] for name in sorted(values)], device=device)
    dist.all_reduce(packed)
    return dict(zip(sorted(values), (packed / world_size()).tolist(), strict=True))
