"""What a candidate may lose against the versions before it, and on how much evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.retraining.noninferiority import (
    AUC,
    AXIS_BIAS,
    AXIS_COVERAGE,
    AXIS_ERROR,
    AXIS_SPREAD,
    CONCORDANCE,
    DICE,
    LOG_LOSS,
    RECALL,
    SCORE_BIAS,
    SCORE_COVERAGE,
    SCORE_MAE,
    SHOWN,
    SIZE_BIAS,
    SIZE_COVERAGE,
    SIZE_ERROR,
    SIZE_SPREAD,
    ComparedMeasure,
)
from resmtnet.retraining.reading_check import Limits


@dataclass(frozen=True)
class Margins:
    """What a candidate may lose, and on how much evidence: stated here and nowhere else."""

    class_auc: float = 0.01
    """Half of what the model gains over the best predictor from size alone in sub-solid nodules;
    about the standard error of the AUC on the reference set."""
    score_concordance: float = 0.01
    """Share of pairs of nodules, as for the AUC."""
    class_log_loss: float = 0.03
    """A tenth of the shipped model's."""
    score_mae: float = 0.03
    """Levels; 6% of the shipped model's, and far below the half level that readers differ by."""
    score_bias: float = 0.05
    """Levels; a tenth of what a severe reader differs by."""
    score_coverage: float = 0.03
    """Share of 90% intervals that fail in addition."""
    size_error: float = 0.015
    """Mean |log diameter|: 0.12 mm in a nodule of 8 mm; also of the long axis."""
    size_bias: float = 0.03
    """Log diameter: 3%, a quarter of what readers differ by."""
    size_coverage: float = 0.03
    """Share of 90% intervals that fail in addition; also of the long axis."""
    axis_bias: float = 0.04
    """Log of a long axis, on which readers agree less than on volumes: a third of that."""
    size_spread: float = 0.01
    """Standard deviation of the error of a log size: 1%, a tenth of the shipped model's."""
    mask_dice: float = 0.01
    nodule_recall: float = 0.02
    """Share of the reference nodules that a search no longer shows: about 1 of 50."""
    rejected_shown: float = 0.02
    """Share of places, called no nodule, that a search shows in addition."""
    unanswered: float = 0.01
    """Share of the reference set that may lose a value which the parent gives."""
    stratum_factor: float = 2.0
    """A size band or texture class is small: it refuses a candidate only where a loss is shown and
    exceeds this many margins."""
    least_reference_patients: int = 30
    """A smaller reference set decides nothing; the shipped one has 187 patients."""
    least_patients: int = 15
    """Patients with readings, from which the habits of a site's readers are learnt."""
    least_patients_of_weights: int = 25
    """From which new weights are trained as well."""
    limits: Limits = field(default_factory=Limits)
    """What the readings themselves must satisfy."""
    bootstrap: BootstrapConfig = field(
        default_factory=lambda: BootstrapConfig(resamples=1000, confidence=0.9)
    )
    """Of the comparisons: the upper end is a one-sided 95% limit."""
    strict: BootstrapConfig = field(
        default_factory=lambda: BootstrapConfig(resamples=1000, confidence=0.99)
    )
    """Of the checks of readings, of which there are many."""

    @property
    def by_measure(self) -> Mapping[ComparedMeasure, float]:
        """The margin of every compared measure; an axis shares those of the diameter but one."""
        return {
            AUC: self.class_auc,
            CONCORDANCE: self.score_concordance,
            LOG_LOSS: self.class_log_loss,
            SCORE_MAE: self.score_mae,
            SCORE_BIAS: self.score_bias,
            SCORE_COVERAGE: self.score_coverage,
            SIZE_ERROR: self.size_error,
            SIZE_BIAS: self.size_bias,
            SIZE_SPREAD: self.size_spread,
            SIZE_COVERAGE: self.size_coverage,
            AXIS_ERROR: self.size_error,
            AXIS_BIAS: self.axis_bias,
            AXIS_SPREAD: self.size_spread,
            DICE: self.mask_dice,
            RECALL: self.nodule_recall,
            SHOWN: self.rejected_shown,
            AXIS_COVERAGE: self.size_coverage,
        }


DEFAULT_MARGINS = Margins()
