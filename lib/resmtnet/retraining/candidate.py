"""A candidate for the next version: fine-tuned weights, calibrated for the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from resmtnet.config import TrainingConfig, to_dict
from resmtnet.findings import ModelInfo
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.model_folder import Model, write_model
from resmtnet.inference.site_habit import SiteHabit
from resmtnet.retraining.backbone import Backbone, backbone_of_parent
from resmtnet.retraining.finetune import TrainedWeights, rounded
from resmtnet.retraining.linear_heads import LinearHeads, weights_of
from resmtnet.retraining.samples import Sample
from resmtnet.retraining.site_calibration import habit_of
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.calibrate import refit_calibration
from resmtnet.training.carried_sets import (
    calibration_set_files,
    read_calibration_set,
    read_reference,
    reference_files,
)

OF_ONE_TRAINING = ("parent", "fine_tuning", "readings", "site")
"""Provenance that a version does not inherit: its parent's readings train again."""


@dataclass(frozen=True, eq=False)
class FineTuned:
    """All that a version consists of, not yet judged or written."""

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
    """Gives what its feature extractor sees of nodules that the parent has seen."""
    same_weights: bool = False
    """It is a recalibration alone: the parent's weights with the habit of the readers."""

    def answer_all(self, held: Sequence[CachedNodule]) -> list[CachedNodule]:
        """Return nodules that the parent has seen, with the outputs of the candidate."""
        return self.heads.answer_all(self.backbone.look(held))

    def write(self, folder: Path, version: str) -> ModelInfo:
        """Write a model folder, with what the next fine-tuning and its gate need.

        Args:
            folder: to make.
            version: of the model.
        """
        calibration = self.calibration
        further = dict(self.backbone.files)
        further |= reference_files(
            self.answer_all(self.parent.carried(read_reference)), calibration.without_habit()
        )
        kept = self.parent.carried(read_calibration_set)
        if kept:
            further |= calibration_set_files(self.answer_all(kept))
        return write_model(
            folder, version, self.states, self.config, calibration, self.provenance, further
        )


def recalibrate(trained: TrainedWeights) -> FineTuned:
    """Calibrate fine-tuned weights, and add the habit of the site's readers.

    Args:
        trained: weights that fine_tune or keep_weights returned.
    """
    backbone, branches = trained.backbone, trained.parent.networks[0].names
    states = tuple(rounded(state) for state in trained.states)
    same_trunk = trained.unchanged or trained.config.depth == "heads"
    parent_heads = LinearHeads.of(trained.parent.networks)
    heads = LinearHeads.of_states(states, branches, parent_heads.trunk if same_trunk else None)
    calibration, kept = backbone.calibration.without_habit(), backbone.kept
    if kept and not trained.unchanged:
        calibration = refit_calibration(heads.answer_all(kept), kept, calibration)
    seen = backbone.look([sample.held for sample in trained.samples])
    samples = [replace(s, held=h) for s, h in zip(trained.samples, seen, strict=True)]
    habit = habit_of(calibration, samples, heads, trained.config.doubt)
    return FineTuned(
        states,
        heads,
        replace(calibration, habit=habit),
        trained.parent.config,
        trained.samples,
        _provenance(trained, habit),
        trained.parent,
        backbone,
        trained.unchanged,
    )


def as_served(parent: Model) -> FineTuned:
    """Return the served version as it is, to which something may be added.

    Args:
        parent: the version.
    """
    states = tuple(weights_of(network) for network in parent.networks)
    keep = {**parent.provenance, "parent": _name(parent)}
    return FineTuned(
        states,
        LinearHeads.of(parent.networks),
        parent.calibration,
        parent.config,
        (),
        keep,
        parent,
        backbone_of_parent(parent),
        same_weights=True,
    )


def _name(parent: Model) -> dict[str, str]:
    return {"version": parent.info.version, "sha256": parent.info.sha256}


def _provenance(trained: TrainedWeights, habit: SiteHabit) -> dict[str, Any]:
    """Return what the candidate was made of, and how."""
    parent, samples = trained.parent, trained.samples
    refitted = (trained.backbone.kept and not trained.unchanged) or trained.config.depth == "full"
    return {
        **{key: value for key, value in parent.provenance.items() if key not in OF_ONE_TRAINING},
        "parent": _name(parent),
        "fine_tuning": to_dict(trained.config),
        "readings": sorted({i for s in samples for i in s.consensus.reading_ids}),
        "site": {
            "nodules": len(samples),
            "patients": len({s.patient_id for s in samples}),
            "habit": habit.to_json(),
            "weights": "unchanged" if trained.unchanged else "trained",
            "calibration": "refitted" if refitted else "warm start",
        },
    }
