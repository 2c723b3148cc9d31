"""From a site's readings and a served model to a candidate for the next version.

depth "heads" trains the output layers alone, over stored embeddings: those of the site's nodules,
and as replay those of the training nodules that came with the model. It takes seconds and no image.
depth "full" trains everything, from the served weights, and needs the images: finetune_full.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from resmtnet.calibration import Calibration
from resmtnet.config import TrainingConfig, to_dict
from resmtnet.errors import ConfigError, InputError
from resmtnet.findings import ModelInfo
from resmtnet.finetune_full import Images, Observed, look_again, train_all
from resmtnet.head_training import Data, Stopped, replayed, train_members
from resmtnet.heads import Heads, move_biases
from resmtnet.held import Held
from resmtnet.model_store import MANIFEST, STORED, Model, write_model
from resmtnet.recalibration import recalibrated
from resmtnet.replay import (
    Replay,
    Write,
    calibration_set_files,
    read_calibration_set,
    read_reference,
    read_replay,
    reference_files,
    replay_files,
)
from resmtnet.samples import Sample, targets_of_samples
from resmtnet.training import Progress as Step

Depth = Literal["heads", "last_stage", "full"]
DEPTHS: tuple[Depth, ...] = ("heads", "last_stage", "full")


@dataclass(frozen=True)
class FineTuneConfig:
    """How a site's readings change a model; the defaults are what a server does unasked."""

    depth: Depth = "heads"
    """heads: output layers, seconds; full: everything, needs images; last_stage: the hidden layer
    of the heads too, if the model carries what enters it."""
    epochs: int = 40
    """Steps over all embeddings at once (heads), or passes over the images (full)."""
    learning_rate: float = 2e-4
    """Peak of the cosine schedule (full); the output layers alone need none."""
    replay_share: float = 0.5
    """Weight of the replayed training nodules in the loss, 0 to below 1; the rest is the site's."""
    l2: float = 300.0
    """Pull towards the anchor's weights, divided by the number of site nodules: few readings move
    little."""
    doubt: float = 1.5
    """Standard errors by which a habit of the site's readers must differ from none to count."""
    seed: int = 0
    """Of order and augmentation (full); the output layers alone know no chance."""

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
class Candidate:
    """What fine-tuning made: all that a version is, not yet written or judged."""

    states: tuple[dict[str, Tensor], ...]
    """Weights of each member, as state_dict gives them, rounded as they will be stored."""
    heads: Heads
    calibration: Calibration
    config: TrainingConfig
    samples: tuple[Sample, ...]
    """What it was trained on."""
    provenance: Mapping[str, Any]
    """Parent, readings, configuration and figures, for the manifest."""
    parent: Model
    seen: Mapping[str, Held] = field(default_factory=dict)
    """Nodules looked at again by a trunk of its own, by the id of their case; empty for heads."""
    replay: Replay | None = None
    """Embeddings of such a trunk; None: the parent's hold."""

    def write(self, folder: Path, version: str) -> ModelInfo:
        """Write a model folder, with what the next fine-tuning and its gate need.

        Args:
            folder: to make.
            version: of the model.
        """
        parent, calibration = self.parent.folder, self.calibration

        def again(held: Sequence[Held]) -> list[Held]:
            known = [h for h in held if not self.seen or h.case.id in self.seen]
            return self.answer_all(known)

        further: dict[str, Write] = dict(replay_files(self.replay or read_replay(parent)))
        further |= reference_files(again(read_reference(parent)), calibration)
        kept = read_calibration_set(parent)
        if kept:
            further |= calibration_set_files(again(kept))
        return write_model(
            folder, version, self.states, self.config, calibration, self.provenance, further
        )

    def answer_all(self, held: Sequence[Held]) -> list[Held]:
        """Return what the candidate says of nodules that its parent has seen."""
        if not self.seen:
            return self.heads.answer_all(held)
        again = [self.seen[one.case.id] for one in held]
        again = [replace(s, case=h.case, truth=h.truth) for s, h in zip(again, held, strict=True)]
        return self.heads.answer_all(again)


@dataclass(frozen=True)
class Progress:
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
    tell: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Candidate | None:
    """Make a candidate for the next version from a site's readings.

    Args:
        model: the served version, with its replay set.
        samples: to train on, those of held-out patients left out (samples.split_by_patient).
        config: how.
        anchor: version that the weights are held close to; the shipped one keeps many small
            trainings from adding up. By default, or where its trunk is another, `model`.
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
    if config.depth == "last_stage":
        raise InputError(
            "depth last_stage needs stored inputs of the last stage, which this model does not "
            "carry; use depth heads, or full with --archive"
        )
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
    tell: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Candidate:
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
        tell(Progress(step.epoch, step.epochs, step.loss))

    states = train_all(model, samples, images, training, config.replay_share, each_step, stop)
    states = [rounded(state) for state in states]
    observed = look_again(model, states, images)
    seen = [replace(s, held=_seen(observed, s)) for s in samples]
    return _candidate(model, samples, seen, states, config, observed)


def _seen(observed: Observed, sample: Sample) -> Held:
    own = observed.seen[sample.said.id]
    return replace(own, case=sample.held.case, truth=sample.held.truth)


def _heads(
    model: Model,
    samples: Sequence[Sample],
    config: FineTuneConfig,
    anchor: Model | None,
    tell: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> Candidate:
    own = Heads.of(model.networks)
    start = Heads.of(anchor.networks) if anchor else own
    anchored = anchor if anchor is not None and start.trunk == own.trunk else model
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
        tell=lambda done, of, loss: tell(Progress(done, of, loss)),
        stop=stop,
    )
    return _candidate(model, samples, samples, states, config)


def _candidate(
    model: Model,
    samples: Sequence[Sample],
    seen: Sequence[Sample],
    states: Sequence[dict[str, Tensor]],
    config: FineTuneConfig,
    observed: Observed | None = None,
) -> Candidate:
    """Calibrate and describe what was trained; `seen` are the samples as its trunk sees them."""
    branches = model.networks[0].names
    kept = [] if observed else read_calibration_set(model.folder)
    before = observed.calibration if observed else model.calibration
    heads = Heads.of_states(states, branches)
    calibration, habits = recalibrated(before, kept, seen, heads, config.doubt)
    states = [rounded(move_biases(state, habits.biases)) for state in states]
    provenance = {
        **_inherited(model),
        "parent": {"version": model.info.version, "sha256": model.info.sha256},
        "fine_tuning": to_dict(config),
        "readings": sorted({i for s in samples for i in s.said.reading_ids}),
        "site": {
            "nodules": len(samples),
            "patients": len({s.patient_id for s in samples}),
            "habits": asdict(habits),
            "calibration": "refitted" if kept or observed else "warm start",
        },
    }
    heads, told = Heads.of_states(states, branches), habits.of(calibration)
    return Candidate(
        tuple(states),
        heads,
        told,
        model.config,
        tuple(samples),
        provenance,
        model,
        observed.seen if observed else {},
        observed.replay if observed else None,
    )


def rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as they will be read again: what is judged is what is stored."""
    return {k: v.to(STORED).float() if v.is_floating_point() else v for k, v in state.items()}


def _inherited(model: Model) -> dict[str, Any]:
    """Return what the parent was made of, its own readings left out: they train again."""
    path = model.folder / MANIFEST
    manifest = json.loads(path.read_text()) if path.is_file() else {"provenance": {}}
    own = ("parent", "fine_tuning", "readings", "site")
    return {k: v for k, v in manifest["provenance"].items() if k not in own}
