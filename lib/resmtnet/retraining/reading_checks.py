"""Whether a site's readings are plausible, checked before anything learnt from them is published.

A model that learns wrong labels looks right on wrong labels, so that held-out readings of the same
site do not catch them. Two things do: the readings against the shipped model, which never saw them,
and the readers against one another. A site may have habits, such as a severe reader or larger
sizes; readings that contradict the model, are in another unit, or come from a reader unlike the
others are no habit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.retraining.habit_checks import check_backwards, check_related
from resmtnet.retraining.noninferiority import AUC
from resmtnet.retraining.reader_checks import check_reader
from resmtnet.retraining.reading_check import (
    Check,
    Limits,
    estimate_by_patient,
    half_spread,
    make_check,
    median,
)
from resmtnet.retraining.samples import Sample
from resmtnet.types import Array


def check(
    samples: Sequence[Sample],
    shipped: tuple[ComparedNodules, Predictions],
    reference: tuple[ComparedNodules, Predictions],
    ratings: Array,
    limits: Limits,
    config: BootstrapConfig,
    which: str = "",
) -> list[Check]:
    """Check a site's readings, before anything learnt from them is published.

    Args:
        samples: of the site, also those that trained: the shipped model saw none of them.
        shipped: what their readers say, and the predictions of the shipped model.
        reference: the same of the reference set.
        ratings: [N, levels] logits of the shipped model's calibrated ratings of these nodules.
        limits: see Limits.
        config: of the bootstrap by patient.
        which: put before the name of each check where only some readings are checked.
    """
    found = [*_against_model(shipped, reference, limits, config)]
    found.append(check_backwards(samples, ratings, limits))
    for name in sorted({r.reader for s in samples for r in s.consensus.readings}):
        found += check_reader(name, samples, limits, config)
        found.append(check_related(name, samples, ratings, limits))
    return [replace(one, what=f"{which}{one.what}") for one in found]


def _against_model(
    site: tuple[ComparedNodules, Predictions],
    reference: tuple[ComparedNodules, Predictions],
    limits: Limits,
    config: BootstrapConfig,
) -> list[Check]:
    (nodules, answers), (known, usual) = site, reference
    patients = nodules.patients
    found = []
    rows = np.isfinite(nodules.malignant)
    clear = np.isfinite(known.malignant)
    least = float(AUC.statistic(known.malignant[clear], usual.probability[clear])) - limits.auc_drop
    found.append(
        make_check(
            "class: AUC of the shipped model on the site's readings",
            estimate_by_patient(
                AUC.statistic, rows, patients, config, nodules.malignant, answers.probability
            ),
            (least, 1.0),
            int(rows.sum()),
            limits,
            "the classes that were read contradict the shipped model (are labels swapped?)",
        )
    )
    ratios = {
        "volume": (
            nodules.log_diameter - answers.log_diameter,
            known.log_diameter - usual.log_diameter,
        ),
        "axes": (nodules.log_axis - answers.log_axis, known.log_axis - usual.log_axis),
    }
    for name, (ratio, usual_ratio) in ratios.items():
        found += _sizes(name, ratio, usual_ratio, patients, limits, config)
    return found


def _sizes(
    name: str,
    ratio: Array,
    usual_ratio: Array,
    patients: Sequence[str],
    limits: Limits,
    config: BootstrapConfig,
) -> list[Check]:
    """Check the log of read / predicted, [N], of one kind of size; `usual_ratio`: reference set."""
    rows = np.isfinite(ratio)
    edge = float(np.log(limits.size_ratio))
    usual = usual_ratio[np.isfinite(usual_ratio)]
    most = limits.size_spread * half_spread(usual, usual)
    return [
        make_check(
            f"{name}: median log of read / predicted",
            estimate_by_patient(median, rows, patients, config, ratio, ratio),
            (-edge, edge),
            int(rows.sum()),
            limits,
            "the sizes that were read differ too much from the masks (are they diameters in mm?)",
        ),
        make_check(
            f"{name}: spread of the log of read / predicted",
            estimate_by_patient(half_spread, rows, patients, config, ratio, ratio),
            (0.0, most),
            int(rows.sum()),
            limits,
            "the sizes that were read are unrelated to the masks (are they of these nodules?)",
        ),
    ]


def complaints(found: Sequence[Check]) -> list[str]:
    """Return why the readings are refused, each reason once."""
    return list(dict.fromkeys(f.complaint for f in found if f.complaint))
