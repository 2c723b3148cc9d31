"""From a site's readings and a served model to a candidate for the next version.

depth "heads" trains the output layers alone, over stored embeddings: those of the site's nodules,
and as replay those of the training nodules that came with the model. It takes seconds and no image.
depth "full" trains everything, from the served weights, and needs the images: finetune_full.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from resmtnet.config import TrainingConfig, to_dict
from resmtnet.errors import ConfigError, InputError
from resmtnet.findings import ModelInfo
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.member_states import STORED
from resmtnet.inference.model_folder import Model, write_model
from resmtnet.retraining.backbone import Backbone, backbone_of_parent
from resmtnet.retraining.finetune_full import Images, look_again, train_all
from resmtnet.retraining.fit_heads import Data, Stopped, replayed, train_members
from resmtnet.retraining.linear_heads import LinearHeads, move_biases
from resmtnet.retraining.samples import Sample, targets_of_samples
from resmtnet.retraining.site_calibration import recalibrated
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import (
    calibration_set_files,
    read_calibration_set,
    read_reference,
    reference_files,
)
from resmtnet.training.loop import TrainingProgress as Step

Depth = Literal["heads", "full"]
DEPTHS: tuple[Depth, ...] = ("heads", "full")


@dataclass(frozen=True)
class FineTuneConfig:
    """How a site's readings change a model; the defaults are what a server does unasked."""

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
class FineTuned:
    """What fine-tuning made: all that a version is, not yet written or judged."""

    states: tuple[dict[str, Tensor], ...]
    """Weights of each member, as state_dict gives them, rounded as they will be stored."""
    heads: LinearHeads
    calibration: Calibration
    config: TrainingConfig
    samples: tuple[Sample, ...]
    """What it was trained on."""
    provenance: Mapping[str, Any]
    """Parent, readings, configuration and figures, for the manifest."""
    parent: Model
    backbone: Backbone
    """What it sees of nodules that the parent has seen."""

    def write(self, folder: Path, version: str) -> ModelInfo:
        """Write a model folder, with what the next fine-tuning and its gate need.

        Args:
            folder: to make.
            version: of the model.
        """
        parent, calibration = self.parent.folder, self.calibration
        further = dict(self.backbone.files)
        further |= reference_files(self.answer_all(read_reference(parent)), calibration)
        kept = read_calibration_set(parent)
        if kept:
            further |= calibration_set_files(self.answer_all(kept))
        return write_model(
            folder, version, self.states, self.config, calibration, self.provenance, further
        )

    def answer_all(self, held: Sequence[CachedNodule]) -> list[CachedNodule]:
        """Return what the candidate says of nodules that its parent has seen."""
        return self.heads.answer_all(self.backbone.look(held))


@dataclass(frozen=True)
class TrainingProgress:
    """Told after every epoch."""

    epoch: int
    epochs: int
    loss: float


def fine_tune(
    model: Model,
    samples: Sequence[Sample],
    config: FineTuneConfig = FineTuneConfig(),
    *,
    anchor: Model | None = None,
    images: Images | None = None,
    tell: Callable[[TrainingProgress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> FineTuned | None:
    """Make a candidate for the next version from a site's readings.

    Args:
        model: the served version, with its replay set.
        samples: to train on, those of held-out patients left out (samples.split_by_patient).
        config: how.
        anchor: version that the weights are held close to; the shipped one keeps many small
            trainings from adding up. By default, or where layers that stay are others, `model`.
        images: training archive and the site's crops, for depth "full".
        tell: called after every epoch.
        stop: asked after every epoch; True ends it.

    Returns:
        The candidate, or None if it was stopped.

    Raises:
        InputError: no samples, or a depth that needs what is not there.
        ModelError: the model carries no replay set.
    """
    if not samples:
        raise InputError("no reading to train on: correct some nodules of patients that may train")
    try:
        if config.depth == "full":
            return _full(model, samples, config, images, tell, stop)
        return _heads(model, samples, config, anchor, tell, stop)
    except Stopped:
        return None


def _full(
    model: Model,
    samples: Sequence[Sample],
    config: FineTuneConfig,
    images: Images | None,
    tell: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
) -> FineTuned:
    if images is None:
        raise InputError(
            "depth full trains on images: give --archive with the training archive, or use depth "
            "heads"
        )
    training = replace(
        model.config,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        seed=config.seed,
        mask_epochs=0,
        freeze_norms=True,
    )

    def each_step(step: Step) -> None:
        tell(TrainingProgress(step.epoch, step.epochs, step.loss))

    states = train_all(model, samples, images, training, config.replay_share, each_step, stop)
    states = [rounded(state) for state in states]
    return _candidate(model, samples, states, config, look_again(model, states, images))


def _heads(
    model: Model,
    samples: Sequence[Sample],
    config: FineTuneConfig,
    anchor: Model | None,
    tell: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
) -> FineTuned:
    """Train the output layers over stored embeddings."""
    same = anchor is not None and _trunk(anchor) == _trunk(model)
    anchored = anchor if anchor is not None and same else model
    data = Data.mixed(
        (
            torch.from_numpy(np.array([s.held.observation.embeddings for s in samples])),
            targets_of_samples(samples, model.config.subsolid_factor),
        ),
        replayed(model.folder, model.info.sha256, model.config.subsolid_factor),
        config.replay_share,
    )
    states = train_members(
        list(zip(model.networks, anchored.networks, strict=True)),
        data,
        # errors of replayed nodules, which the trunk has learnt, would make the spread too small
        replace(model.config.loss, size_spread_weight=0.0),
        pull=config.l2 / len(samples),
        steps=config.epochs,
        tell=lambda done, of, loss: tell(TrainingProgress(done, of, loss)),
        stop=stop,
    )
    return _candidate(model, samples, states, config, backbone_of_parent(model))


def _trunk(model: Model) -> str:
    return LinearHeads.of(model.networks).trunk


def _candidate(
    model: Model,
    samples: Sequence[Sample],
    states: Sequence[dict[str, Tensor]],
    config: FineTuneConfig,
    backbone: Backbone,
) -> FineTuned:
    """Calibrate and describe what was trained."""
    branches = model.networks[0].names
    heads = LinearHeads.of_states(states, branches)
    held = backbone.look([s.held for s in samples])
    seen = [replace(s, held=h) for s, h in zip(samples, held, strict=True)]
    calibration, habits = recalibrated(
        backbone.calibration, backbone.kept, seen, heads, config.doubt
    )
    states = [rounded(move_biases(state, habits.biases)) for state in states]
    refitted = backbone.kept or config.depth == "full"
    provenance = {
        **_inherited(model),
        "parent": {"version": model.info.version, "sha256": model.info.sha256},
        "fine_tuning": to_dict(config),
        "readings": sorted({i for s in samples for i in s.said.reading_ids}),
        "site": {
            "nodules": len(samples),
            "patients": len({s.patient_id for s in samples}),
            "habits": asdict(habits),
            "calibration": "refitted" if refitted else "warm start",
        },
    }
    return FineTuned(
        tuple(states),
        LinearHeads.of_states(states, branches),
        habits.of(calibration),
        model.config,
        tuple(samples),
        provenance,
        model,
        backbone,
    )


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as they will be read again: what is judged is what is stored."""
    return {k: v.to(STORED).float() if v.is_floating_point() else v for k, v in state.items()}


def _inherited(model: Model) -> dict[str, Any]:
    """Return what the parent was made of, its own readings left out: they train again."""
    own = ("parent", "fine_tuning", "readings", "site")
    return {k: v for k, v in model.provenance.items() if k not in own}
