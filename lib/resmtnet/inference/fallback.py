"""Where a network runs: on its device, and on the CPU while a GPU has no memory left."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TypeVar

import torch

from resmtnet.network.resmtnet import ResMTNet

logger = logging.getLogger(__name__)
T = TypeVar("T")

CPU = "cpu"
AGAIN_S = 60.0
"""How long the CPU answers after a GPU had no memory left; a training may need it for longer."""
TOLD = "the GPU had no memory left: the CPU answered, which takes longer and says the same"
_OUT_OF_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


class Place:
    """Members of an ensemble on a device, with a copy on the CPU once that is needed."""

    def __init__(self, members: Sequence[ResMTNet], device: str) -> None:
        """Take members that are on the device already."""
        self.members, self.device = tuple(members), device
        self._on_cpu: tuple[ResMTNet, ...] | None = None
        self._until_s = 0.0
        self._lock = Lock()

    @property
    def is_replaced(self) -> bool:
        """Whether the CPU answers instead of the device now."""
        return time.monotonic() < self._until_s

    def run(self, work: Callable[[Sequence[ResMTNet], str], T]) -> T:
        """Do some work on the device; on the CPU if the device has no memory left.

        Args:
            work: takes the members and the device that they are on.
        """
        if self.device == CPU:
            return work(self.members, CPU)
        if not self.is_replaced:
            try:
                return work(self.members, self.device)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
            # Outside of the handler, which would keep the tensors of the failed work alive.
            self._replace()
        return work(self._copies(), CPU)

    def _replace(self) -> None:
        self._until_s = time.monotonic() + AGAIN_S
        logger.warning(
            "%s has no memory left; the CPU answers for %.0f s, then it is tried again",
            self.device,
            AGAIN_S,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _copies(self) -> tuple[ResMTNet, ...]:
        with self._lock:
            if self._on_cpu is None:
                # One after the other, to the CPU: a copy on the device would need its memory.
                self._on_cpu = tuple(_copy_on_cpu(member) for member in self.members)
            return self._on_cpu


def _copy_on_cpu(member: ResMTNet) -> ResMTNet:
    memo = {id(t): t.detach().to(CPU, copy=True) for t in (*member.parameters(), *member.buffers())}
    for parameter in member.parameters():
        memo[id(parameter)] = torch.nn.Parameter(memo[id(parameter)], requires_grad=False)
    return copy.deepcopy(member, memo)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(
        text in str(error) for text in _OUT_OF_MEMORY
    )
