"""Retrains the served model on the readings of a site: the whole way, from top to bottom."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from resmtnet.config import to_dict
from resmtnet.ct.volume import CTVolume
from resmtnet.errors import InputError, ModelError
from resmtnet.evaluation import metrics
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.candidate import as_served
from resmtnet.retraining.choice_of_version import best_version
from resmtnet.retraining.collect import UsableReadings, collect
from resmtnet.retraining.evidence import NOTHING, Evidence
from resmtnet.retraining.finetune import FineTuneConfig
from resmtnet.retraining.finetune_full import images_of
from resmtnet.retraining.gate import Reference, Site, check_readings, parent_readings
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.nodule_or_not import with_rejected
from resmtnet.retraining.reading_checks import complaints
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import Version
from resmtnet.retraining.samples import BY_IMPRESSION, Sample
from resmtnet.retraining.site_calibration import habits_apart
from resmtnet.retraining.site_samples import look_at_nodules
from resmtnet.retraining.verdict import not_published
from resmtnet.retraining.verdict_text import (
    kept_text,
    published_text,
    table_of,
    with_rejected_text,
)
from resmtnet.training.carried_sets import read_reference, read_reference_answers

logger = logging.getLogger(__name__)

WORK = "training"
"""Folder of the checkpoints of depth full, beside the readings."""
Stage = Literal["nodules", "epochs"]
StageProgress = Callable[[Stage, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class RetrainConfig:
    """What is trained on, how, and what the result is held to."""

    fine_tuning: FineTuneConfig = field(default_factory=FineTuneConfig)
    margins: Margins = field(default_factory=Margins)
    least_readings: int = 10
    """Readings that can train; with fewer no training is tried."""
    evidence: tuple[str, ...] = BY_IMPRESSION
    """What a class may rest on, the best last; see samples.gather."""
    archive: Path | None = None
    """On which the shipped model was trained; depth full needs it."""


@dataclass(frozen=True)
class Retrained:
    """The result of a retraining."""

    reason: str
    """One or more sentences for the user."""
    version: Version | None = None
    """What is served now; None: the version that was served stays."""
    insufficient: bool = False
    """Not published because evidence is missing, not because of what it shows."""
    readings: int = 0
    """Readings that train, or that judge where their patient is held out."""
    skipped: tuple[str, ...] = ()
    """Nodules that neither train nor judge, each with the reason."""
    verdict: Mapping[str, Any] = field(default_factory=dict)
    """The gate's, with its figures; empty where nothing was trained."""


