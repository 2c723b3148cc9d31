"""Networks that another run trained: members as they are, or weights to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resmtnet.config import TrainingConfig, from_dict
from resmtnet.errors import ConfigError, InputError

Weights = dict[str, Tensor]


def read_member(checkpoint: Path, config: TrainingConfig) -> Weights:
    """Read the averaged weights of a network that another run trained to its end.

    Args:
        checkpoint: that the run left.
        config: of the model that the network becomes a member of.

    Raises:
        ConfigError: the network is of another shape, has not ended its training, or trained on
            folds that the model keeps apart.
        InputError: no such file.
    """
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: no such checkpoint; give the checkpoint.pt of a member")
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    theirs = from_dict(TrainingConfig, state["config"])
    for name in ("network", "patch", "splits"):
        if getattr(theirs, name) != getattr(config, name):
            raise ConfigError(
                f"{checkpoint}: its {name} is {getattr(theirs, name)}, that of this model "
                f"{getattr(config, name)}; members must have the same"
            )
    if state["epoch"] < theirs.epochs and not theirs.patience:
        raise ConfigError(
            f"{checkpoint}: {state['epoch']} of {theirs.epochs} epochs are done; end its training "
            "first, with --resume"
        )
    apart = {*config.calibration_folds, *config.reference_folds}
    trained = apart - {*theirs.calibration_folds, *theirs.reference_folds}
    if trained:
        raise ConfigError(
            f"{checkpoint}: trained on folds {sorted(trained)}, which this model keeps for "
            "calibration and comparison; choose other folds, or another network"
        )
    averaged: Weights = state["averaged"]
    return averaged


def starting_weights(checkpoints: Sequence[Path], config: TrainingConfig) -> list[Weights]:
    """Return the weights of the networks that trained on none of the folds kept apart.

    Training that begins with them and has more patients than theirs had goes on where they ended,
    with a new cycle of the learning rate. Members take them in turn.

    Args:
        checkpoints: of networks of the same shape, each trained to its end; see read_member.
        config: of the training that begins.

    Raises:
        ConfigError: every one trained on such folds, or is of another shape.
    """
    fitting, refused = [], []
    for checkpoint in checkpoints:
        try:
            fitting.append(read_member(checkpoint, config))
        except ConfigError as error:
            refused.append(str(error))
    if not fitting:
        raise ConfigError("no network to start from fits: " + "; ".join(refused))
    return fitting


def about(checkpoint: Path) -> dict[str, Any]:
    """Return how long a network trained, with which seed, and which folds it did not see."""
    config = torch.load(checkpoint, weights_only=True, map_location="cpu")["config"]
    apart = sorted({*config["calibration_folds"], *config["reference_folds"]})
    return {"epochs": config["epochs"], "seed": config["seed"], "folds_apart": apart}
