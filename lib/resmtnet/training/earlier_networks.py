"""Networks that another run trained: members as they are, or weights to begin with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resmtnet.config import TrainingConfig, from_dict
from resmtnet.errors import ConfigError, InputError

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class EarlierNetwork:
    """A network that was trained to its end."""

    weights: Weights
    """The averaged ones, on the CPU."""
    sha256: str
    """Of its checkpoint."""
    config: TrainingConfig

    @property
    def folds_apart(self) -> set[int]:
        """Folds on which it did not train."""
        return _apart(self.config)

    def about(self) -> dict[str, Any]:
        """Return what the manifest of a model says of it."""
        return {
            "sha256": self.sha256,
            "epochs": self.config.epochs,
            "seed": self.config.seed,
            "folds_apart": sorted(self.folds_apart),
        }


def read_network(checkpoint: Path, config: TrainingConfig) -> EarlierNetwork:
    """Read a network of the same shape that another run trained to its end.

    Args:
        checkpoint: that the run left.
        config: of the model or training in which the network takes part.

    Raises:
        ConfigError: the network is of another shape, or has not ended its training.
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
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    return EarlierNetwork(state["averaged"], sha256, theirs)


def read_member(checkpoint: Path, config: TrainingConfig) -> Weights:
    """Read the weights of a network that is a member of a model as it is.

    Args:
        checkpoint: that its run left.
        config: of the model.

    Raises:
        ConfigError: see read_network; or it trained on folds that the model keeps apart.
        InputError: no such file.
    """
    network = read_network(checkpoint, config)
    trained = _apart(config) - network.folds_apart
    if trained:
        raise ConfigError(f"{checkpoint}: {_saw(trained)}; choose other folds, or another network")
    return network.weights


def starting_networks(checkpoints: Sequence[Path], config: TrainingConfig) -> list[EarlierNetwork]:
    """Return the networks that trained on none of the folds kept apart; none where none is given.

    Training that begins with them and has more patients than theirs had goes on where they ended,
    with a new cycle of the learning rate.

    Args:
        checkpoints: that their runs left.
        config: of the training that begins.

    Raises:
        ConfigError: see read_network; or every one trained on such folds.
        InputError: no such file.
    """
    read = [read_network(checkpoint, config) for checkpoint in checkpoints]
    fitting = [network for network in read if _apart(config) <= network.folds_apart]
    if read and not fitting:
        told = (_saw(_apart(config) - network.folds_apart) for network in read)
        raise ConfigError(f"no network to start from fits: {'; '.join(told)}")
    return fitting


def _apart(config: TrainingConfig) -> set[int]:
    return {*config.calibration_folds, *config.reference_folds, *config.stopping_folds}


def _saw(folds: set[int]) -> str:
    return (
        f"trained on folds {sorted(folds)}, which this model keeps for calibration and comparison"
    )
