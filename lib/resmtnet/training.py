"""The training loop: one configuration and one archive in, averaged weights and their log out."""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resmtnet.config import TrainingConfig, to_dict
from resmtnet.data.dataset import Batch, TrainingSet
from resmtnet.errors import ConfigError
from resmtnet.network.losses import joint_loss, mask_loss
from resmtnet.network.resmtnet import ResMTNet

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Progress:
    """Told after every step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    """Of this step."""


class Trainer:
    """Trains one network; its checkpoint holds all that a resumed run needs to go on alike."""

    def __init__(
        self, data: TrainingSet, config: TrainingConfig, out: Path, device: str = "cpu"
    ) -> None:
        torch.manual_seed(config.seed)
        self.data, self.config, self.out, self.device = data, config, out, device
        self.network = ResMTNet(config.network).to(device)
        self.averaged = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(_groups(self.network, config), lr=0.0)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def run(self, tell: Callable[[Progress], None] = lambda progress: None) -> dict[str, Tensor]:
        """Train the epochs that are left, with a checkpoint after each.

        Args:
            tell: called after every step.

        Returns:
            The averaged weights.
        """
        while self.epoch < self.config.epochs:
            self.history.append(self._epoch(tell))
            self.epoch += 1
            self._save()
        return self.averaged

    def resume(self) -> bool:
        """Go on from the checkpoint in `out`, if there is one.

        Raises:
            ConfigError: the checkpoint was made with another configuration.
        """
        path = self.out / CHECKPOINT
        if not path.is_file():
            return False
        state = torch.load(path, weights_only=True, map_location=self.device)
        if state["config"] != to_dict(self.config):
            raise ConfigError(f"{path} was made with another configuration; choose another --out")
        self.network.load_state_dict(state["network"])
        self.averaged = state["averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["torch_rng"].cpu())
        self.epoch, self.history = state["epoch"], state["history"]
        return True

    def _save(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "config": to_dict(self.config),
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "epoch": self.epoch,
            "history": self.history,
        }
        draft = self.out / f"{CHECKPOINT}.partial"
        torch.save(state, draft)
        os.replace(draft, self.out / CHECKPOINT)
        with (self.out / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.history[0]))
            writer.writeheader()
            writer.writerows(self.history)

    def _epoch(self, tell: Callable[[Progress], None]) -> dict[str, float]:
        self.network.train()
        started, sums = time.monotonic(), dict[str, float]()
        for step, batch in enumerate(self.data.epoch(self.generator)):
            terms = self._step(batch, self.epoch * self.data.steps + step)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value / self.data.steps
            tell(
                Progress(self.epoch, self.config.epochs, step, self.data.steps, sum(terms.values()))
            )
        row: dict[str, float] = {"epoch": self.epoch, "seconds": time.monotonic() - started}
        return row | {"loss": sum(sums.values())} | sums

    def _step(self, batch: Batch, step: int) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.config, self.data.steps)
        batch = Batch(
            batch.slices.to(self.device),
            {name: value.to(self.device) for name, value in batch.targets.items()},
            batch.extra.to(self.device),
            batch.extra_mask.to(self.device),
        )
        cuda = self.device.startswith("cuda")
        with torch.autocast("cuda" if cuda else "cpu", dtype=torch.bfloat16, enabled=cuda):
            terms = self._terms(batch)
        loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self._average(step)
        return {name: float(value.detach()) for name, value in terms.items()}

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        count = batch.slices.shape[0]
        levels = batch.extra.shape[1]
        network = self.network
        if not len(batch.extra):
            return joint_loss(
                network(network.encode(batch.slices), count), batch.targets, self.config.loss
            )
        if network.config.spatial_dims == 2:  # one pass, so that both share the norm's statistics
            both = torch.cat([batch.slices.flatten(0, 1), batch.extra.flatten(0, 1)])[:, None]
            heads, extra = network.split(network.encode(both), count * batch.slices.shape[1])
        else:
            heads, extra = network.encode(batch.slices), network.encode(batch.extra)
        terms = joint_loss(network(heads, count), batch.targets, self.config.loss)
        logits = network.masks(extra, levels, inner=1).float()
        terms["mask"] = self.config.loss.mask_weight * mask_loss(logits, batch.extra_mask)
        return terms

    def _average(self, step: int) -> None:
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.dtype.is_floating_point:
                    self.averaged[name].lerp_(value, 1 - decay)


def learning_rate(step: int, config: TrainingConfig, steps_per_epoch: int) -> float:
    """Linear rise, then a cosine to 0.

    >>> round(learning_rate(100, TrainingConfig(epochs=2, warm_up=0.5), 100), 4)
    0.001
    """
    total = config.epochs * steps_per_epoch
    rise = min(1.0, step / (config.warm_up * total + 1))
    return config.learning_rate * rise * (0.5 + 0.5 * math.cos(math.pi * step / total))


def _groups(network: ResMTNet, config: TrainingConfig) -> list[dict[str, Any]]:
    matrices = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() <= 1]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
