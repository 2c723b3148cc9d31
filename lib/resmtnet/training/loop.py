"""The training loop of one network, with averaged weights and checkpoints."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resmtnet.config import TrainingConfig, to_dict
from resmtnet.data.dataset import Batch, TrainingSet
from resmtnet.errors import ConfigError
from resmtnet.files import atomic_file
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.training.distributed import is_first, mean_over_processes, spread, world_size
from resmtnet.training.objective import Objective

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CHECKPOINT = "checkpoint.pt"
WATCHED = "stopping_loss"


@dataclass(frozen=True)
class TrainingProgress:
    """Progress after a step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    """Of this step."""


class Trainer:
    """Trains one network; a resumed run gives the same weights as one that was not stopped."""

    def __init__(
        self,
        data: TrainingSet,
        config: TrainingConfig,
        out: Path,
        device: str = "cpu",
        watched: TrainingSet | None = None,
    ) -> None:
        """See run.

        Args:
            data: nodules to train on.
            config: of the experiment.
            out: folder of the checkpoint, the history and the TensorBoard log.
            device: of the network; that of the data.
            watched: nodules of other patients, on whose loss the training may stop early.
        """
        torch.manual_seed(config.seed)
        self.data, self.config, self.out, self.device = data, config, out, device
        self.watched = watched
        self.network = ResMTNet(config.network).to(device)
        self.averaged = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.best = self.averaged
        self._objective = Objective(self.network, config.loss).to(device)
        self.optimizer = torch.optim.AdamW(_groups(self._objective, config), lr=0.0)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.objective = spread(self._objective, device)
        self.epoch, self.mask_epoch = 0, 0
        self.history: list[dict[str, float]] = []
        self.began_with = ""

    @property
    def heads_ended(self) -> bool:
        """Whether all epochs are done, or the watched loss has not fallen for `patience` epochs."""
        losses = [row[WATCHED] for row in self.history if WATCHED in row]
        waited = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        tired = bool(self.config.patience) and waited >= self.config.patience
        return tired or self.epoch >= self.config.epochs

    @property
    def ended(self) -> bool:
        """Whether the epochs that train the mask decoder alone are done as well."""
        mask_epochs = self.config.mask_epochs if self.config.network.mask else 0
        return self.heads_ended and self.mask_epoch >= mask_epochs

    def run(
        self, tell: Callable[[TrainingProgress], None] = lambda progress: None
    ) -> dict[str, Tensor]:
        """Train the remaining epochs, with a checkpoint after each.

        Args:
            tell: called after every step.

        Returns:
            The averaged weights; with watched nodules, those of the epoch of least watched loss.
        """
        board = self._board()
        while not self.heads_ended:
            row = self._epoch(tell, self.data.epoch(self.generator), self.epoch, self.config.epochs)
            self.epoch += 1
            self._end_epoch(row, board)
        while not self.ended:
            self._freeze_all_but_the_mask()
            batches = self.data.mask_epoch(self.generator)
            row = self._epoch(tell, batches, self.mask_epoch, self.config.mask_epochs)
            self.mask_epoch += 1
            self._end_epoch(row, board)
        if board:
            board.close()
        return self._chosen

    @property
    def _chosen(self) -> dict[str, Tensor]:
        return self.averaged if self.watched is None or self.mask_epoch else self.best

    def _end_epoch(self, row: dict[str, float], board: SummaryWriter | None) -> None:
        if self.watched is not None and not self.mask_epoch:
            row[WATCHED] = self._watched_loss(self.watched)
            past = [other[WATCHED] for other in self.history]
            if row[WATCHED] < min(past, default=math.inf):
                self.best = {name: value.clone() for name, value in self.averaged.items()}
        self.history.append(row)
        if is_first():
            self._save()
            _log(board, row)

    def _freeze_all_but_the_mask(self) -> None:
        if self.mask_epoch == 0:  # from here on only the decoder trains, over the averaged weights
            self.averaged = {name: value.clone() for name, value in self._chosen.items()}
            self.network.load_state_dict(self.averaged)
        self.network.requires_grad_(False).eval()
        self.network.decoder.requires_grad_(True).train()
        self.objective = spread(self._objective, self.device)

    def begin_with(self, weights: Mapping[str, Tensor], name: str) -> None:
        """Start with these weights instead of random ones, before the first step.

        Args:
            weights: of a network of the same shape.
            name: of them, by which a resumed run knows that it began with the same.
        """
        self.network.load_state_dict(weights)
        self.averaged = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.best, self.began_with = self.averaged, name

    def resume(self) -> bool:
        """Continue from the checkpoint in `out`, if there is one.

        Raises:
            ConfigError: the checkpoint was made with another configuration, or other weights to
                begin with.
        """
        path = self.out / CHECKPOINT
        if not path.is_file():
            return False
        state = torch.load(path, weights_only=True, map_location=self.device)
        if state["config"] != to_dict(self.config):
            raise ConfigError(f"{path} was made with another configuration; choose another --out")
        if state.get("began_with", self.began_with) != self.began_with:
            raise ConfigError(
                f"{path} began with other weights; give the same --start-from, or another --out"
            )
        self.network.load_state_dict(state["network"])
        self.averaged, self.best = state["averaged"], state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self._objective.log_variance.load_state_dict(state["log_variance"])
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["torch_rng"].cpu())
        self.epoch, self.mask_epoch = state["epoch"], state["mask_epoch"]
        self.history = state["history"]
        return True

    def _save(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "config": to_dict(self.config),
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "log_variance": self._objective.log_variance.state_dict(),
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "epoch": self.epoch,
            "mask_epoch": self.mask_epoch,
            "history": self.history,
            "began_with": self.began_with,
        }
        with atomic_file(self.out / CHECKPOINT) as draft:
            torch.save(state, draft)
        with (self.out / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.history[0]), restval="")
            writer.writeheader()
            writer.writerows(self.history)

    def _board(self) -> SummaryWriter | None:
        if not is_first():
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.out / "tensorboard"), purge_step=self.epoch)

    def _epoch(
        self,
        tell: Callable[[TrainingProgress], None],
        batches: Iterable[Batch],
        epoch: int,
        epochs: int,
    ) -> dict[str, float]:
        if not self.heads_ended:
            self._train_mode()
        started, sums, steps = time.monotonic(), dict[str, float](), self.data.steps
        for step, batch in enumerate(batches):
            terms = self.step(batch, epoch * steps + step, epochs * steps)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value / steps
            tell(TrainingProgress(epoch, epochs, step, steps, sum(terms.values())))
        sums = mean_over_processes(sums, self.device)
        row: dict[str, float] = {"epoch": len(self.history)}
        return row | {"seconds": time.monotonic() - started, "loss": sum(sums.values())} | sums

    def _train_mode(self) -> None:
        self.network.train()
        if self.config.freeze_norms:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def step(self, batch: Batch, step: int, steps: int) -> dict[str, float]:
        """Take one step; return the terms of its loss over the rows of all processes.

        Args:
            batch: this process's rows.
            step: number of steps before; sets the learning rate.
            steps: number of steps in all.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, self.config)
        with _precision(self.device, self.config):
            terms = self.objective(batch)
        # DistributedDataParallel averages gradients, but these losses are parts of one mean
        loss = torch.stack(list(terms.values())).sum() * world_size()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self._average(step)
        return {name: float(value.detach()) * world_size() for name, value in terms.items()}

    def _average(self, step: int) -> None:
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.dtype.is_floating_point:
                    self.averaged[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def _watched_loss(self, watched: TrainingSet) -> float:
        network = ResMTNet(self.config.network).to(self.device)
        network.load_state_dict(self.averaged)
        objective = Objective(network.eval(), self.config.loss)
        total, count = 0.0, 0
        for batch in watched.plain():
            total += sum(float(term) for term in objective(batch).values()) * batch.total
            count += batch.total
        return mean_over_processes({WATCHED: total / count}, self.device)[WATCHED] * world_size()


def _log(board: SummaryWriter | None, row: Mapping[str, float]) -> None:
    if board:
        for name, value in row.items():
            board.add_scalar(name, value, int(row["epoch"]))
        board.flush()


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step: a linear rise, then a cosine to 0.

    >>> round(learning_rate(100, 200, TrainingConfig(warm_up=0.5)), 6)
    0.00099
    """
    rise = min(1.0, step / (config.warm_up * steps + 1))
    return config.learning_rate * rise * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _precision(device: str, config: TrainingConfig) -> torch.autocast:
    """Return the context in which a step computes: bfloat16 where the configuration allows it."""
    if device.startswith("cuda"):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    fast = config.bfloat16_on_cpu and cpu_has_bfloat16()
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast)


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware; emulated, it is slower."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def _groups(objective: Objective, config: TrainingConfig) -> list[dict[str, Any]]:
    matrices = [p for p in objective.parameters() if p.dim() > 1]
    vectors = [p for p in objective.parameters() if p.dim() <= 1]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
