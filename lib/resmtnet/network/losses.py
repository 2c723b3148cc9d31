"""The joint loss of all tasks; a missing target adds nothing to it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from resmtnet.characteristics import MALIGNANCY, NODULE, SIZES, TASKS, Task
from resmtnet.config import LossConfig
from resmtnet.network.resmtnet import Output

SIZE_UNIT = 0.25
"""A difference of log size that counts as one: 25%."""
DICE_SMOOTHING = 10.0
MASK_ENTROPY_SCALE = 10.0

Targets = Mapping[str, Tensor]
"""Per task [B, levels] shares of readers, or [B] log size and "<task>_variance" [B] of it between
readers; per "<task>_weight" [B], 0 = missing."""


def joint_loss(
    output: Output, targets: Targets, config: LossConfig, count: int
) -> dict[str, Tensor]:
    """Return the weighted terms of the heads' loss, by name; their sum is the loss.

    Args:
        output: of the network's heads.
        targets: see Targets.
        config: weight of each term.
        count: nodules of the whole step, which other processes may share.
    """
    terms: dict[str, Tensor] = {}
    for task in (*TASKS, NODULE):
        if task.name not in output.tasks:
            continue
        predicted, target = output.tasks[task.name].float(), targets[task.name]
        weight = targets[f"{task.name}_weight"]
        if task in SIZES:
            error, spread = size_terms(predicted, target, targets[f"{task.name}_variance"])
            terms[task.name] = config.size_weight * masked_mean(error, weight, count)
            terms[f"{task.name}_spread"] = config.size_spread_weight * masked_mean(
                spread, weight, count
            )
        else:
            entropy = -(target * F.log_softmax(predicted, 1)).sum(1)
            terms[task.name] = _weight_of(task, config) * masked_mean(entropy, weight, count)
        if task is MALIGNANCY:
            error = F.smooth_l1_loss(
                mean_level(predicted), mean_of(target), reduction="none", beta=0.5
            )
            terms["score"] = config.score_weight * masked_mean(error, weight, count)
    return terms


def _weight_of(task: Task, config: LossConfig) -> float:
    named = {
        "class": config.class_weight,
        "texture_class": config.texture_class_weight,
        "malignancy": config.malignancy_weight,
        "nodule": config.nodule_weight,
    }
    return named.get(task.name, config.rating_weight)


def masked_mean(values: Tensor, weight: Tensor, count: int) -> Tensor:
    """Weighted sum of values [B] over the nodules of the whole step; missing ones have weight 0.

    >>> masked_mean(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 0.0]), 2).item()
    0.5
    """
    return (values.nan_to_num() * weight).sum() / count


def mean_level(logits: Tensor) -> Tensor:
    """Mean level, counted from 1, of the softmax of logits [B, levels]."""
    return mean_of(logits.softmax(1))


def mean_of(shares: Tensor) -> Tensor:
    """Mean level, counted from 1, of shares [B, levels].

    >>> mean_of(torch.tensor([[0.0, 0.0, 0.0, 0.25, 0.75]])).item()
    4.75
    """
    return shares @ torch.arange(1, shares.shape[1] + 1, dtype=shares.dtype, device=shares.device)


def size_terms(predicted: Tensor, log_size: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Huber error of a log size [B] and the negative log-likelihood of its sigma.

    Args:
        predicted: [B, 2], log size and log sigma.
        log_size: [B] target, the readers' mean.
        variance: [B] of the log size between readers: sigma is that of one more reader.

    The likelihood does not move the mean: a sigma that grows cannot excuse a wrong size.
    """
    mean, log_sigma = predicted[:, 0], predicted[:, 1].clamp(-5, 2)
    error = F.smooth_l1_loss(mean / SIZE_UNIT, log_size / SIZE_UNIT, reduction="none")
    squared = (log_size - mean.detach()) ** 2 + variance
    return error, log_sigma + squared / (2 * (2 * log_sigma).exp())


def mask_loss(logits: Tensor, share: Tensor) -> Tensor:
    """Cross entropy plus squared soft Dice of each slice.

    Args:
        logits: [B, L, H, W].
        share: [B, L, H, W] share of readers that call the pixel nodule, 0..1.

    Returns:
        [B, L]
    """
    entropy = F.binary_cross_entropy_with_logits(logits, share, reduction="none").mean((-2, -1))
    probability = logits.sigmoid()
    overlap = 2 * (probability * share).sum((-2, -1)) + DICE_SMOOTHING
    total = (probability**2).sum((-2, -1)) + (share**2).sum((-2, -1)) + DICE_SMOOTHING
    return MASK_ENTROPY_SCALE * entropy + 1 - overlap / total
