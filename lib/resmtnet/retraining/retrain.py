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
from resmtnet.data.consensus import malignant_share
from resmtnet.errors import InputError, ModelError
from resmtnet.evaluation import metrics
from resmtnet.inference.model_folder import read_model
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.candidate import recalibrate
from resmtnet.retraining.collect import collect
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.finetune_full import images_of
from resmtnet.retraining.gate import judge
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import Version
from resmtnet.retraining.samples import BY_IMPRESSION
from resmtnet.retraining.site_samples import look_at_nodules
from resmtnet.retraining.verdict import not_published
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
    reference, folder = parent.carried(read_reference), store.path.parent

    # 1. collect the readings that may train or judge
    usable = collect(store.readings(every=True), parent, reference, config.evidence)
    result = Retrained("", readings=usable.count, skipped=usable.skipped)
    if usable.count < config.least_readings:
        return _too_few(
            result, f"{usable.count} readings can train, {config.least_readings} are needed"
        )

    # 2. make them samples: let the models look at their nodules
    site = look_at_nodules(
        usable.consensus, parent, shipped, folder, open_ct, device, partial(tell, "nodules")
    )
    result = replace(result, skipped=(*usable.skipped, *site.skipped))
    if not site.train:
        return _too_few(
            result, "all readings are of patients who are held out or excluded from training"
        )

    # 3. fine-tune, 4. recalibrate
    images = None
    if config.fine_tuning.depth == "full" and config.archive is not None:
        images = images_of(config.archive, site, folder / WORK, repr(config), device)
    trained = fine_tune(
        parent,
        site.train,
        config.fine_tuning,
        anchor=shipped,
        images=images,
        tell=partial(tell, "epochs"),
    )
    candidate = recalibrate(trained)

    # 5. judge
    verdict = judge(
        candidate, parent, shipped, reference, site.held_out, config.margins, site.shipped_saw
    )
    result = replace(
        result,
        reason=verdict.reason,
        insufficient=verdict.insufficient,
        verdict=verdict.to_json(),
    )

    # 6. publish, or keep the served version
    if verdict.published:
        version = versions.publish(
            lambda folder: candidate.write(folder, versions.next_version()),
            parent=served.name,
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
    """Return how well a model separates the classes on its reference set; 0 without one.

    Args:
        folder: of the model.
    """
    try:
        answers = read_reference_answers(folder)
    except (ModelError, InputError, OSError, ValueError, LookupError):
        return 0.0
    rated = [(malignant_share(case.malignancy), said) for case, said in answers if case.malignancy]
    decided = [(share, said.probability_malignant) for share, said in rated if share != 0.5]
    if not decided:
        return 0.0
    value = metrics.auc(*zip(*decided, strict=True))
    return value if math.isfinite(value) else 0.0
