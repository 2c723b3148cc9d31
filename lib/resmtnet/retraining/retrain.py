"""Retrains the served model on the readings of a site: the whole way, from top to bottom."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
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
from resmtnet.retraining.candidate import FineTuned
from resmtnet.retraining.choice_of_version import SiteTraining
from resmtnet.retraining.collect import UsableReadings, collect
from resmtnet.retraining.evidence import NOTHING, Evidence
from resmtnet.retraining.finetune import FineTuneConfig
from resmtnet.retraining.finetune_full import Images, images_of
from resmtnet.retraining.gate import Reference, Site, check_readings, parent_readings
from resmtnet.retraining.learn import learn
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.reading_checks import complaints
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import Version
from resmtnet.retraining.samples import BY_IMPRESSION
from resmtnet.retraining.site_samples import SiteSamples, look_at_nodules
from resmtnet.retraining.verdict import not_published
from resmtnet.retraining.verdict_text import table_of
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
    told = partial(tell, "nodules")
    seen = look_at_nodules(wanted, parent, shipped, folder, open_ct, device, told)
    looked, rejected = seen.split(frozenset(one.id for one in usable.rejected))
    result = replace(result, skipped=(*usable.skipped, *looked.skipped))
    evidence = _evidence_seen(looked, usable, config)
    if evidence.stage == NOTHING:
        return _too_few(result, evidence.missing)

    # 3. check the readings themselves
    site = Site.of(looked.samples, parent, shipped, looked.shipped_saw)
    known = Reference.of(parent, shipped, reference)
    margins = config.margins
    checks = check_readings(site, known, parent_readings(parent), margins)
    if wrong := complaints(checks):
        verdict = {"outcome": "kept", "table": table_of([], checks, margins)}
        return replace(result, reason=not_published(wrong), verdict=verdict)

    # 4. learn from them, and judge what comes of it
    training = SiteTraining(
        *(parent, shipped, site, known, evidence.stage, config.fine_tuning, margins),
        images=_images(looked, folder, config, device),
        tell=partial(tell, "epochs"),
    )
    learnt = learn(training, rejected)
    result = replace(
        result,
        reason=learnt.text,
        insufficient=learnt.decided.insufficient,
        verdict=learnt.to_json(checks, parent, looked.samples, margins),
    )

    # 5. publish, or keep the served version
    return _published(result, learnt.candidate, versions, served.name, config)


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


def _evidence_seen(looked: SiteSamples, usable: UsableReadings, config: RetrainConfig) -> Evidence:
    """Count again: some nodules could not be looked at."""
    said = [sample.consensus for sample in looked.samples]
    return Evidence.of(said, usable.count, config.least_readings, config.margins)


def _images(looked: SiteSamples, folder: Path, config: RetrainConfig, device: str) -> Images | None:
    """Return what depth full trains on; None without it, or without an archive."""
    if config.fine_tuning.depth != "full" or config.archive is None:
        return None
    return images_of(config.archive, looked, folder / WORK, repr(config), device)


def _published(
    result: Retrained,
    candidate: FineTuned | None,
    versions: ModelRegistry,
    parent: str,
    config: RetrainConfig,
) -> Retrained:
    """Serve the candidate, if there is one, and tell which nodules were skipped."""
    if candidate is not None:
        version = versions.publish(
            lambda folder: candidate.write(folder, versions.next_version()),
            parent=parent,
            details=_details(result, config),
        )
        result = replace(result, version=version)
    for line in result.skipped:
        logger.warning("A nodule is not used for training: %s", line)
    return result


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
