"""What MONAI Label's own way to train costs: BasicTrainTask on images, all weights.

Used by retraining_time.py, so that both ways are timed in one run.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.metrics import Accuracy
from monai.inferers import SimpleInferer
from monailabel.tasks.train.basic_train import BasicTrainTask, Context
from torch import Tensor, nn

from resmtnet.characteristics import MALIGNANCY
from resmtnet.config import TrainingConfig
from resmtnet.network.resmtnet import ResMTNet


class Rated(nn.Module):
    """The network as MONAI's engines call it: slices [B, S, H, W] to logits of the rating."""

    def __init__(self, network: ResMTNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: Tensor) -> Tensor:
        told = self.network(self.network.encode(slices), len(slices)).tasks[MALIGNANCY.name]
        assert isinstance(told, Tensor)
        return told


class StockTask(BasicTrainTask):  # type: ignore[misc]
    """MONAI Label's trainer with its defaults; images are in memory, which costs it nothing."""

    def __init__(self, folder: Path, network: ResMTNet) -> None:
        super().__init__(str(folder), amp=False)
        self._rated = Rated(copy.deepcopy(network).train().requires_grad_(True))

    def network(self, context: Context) -> nn.Module:
        return self._rated

    def optimizer(self, context: Context) -> torch.optim.Optimizer:
        return torch.optim.Adam(context.network.parameters(), lr=1e-4)

    def loss_function(self, context: Context) -> nn.Module:
        return nn.CrossEntropyLoss()

    def train_pre_transforms(self, context: Context) -> list[Any]:
        return []

    def train_post_transforms(self, context: Context) -> None:
        return None

    def train_key_metric(self, context: Context) -> dict[str, Accuracy]:
        return {self.TRAIN_METRIC_ACCURACY: Accuracy(output_transform=_stacked)}

    def val_key_metric(self, context: Context) -> dict[str, Accuracy]:
        return {self.VAL_METRIC_ACCURACY: Accuracy(output_transform=_stacked)}

    def val_inferer(self, context: Context) -> SimpleInferer:
        return SimpleInferer()


def _stacked(output: Sequence[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    label = torch.tensor([int(one["label"]) for one in output])  # MONAI unpacks a single number
    return torch.stack([one["pred"] for one in output]), label


class Nodules:
    """A datastore of patches as large as the network's, in memory."""

    def __init__(self, count: int, config: TrainingConfig) -> None:
        patch = config.patch
        shape = len(patch.offsets_mm), patch.size_px, patch.size_px
        generator = torch.Generator().manual_seed(0)
        levels = len(MALIGNANCY.levels)
        self.items = [
            {
                "image": torch.rand(shape, generator=generator),
                "label": torch.tensor(n % levels),
            }
            for n in range(count)
        ]

    def datalist(self) -> list[dict[str, Tensor]]:
        return self.items


def epoch_cpu_s(folder: Path, network: ResMTNet, config: TrainingConfig, nodules: int) -> float:
    """CPU time of one epoch over so many nodules, a fifth of them for validation."""
    logging.disable(logging.WARNING)
    took = []
    for epochs in (1, 2):
        task = StockTask(folder / f"epochs-{epochs}", network)
        started = time.process_time()
        request = {"device": "cpu", "max_epochs": epochs, "dataset": "CacheDataset"}
        task(request | {"dataloader": "DataLoader", "tracking": "None"}, Nodules(nodules, config))
        took.append(time.process_time() - started)
    return took[1] - took[0]


def stock_epochs(folder: Path, network: ResMTNet) -> int:
    """How many epochs MONAI Label trains by default."""
    return int(StockTask(folder, network).config()["max_epochs"])
