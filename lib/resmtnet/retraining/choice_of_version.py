"""Makes the version for which there is evidence: new weights, else the readers' habit alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from resmtnet.inference.model_folder import Model
from resmtnet.retraining.candidate import FineTuned, recalibrate
from resmtnet.retraining.compared_nodules import Predictions
from resmtnet.retraining.cross_fit import cross_fitted
from resmtnet.retraining.evidence import HABIT_ALONE, WEIGHTS, Stage
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune, keep_weights
from resmtnet.retraining.finetune_full import Images
from resmtnet.retraining.gate import Reference, Site, judge
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.samples import Sample, is_held_out
from resmtnet.retraining.verdict import Verdict, not_published
from resmtnet.types import Progress

NO_HABIT_SHOWN = (
    "the readings differ from the current model by no more than chance: there is nothing to learn "
    "from them yet"
)


def best_version(
    parent: Model,
    shipped: Model,
    site: Site,
    reference: Reference,
    stage: Stage,
    config: FineTuneConfig,
    margins: Margins,
    *,
    images: Images | None = None,
    tell: Progress = lambda done, of: None,
) -> tuple[FineTuned | None, list[Verdict]]:
    """Return the version that may be served, and what was decided of each that was tried.

    Args:
        parent: the served version.
        shipped: the version that came with the package.
        site: the readings, already checked.
        reference: nodules that no version trained on.
        stage: for what there is evidence.
        config: of the training.
        margins: what may be lost.
        images: see finetune.fine_tune.
        tell: called with steps done and steps in all.
    """
    verdicts = []
    if stage == WEIGHTS:
        train = partial(_trained, parent, config=config, anchor=shipped, images=images, tell=tell)
        candidate, crossed = _with_weights(train, site, config)
        verdicts.append(judge(candidate, crossed, site, reference, margins))
        if verdicts[-1].published:
            return candidate, verdicts
    if stage in (WEIGHTS, HABIT_ALONE):
        candidate, verdict = _habit_alone(parent, site, reference, config, margins)
        verdicts.append(verdict)
        if verdict.published:
            return candidate, verdicts
    return None, verdicts


def _trained(
    parent: Model,
    samples: Sequence[Sample],
    *,
    config: FineTuneConfig,
    anchor: Model,
    images: Images | None = None,
    tell: Progress = lambda done, of: None,
) -> FineTuned:
    return recalibrate(fine_tune(parent, samples, config, anchor=anchor, images=images, tell=tell))


def _with_weights(
    train: Callable[[Sequence[Sample]], FineTuned], site: Site, config: FineTuneConfig
) -> tuple[FineTuned, Predictions]:
    """Return a version with new weights, and the predictions on which its habit is judged."""
    if config.depth == "heads":
        return train(site.samples), cross_fitted(train, site.samples, site.nodules)
    out = np.array([is_held_out(s.patient_id) for s in site.samples])
    candidate = train([s for s, held in zip(site.samples, out, strict=True) if not held])
    index = np.flatnonzero(out)
    held = candidate.answer_all([site.samples[n].held for n in index])
    said = Predictions.of(site.nodules.rows(index), held, candidate.calibration)
    return candidate, Predictions.joined(len(site.samples), [(index, said)])


def _habit_alone(
    parent: Model, site: Site, reference: Reference, config: FineTuneConfig, margins: Margins
) -> tuple[FineTuned, Verdict]:
    def make(samples: Sequence[Sample]) -> FineTuned:
        return recalibrate(keep_weights(parent, samples, config))

    candidate = make(site.samples)
    habit = candidate.calibration.habit
    if habit.changes_nothing and parent.calibration.habit.changes_nothing:
        return candidate, Verdict("kept", not_published([NO_HABIT_SHOWN]), insufficient=True)
    crossed = cross_fitted(make, site.samples, site.nodules, HABIT_FOLDS)
    return candidate, judge(candidate, crossed, site, reference, margins)


HABIT_FOLDS = 5
"""Three numbers cost nothing to estimate again."""
