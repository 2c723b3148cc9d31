"""Makes the version for which there is evidence: new weights, else the readers' habit alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class SiteTraining:
    """What one training of a site starts from."""

    parent: Model
    """The served version."""
    shipped: Model
    """The version that came with the package."""
    site: Site
    """The readings, already checked."""
    reference: Reference
    """Nodules that no version trained on."""
    stage: Stage
    """For what there is evidence."""
    config: FineTuneConfig
    margins: Margins
    """What may be lost."""
    images: Images | None = None
    """See finetune.fine_tune."""
    tell: Progress = lambda done, of: None
    """Called with steps done and steps in all."""

    def weights(self, samples: Sequence[Sample]) -> FineTuned:
        """Return a version with new weights and the habit of these samples' readers."""
        tuned = fine_tune(
            self.parent,
            samples,
            self.config,
            anchor=self.shipped,
            images=self.images,
            tell=self.tell,
        )
        return recalibrate(tuned)

    def habit_alone(self, samples: Sequence[Sample]) -> FineTuned:
        """Return the served weights with the habit of these samples' readers."""
        return recalibrate(keep_weights(self.parent, samples, self.config))


def best_version(training: SiteTraining) -> tuple[FineTuned | None, list[Verdict]]:
    """Return the version that may be served, and what was decided of each that was tried."""
    tries = {WEIGHTS: (_with_weights, _habit_alone), HABIT_ALONE: (_habit_alone,)}
    verdicts = []
    for attempt in tries.get(training.stage, ()):
        candidate, verdict = attempt(training)
        verdicts.append(verdict)
        if verdict.published:
            return candidate, verdicts
    return None, verdicts


def _with_weights(training: SiteTraining) -> tuple[FineTuned, Verdict]:
    """Return a version with new weights, and the verdict; its habit is judged out of sample."""
    site = training.site
    if training.config.depth == "heads":
        candidate = training.weights(site.samples)
        crossed = cross_fitted(training.weights, site.samples, site.nodules)
    else:
        out = np.array([is_held_out(s.patient_id) for s in site.samples])
        used = [s for s, held in zip(site.samples, out, strict=True) if not held]
        candidate = training.weights(used)
        index = np.flatnonzero(out)
        held = candidate.answer_all([site.samples[n].held for n in index])
        said = Predictions.of(site.nodules.rows(index), held, candidate.calibration)
        crossed = Predictions.joined(len(site.samples), [(index, said)])
    return candidate, judge(candidate, crossed, site, training.reference, training.margins)


def _habit_alone(training: SiteTraining) -> tuple[FineTuned, Verdict]:
    site = training.site
    candidate = training.habit_alone(site.samples)
    habits = (candidate.calibration.habit, training.parent.calibration.habit)
    if all(habit.changes_nothing for habit in habits):
        return candidate, Verdict("kept", not_published([NO_HABIT_SHOWN]), insufficient=True)
    crossed = cross_fitted(training.habit_alone, site.samples, site.nodules, HABIT_FOLDS)
    return candidate, judge(candidate, crossed, site, training.reference, training.margins)


HABIT_FOLDS = 5
"""Three numbers cost nothing to estimate again."""
