"""The network and its joint loss as one module, which a training step minimises."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from resmtnet.characteristics import MALIGNANCY, SIZES
from resmtnet.config import LossConfig
from resmtnet.data.dataset import Batch
from resmtnet.network.losses import joint_loss, mask_loss
from resmtnet.network.resmtnet import Features, ResMTNet, head_tasks


class Objective(nn.Module):
    """Network and loss as one module, so that DistributedDataParallel can wrap both."""

    def __init__(self, network: ResMTNet, config: LossConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.log_variance = nn.ParameterDict()
        if config.balance == "uncertainty":
            for name in term_names(network):
                self.log_variance[name] = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of the loss by name, as shares of the whole step's.

        A batch without slices for the heads trains the mask decoder alone.
        """
        if not len(batch.slices):
            return self._mask_alone(batch)
        terms = self._terms(batch)
        if not self.log_variance:
            return terms
        share = batch.slices.shape[0] / batch.total
        return {
            name: (-self.log_variance[name]).exp() * term + share * self.log_variance[name]
            for name, term in terms.items()
        }

    def _terms(self, batch: Batch) -> dict[str, Tensor]:
        count, levels = batch.slices.shape[:2]
        network = self.network
        if network.config.spatial_dims == 3 or not network.config.mask:
            output = network(network.encode(batch.slices), count)
            return joint_loss(output, batch.targets, self.config, batch.total)
        # one pass, so that both parts share the statistics of the norms
        both = torch.cat([batch.slices.flatten(0, 1), batch.extra.flatten(0, 1)])[:, None]
        heads, extra = network.split(network.encode(both), count * levels)
        terms = joint_loss(network(heads, count), batch.targets, self.config, batch.total)
        parts = [_MaskPart(heads, levels, batch.slices_mask, batch.targets["mask_weight"])]
        if len(batch.extra):
            whole = torch.ones(len(batch.extra), device=batch.extra.device)
            parts.append(_MaskPart(extra, batch.extra.shape[1], batch.extra_mask, whole))
        loss = torch.stack([self._mask(part) for part in parts]).sum()
        terms["mask"] = self.config.mask_weight * loss / (batch.total * len(parts))
        return terms

    def _mask_alone(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            features = self.network.encode(batch.extra)
        whole = torch.ones(len(batch.extra), device=batch.extra.device)
        part = _MaskPart(features, batch.extra.shape[1], batch.extra_mask, whole)
        return {"mask": self.config.mask_weight * self._mask(part) / batch.total}

    def _mask(self, part: _MaskPart) -> Tensor:
        """Return the sum over nodules of the mean over their levels."""
        logits = self.network.masks(part.features, part.levels, inner=1).float()
        return (mask_loss(logits, part.share).mean(1) * part.weight).sum()


def term_names(network: ResMTNet) -> list[str]:
    """Return the names of the terms that the joint loss of a network has."""
    tasks = [task for branch in network.names for task in head_tasks(branch, network.config)]
    names = [task.name for task in tasks]
    names += [f"{task.name}_spread" for task in tasks if task in SIZES]
    names += ["score"] * (MALIGNANCY in tasks)
    return names + ["mask"] * network.config.mask


class _MaskPart(NamedTuple):
    features: Features
    levels: int
    share: Tensor
    weight: Tensor
    """[B], 0 for nodules without a reader's outline."""
