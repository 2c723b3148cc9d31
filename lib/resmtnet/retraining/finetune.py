"""Fine-tunes a served model on the readings of a site.

depth "heads" trains the output layers alone, on stored embeddings: those of the site's nodules and,
as replay, those of the training nodules that came with the model. It takes seconds and no image.
depth "full" trains everything, from the served weights, and needs the images: finetune_full.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from resmtnet.errors import ConfigError, InputError
from resmtnet.inference.member_states import STORED
from resmtnet.inference.model_folder import Model
from resmtnet.retraining.backbone import Backbone, backbone_of_parent
from resmtnet.retraining.finetune_full import Images, look_again, train_all
from resmtnet.retraining.fit_heads import Data, replayed, train_members
from resmtnet.retraining.linear_heads import LinearHeads, weights_of
from resmtnet.retraining.samples import Sample, targets_of_samples
from resmtnet.retraining.site_calibration import offsets_of
from resmtnet.types import Progress

Depth = Literal["heads", "full"]
DEPTHS: tuple[Depth, ...] = ("heads", "full")


@dataclass(frozen=True)
class FineTuneConfig:
    """How readings change a model; the defaults are what a server uses."""

    depth: Depth = "heads"
    """heads: the output layers, takes seconds; full: everything, needs images."""
    epochs: int = 40
    """Steps over all stored numbers at once, or passes over the images (full)."""
    learning_rate: float = 2e-4
    """Peak of the cosine schedule (full); depth heads needs none."""
    replay_share: float = 0.5
    """Weight of the replayed training nodules in the loss, 0 to below 1; the rest is the site's."""
    l2: float = 300.0
    """Pull towards the anchor's weights, divided by the number of site nodules: few readings move
    little."""
    doubt: float = 1.5
    """Standard errors by which a habit of the site's readers must differ from none to count."""
    seed: int = 0
    """Of order and augmentation (full); depth heads involves no chance."""

    def __post_init__(self) -> None:
        if self.depth not in DEPTHS:
            raise ConfigError(f"depth is {self.depth!r}; allowed are {', '.join(DEPTHS)}")
        for name in ("epochs", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; above 0 is needed")
        for name in ("l2", "doubt"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; 0 or more is needed")
        if not 0 <= self.replay_share < 1:
            raise ConfigError(f"replay_share is {self.replay_share}; allowed is 0 to below 1")


@dataclass(frozen=True, eq=False)
class TrainedWeights:
    """Fine-tuned weights, not yet calibrated."""

    states: Sequence[dict[str, Tensor]]
    """Of each member, as state_dict gives them."""
    backbone: Backbone
    parent: Model
    samples: tuple[Sample, ...]
    """What they were trained on."""
    config: FineTuneConfig
    unchanged: bool = False
    """They are the parent's: the samples only show the readers' habit."""


def fine_tune(
    model: Model,
    samples: Sequence[Sample],
    config: FineTuneConfig = FineTuneConfig(),
    *,
    anchor: Model | None = None,
    images: Images | None = None,
    tell: Progress = lambda done, of: None,
) -> TrainedWeights:
    """Train the served model further on a site's samples.

    Args:
        model: the served version, with its replay set.
        samples: to train on, without those of held-out patients (samples.split_by_patient).
        config: how.
        anchor: version to whose weights the new ones are held close; the shipped one keeps many
            small trainings from adding up. `model` itself by default, and where the anchor has
            another feature extractor.
        images: training archive and the site's crops, for depth "full".
        tell: called with steps done and steps in all; to stop the training, raise an exception.

    Raises:
        InputError: no samples, or a depth that needs what is not there.
        ModelError: the model carries no replay set.
    """
    if not samples:
        raise InputError(
            "no reading can train: correct nodules of patients who are not held out for the gate"
        )
    if config.depth == "heads":
        states = _train_heads(model, samples, config, anchor, tell)
        backbone = backbone_of_parent(model)
    elif images is None:
        raise InputError(
            "depth full trains on images: name the training archive (--conf archive=DIR of the "
            "server), or use depth heads"
        )
    else:
        states = [rounded(state) for state in _train_all(model, samples, config, images, tell)]
        backbone = look_again(model, states, images)
    return TrainedWeights(states, backbone, model, tuple(samples), config)


def keep_weights(
    model: Model, samples: Sequence[Sample], config: FineTuneConfig = FineTuneConfig()
) -> TrainedWeights:
    """Return the weights of the served model, for a recalibration alone; see candidate.recalibrate.

    Args:
        model: the served version.
        samples: which show the readers' habit.
        config: says how surely a habit must be shown.
    """
    states = [weights_of(network) for network in model.networks]
    return TrainedWeights(
        states, backbone_of_parent(model), model, tuple(samples), config, unchanged=True
    )


def _train_heads(
    model: Model,
    samples: Sequence[Sample],
    config: FineTuneConfig,
    anchor: Model | None,
    tell: Progress,
) -> list[dict[str, Tensor]]:
    """Train the output layers on stored embeddings."""
    if anchor is None or _trunk(anchor) != _trunk(model):
        anchor = model
    embeddings = np.array([s.held.observation.embeddings for s in samples])
    site = torch.from_numpy(embeddings), targets_of_samples(samples, model.config.subsolid_factor)
    replay = replayed(model)
    offsets = offsets_of(samples, LinearHeads.of(model.networks))
    return train_members(
        list(zip(model.networks, anchor.networks, strict=True)),
        Data.mixed(site, replay, config.replay_share, offsets),
        # the feature extractor has learnt the replayed nodules: their errors would make the
        # spread too small
        replace(model.config.loss, size_spread_weight=0.0),
        pull=config.l2 / len(samples),
        steps=config.epochs,
        tell=tell,
    )


def _train_all(
    model: Model,
    samples: Sequence[Sample],
    config: FineTuneConfig,
    images: Images,
    tell: Progress,
) -> list[dict[str, Tensor]]:
    """Train all weights on images."""
    training = replace(
        model.config,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        seed=config.seed,
        mask_epochs=0,
        freeze_norms=True,
    )
    return train_all(model, samples, images, training, config.replay_share, tell)


def _trunk(model: Model) -> str:
    return LinearHeads.of(model.networks).trunk


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as they will be read again: what is judged is what is stored."""
    return {k: v.to(STORED).float() if v.is_floating_point() else v for k, v in state.items()}
