"""From the readings of a site to a version that is served, or to the reason why none is."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from resmtnet.config import to_dict
from resmtnet.ct.volume import CTVolume
from resmtnet.data.archive import Archive
from resmtnet.data.consensus import malignant_share
from resmtnet.errors import InputError, ModelError
from resmtnet.evaluation import metrics
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.readings.patients import names_of
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.finetune_full import Images
from resmtnet.retraining.gate import Margins, judge
from resmtnet.retraining.nodule_cache import NoduleCache
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import Version
from resmtnet.retraining.samples import (
    BY_IMPRESSION,
    Consensus,
    Sample,
    gather,
    split_by_patient,
    without,
)
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import (
    read_calibration_set,
    read_reference,
    read_reference_answers,
    read_replay,
)

logger = logging.getLogger(__name__)

OF_REFERENCE = "its patient is of the reference set, on which versions are judged"
OF_SHIPPED = "its patient made the shipped model, and cannot judge versions as one held out"

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
    """Readings that train; with fewer nothing is tried."""
    evidence: tuple[str, ...] = BY_IMPRESSION
    """What a class may rest on, the best last; see samples.gather."""
    archive: Path | None = None
    """That the shipped model was trained on; depth full needs it."""


@dataclass(frozen=True)
class Retrained:
    """What came of it."""

    reason: str
    """One or more sentences for the user."""
    version: Version | None = None
    """What is served now; None: the version that was served stays."""
    insufficient: bool = False
    """It stays for want of evidence, not because of it."""
    readings: int = 0
    """Readings that train, or of which those held out judge."""
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
        store: the readings; what is kept of their images lies beside it.
        versions: of the model.
        open_ct: gives the CT of an image id.
        config: how.
        device: of the networks.
        tell: called after every nodule and every epoch.

    Raises:
        InputError: a depth that needs what is not there, or another version was chosen meanwhile.
        ModelError: the served model carries no replay or reference set, or none can be written.
    """
    parent, served = versions.load(lambda folder: read_model(folder, device))
    reference = read_reference(parent.folder)
    said, skipped = _usable(gather(store.readings(every=True), config.evidence), parent, reference)
    count = len({reading for one in said for reading in one.reading_ids})
    result = Retrained("", readings=count, skipped=skipped)
    if count < config.least_readings:
        reason = f"{count} readings that train, {config.least_readings} are needed"
        return replace(result, reason=_insufficient(reason), insufficient=True)
    shipped = read_model(versions.shipped, device)
    site = NoduleCache(store.path.parent, parent, open_ct, device=device)
    found = site.samples(said, tell=partial(tell, "nodules"))
    result = replace(result, skipped=(*skipped, *found.skipped))
    for line in result.skipped:
        logger.warning("A nodule does not train: %s", line)
    train, held_out = split_by_patient(found.samples)
    if not train:
        reason = f"of {len(found.samples)} nodules none is of a patient who may train"
        return replace(result, reason=_insufficient(reason), insufficient=True)
    candidate = fine_tune(
        parent,
        train,
        config.fine_tuning,
        anchor=shipped,
        images=_images(site, found.samples, config, store.path.parent / WORK, device),
        tell=lambda step: tell("epochs", step.epoch + 1, step.epochs),
    )
    if candidate is None:
        return replace(result, reason="kept: the training was stopped")
    verdict = judge(candidate, parent, shipped, reference, held_out, config.margins)
    result = replace(
        result,
        reason=verdict.reason,
        insufficient=verdict.insufficient,
        verdict=verdict.to_json(),
    )
    if not verdict.published:
        return result
    version = versions.publish(
        lambda folder: candidate.write(folder, versions.next_version()),
        parent=served.name,
        details=_details(result, config),
    )
    return replace(result, version=version)


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


def _images(
    site: NoduleCache, samples: Sequence[Sample], config: RetrainConfig, work: Path, device: str
) -> Images | None:
    """Return what depth full trains on; a training that was killed goes on where it was."""
    if config.fine_tuning.depth != "full" or config.archive is None:
        return None
    archive = Archive.open(config.archive)
    same = [site.model.info.sha256, repr(config), *(i for s in samples for i in s.said.reading_ids)]
    own = work / hashlib.sha256("\n".join(same).encode()).hexdigest()[:16]
    for other in work.glob("*"):
        if other != own:
            shutil.rmtree(other, ignore_errors=True)
    return Images(archive, site.archive(samples, own / "crops"), own, device)


def _usable(
    said: Sequence[Consensus], parent: Model, reference: Sequence[CachedNodule]
) -> tuple[list[Consensus], tuple[str, ...]]:
    """Leave out what would be judged by what it was made with; returns why, nodule by nodule."""
    said, judging = without(said, names_of(one.case.patient_id for one in reference))
    train, held_out = split_by_patient(said)
    makers = {nodule.patient_id for nodule in read_replay(parent.folder).nodules}
    makers |= {one.case.patient_id for one in read_calibration_set(parent.folder)}
    held_out, making = without(held_out, names_of(makers))
    lines = [f"{one.id}: {OF_REFERENCE}" for one in judging]
    lines += [f"{one.id}: {OF_SHIPPED}" for one in making]
    return [*train, *held_out], tuple(lines)


def _insufficient(reason: str) -> str:
    return f"insufficient evidence, kept: {reason}"


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