def retrain(
    store: ReadingStore,
    versions: ModelRegistry,
    open_ct: Callable[[str], CTVolume],
    config: RetrainConfig = RetrainConfig(),
    *,
    device: str = "cpu",
    tell: StageProgress = lambda stage, done, of: None,
) -> Retrained:
    """Fine-tune the served model on the readings, and serve the result if it is not worse.

    Where the package came with a newer model than the one that the served version was trained
    from, the newer model is fine-tuned on all the readings; until that version is published, the
    old one stays served.

    Args:
        store: the readings; what is cached of their images lies beside it.
        versions: of the model.
        open_ct: gives the CT of an image id.
        config: how.
        device: of the networks.
        tell: called after every nodule and every epoch.

    Raises:
        InputError: a depth that needs what is not there, or another version was chosen meanwhile.
        ModelError: the served model carries no replay or reference set, or none can be written.
    """
    parent, served = versions.load(partial(read_model, device=device))
    shipped = read_model(versions.shipped, device)
    if versions.is_outdated(served.name):
        parent = shipped
    reference, folder = parent.carried(read_reference), store.path.parent

    # 1. collect the readings that may train or judge, and see what they are enough for
    usable = collect(store.readings(every=True), parent, reference, config.evidence)
    result = Retrained("", readings=usable.count, skipped=usable.skipped)
    evidence = evidence_in(usable, config)
    if evidence.stage == NOTHING:
        return _too_few(result, evidence.missing)

    # 2. make them samples: let the models look at their nodules
    wanted = (*usable.consensus, *usable.rejected)
    seen = look_at_nodules(
        wanted, parent, shipped, folder, open_ct, device, partial(tell, "nodules")
    )
    looked, rejected = seen.split(frozenset(one.id for one in usable.rejected))
    result = replace(result, skipped=(*usable.skipped, *looked.skipped))
    evidence = Evidence.of(
        [s.consensus for s in looked.samples], usable.count, config.least_readings, config.margins
    )
    if evidence.stage == NOTHING:
        return _too_few(result, evidence.missing)

    # 3. check the readings themselves
    site = Site.of(looked.samples, parent, shipped, looked.shipped_saw)
    known = Reference.of(parent, shipped, reference)
    checks = check_readings(site, known, parent_readings(parent), config.margins)
    if wrong := complaints(checks):
        told = {"outcome": "kept", "table": table_of([], checks, config.margins)}
        return replace(result, reason=not_published(wrong), verdict=told)

    # 4. fine-tune, recalibrate and judge: new weights, else the habit of the readers alone
    images = None
    if config.fine_tuning.depth == "full" and config.archive is not None:
        images = images_of(config.archive, looked, folder / WORK, repr(config), device)
    candidate, verdicts = best_version(
        parent,
        shipped,
        site,
        known,
        evidence.stage,
        config.fine_tuning,
        config.margins,
        images=images,
        tell=partial(tell, "epochs"),
    )
    text = kept_text(verdicts) if candidate is None else published_text(candidate, verdicts)

    # 5. learn from places that readers called no nodule, whatever else was learnt
    sharper, of_rejected = with_rejected(
        candidate or as_served(parent), shipped, rejected, looked.samples, known, config.margins
    )
    tried = [*verdicts, *([of_rejected] if of_rejected else [])]
    text = with_rejected_text(text, of_rejected, alone=candidate is None)
    candidate = sharper or candidate
    decided = tried[-1] if sharper else verdicts[-1]
    result = replace(
        result,
        reason=text,
        insufficient=decided.insufficient,
        verdict={
            **decided.to_json(),
            "reason": text,
            "readings": [check.to_json() for check in checks],
            "table": table_of(tried, checks, config.margins),
            "habits": _habits(parent, looked.samples),
        },
    )

    # 6. publish, or keep the served version
    if candidate is not None:
        version = versions.publish(
            lambda folder: candidate.write(folder, versions.next_version()),
            parent=served.name,
            details=_details(result, config),
        )
        result = replace(result, version=version)
    for line in result.skipped:
        logger.warning("A nodule is not used for training: %s", line)
    return result


def readiness(store: ReadingStore, parent: Model, config: RetrainConfig) -> Evidence:
    """Return what a training would do now, without doing it: what is there, what is missing.

    Args:
        store: the readings.
        parent: the served version.
        config: of the training.

    Raises:
        ModelError: the served model carries no replay or reference set.
    """
    reference = parent.carried(read_reference)
    usable = collect(store.readings(every=True), parent, reference, config.evidence)
    return evidence_in(usable, config)


def evidence_in(usable: UsableReadings, config: RetrainConfig) -> Evidence:
    """Count what may train, as a training does before it looks at any image."""
    return Evidence.of(usable.consensus, usable.count, config.least_readings, config.margins)


def _habits(parent: Model, samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the habits of readers who had seen the model's answer and of those who had not."""
    heads = LinearHeads.of(parent.networks)
    apart = habits_apart(parent.calibration, samples, heads)
    return {name: habit.to_json() for name, habit in apart.items()}


def _too_few(result: Retrained, reason: str) -> Retrained:
    return replace(result, reason=not_published([reason]), insufficient=True)


def _details(result: Retrained, config: RetrainConfig) -> dict[str, Any]:
    """Return what is kept beside the version; the readings themselves are in its manifest."""
    return {
        "readings": result.readings,
        "reason": result.reason,
        "skipped": list(result.skipped),
        "verdict": dict(result.verdict),
        "config": {
            **to_dict(replace(config, archive=None)),
            "archive": str(config.archive) if config.archive else None,
        },
    }


def reference_auc(folder: Path) -> float:
    """Return the AUC of a model's class on its reference set, by protocol P; 0 without one.

    Args:
        folder: of the model.
    """
    try:
        answers = read_reference_answers(folder)
    except (ModelError, InputError, OSError, ValueError, LookupError):
        return 0.0
    decided = [
        (case.malignant, said.probability_malignant) for case, said in answers if case.in_protocol
    ]
    if not decided:
        return 0.0
    value = metrics.auc(*zip(*decided, strict=True))
    return value if math.isfinite(value) else 0.0
