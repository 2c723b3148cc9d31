"""Whether a candidate may be served: it must not be worse, and its readings must be plausible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.errors import InputError
from resmtnet.inference.model_folder import Model
from resmtnet.retraining.candidate import FineTuned
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions, bands
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import DEFAULT_MARGINS, Margins
from resmtnet.retraining.noninferiority import (
    AUC,
    AXIS_ERROR,
    LOG_LOSS,
    MEASURES,
    SCORE_MAE,
    SIZE_ERROR,
    losses,
)
from resmtnet.retraining.reading_check import Check
from resmtnet.retraining.reading_checks import check, complaints
from resmtnet.retraining.samples import Sample, class_share
from resmtnet.retraining.verdict import (
    Comparison,
    Other,
    Population,
    Rule,
    Verdict,
    describe_gain,
    describe_loss,
    not_published,
)
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import read_reference

BAND_EDGES_MM = (6.0, 10.0, 15.0)
IN_STRATA = (SCORE_MAE, SIZE_ERROR, AXIS_ERROR)
ON_HELD_OUT = (AUC, LOG_LOSS, SCORE_MAE, SIZE_ERROR, AXIS_ERROR)
OTHERS: tuple[Other, ...] = ("parent", "shipped")


@dataclass(frozen=True)
class Table:
    """Nodules, and what the three versions predict for them."""

    nodules: ComparedNodules
    candidate: Predictions
    parent: Predictions
    shipped: Predictions


def judge(
    candidate: FineTuned,
    parent: Model,
    shipped: Model,
    reference: Sequence[CachedNodule],
    held_out: Sequence[Sample],
    margins: Margins = DEFAULT_MARGINS,
    shipped_saw: Sequence[CachedNodule] | None = None,
) -> Verdict:
    """Decide whether a candidate may be served.

    Args:
        candidate: the fine-tuned model.
        parent: the version it was trained from, which is served.
        shipped: the version that came with the package.
        reference: nodules that no version trained on, as the parent's folder has them.
        held_out: the site's samples of patients who never train.
        margins: what may be lost.
        shipped_saw: the nodules of candidate.samples and then of held_out, as the shipped model
            sees them; needed where the parent has another feature extractor than the shipped model.

    Raises:
        InputError: the shipped model has another reference set, or did not see the site's nodules.
    """
    site = [*candidate.samples, *held_out]
    seen = [sample.held for sample in site]
    if LinearHeads.of(shipped.networks).trunk == LinearHeads.of(parent.networks).trunk:
        reference_of_shipped, shipped_saw = list(reference), seen
    else:
        reference_of_shipped = reference_seen_by_shipped(shipped, reference)
    if shipped_saw is None or len(shipped_saw) != len(site):
        raise InputError(
            f"The shipped model saw {len(shipped_saw or ())} of {len(site)} nodules of the site. "
            "It must see all of them, because it judges their readings."
        )
    shares = [class_share(s.consensus.votes) if s.consensus.votes else None for s in site]
    known = parent_readings(parent)
    return decide(
        table_of(candidate, (parent, reference), (shipped, reference_of_shipped)),
        table_of(candidate, (parent, seen), (shipped, shipped_saw), shares),
        site,
        len(candidate.samples),
        margins,
        np.array([not known.issuperset(s.consensus.reading_ids) for s in site]) if known else None,
    )


def reference_seen_by_shipped(
    shipped: Model, reference: Sequence[CachedNodule]
) -> list[CachedNodule]:
    """Return the reference set as the feature extractor of the shipped model saw it.

    Raises:
        InputError: the shipped model has another reference set than the served version.
    """
    by_id = {one.case.id: one for one in shipped.carried(read_reference)}
    missing = [one.case.id for one in reference if one.case.id not in by_id]
    if missing:
        raise InputError(
            f"The shipped model cannot be compared with the served version: nodule {missing[0]} of "
            "the reference set is missing in the shipped model. Run `resmtnet model rollback "
            "--studies DIR --to shipped`, then train again."
        )
    return [by_id[one.case.id] for one in reference]


def parent_readings(parent: Model) -> set[str]:
    """Return the ids of the readings that a version was trained on; none for the shipped one."""
    return set(parent.provenance.get("readings", ()))


def table_of(
    candidate: FineTuned,
    parent: tuple[Model, Sequence[CachedNodule]],
    shipped: tuple[Model, Sequence[CachedNodule]],
    shares: Sequence[float | None] | None = None,
) -> Table:
    """Let the three versions predict the same nodules, each as its feature extractor saw them."""
    nodules = ComparedNodules.of(parent[1], shares)
    others = []
    for model, held in (parent, shipped):
        answered = LinearHeads.of(model.networks).answer_all(held)
        others.append(Predictions.of(nodules, answered, model.calibration))
    own = Predictions.of(nodules, candidate.answer_all(parent[1]), candidate.calibration)
    return Table(nodules, own, *others)


def decide(
    reference: Table,
    site: Table,
    samples: Sequence[Sample],
    trained: int,
    margins: Margins,
    new: NDArray[np.bool_] | None = None,
) -> Verdict:
    """Decide from what the three versions predict.

    Args:
        reference: on the reference set.
        site: on all of the site's samples, those that trained first.
        samples: the site's.
        trained: how many of them trained.
        margins: what may be lost.
        new: [N] samples with readings that the parent was not trained on. They are also checked by
            themselves, since many good ones before them would hide them. None: all are new.
    """
    held_out = np.arange(len(samples)) >= trained
    comparisons = compare(reference, site, held_out, margins)
    checks = _check(reference, site, samples, margins, np.arange(len(samples)))
    if new is not None and new.sum() >= margins.limits.least_nodules:
        checks += _check(reference, site, samples, margins, np.flatnonzero(new), "new readings, ")
    refused = complaints(checks)
    too_few, advice = _too_few(reference, site, held_out, margins)
    if too_few and not refused:
        return Verdict("kept", not_published([too_few], advice), True, comparisons, checks)
    lost = _no_longer_predicted(reference, margins) + [
        describe_loss(comparison, loss, margins)
        for comparison in comparisons
        for loss in comparison.losses
        if comparison.refuses(loss, margins)
    ]
    if refused or lost:
        return Verdict("kept", not_published(refused or lost), False, comparisons, checks)
    return Verdict("published", describe_gain(comparisons), False, comparisons, checks)


def compare(
    reference: Table, site: Table, held_out: NDArray[np.bool_], margins: Margins
) -> list[Comparison]:
    """Compare a candidate with the parent and the shipped version; see Rule.

    Args:
        reference: predictions on the reference set.
        site: predictions on the site's samples.
        held_out: [N] which of the site's samples did not train.
        margins: has the configuration of the bootstrap.
    """
    config = margins.bootstrap
    found = []
    for other in OTHERS:
        predictions = reference.parent if other == "parent" else reference.shipped
        pair = (reference.nodules, reference.candidate, predictions)
        whole = losses(*pair, config=config)
        found.append(Comparison(Population.REFERENCE, None, other, Rule.NON_INFERIOR, whole))
        for name, rows in strata(reference.nodules).items():
            part = losses(*pair, IN_STRATA, among=rows, config=config)
            found.append(Comparison(Population.REFERENCE, name, other, Rule.NO_SHOWN_LOSS, part))
    of_site = losses(
        site.nodules, site.candidate, site.parent, ON_HELD_OUT, among=held_out, config=config
    )
    found.append(Comparison(Population.HELD_OUT, None, "parent", Rule.NO_SHOWN_LOSS, of_site))
    return [comparison for comparison in found if comparison.losses]


def strata(nodules: ComparedNodules) -> dict[str, NDArray[np.bool_]]:
    """Return the parts of the reference set that are also compared by themselves."""
    texture = np.array([str(case.texture_class) for case in nodules.cases])
    solid, unknown = texture == "solid", texture == "None"
    return {**bands(nodules, BAND_EDGES_MM), "solid": solid, "sub-solid": ~solid & ~unknown}


def _check(
    reference: Table,
    site: Table,
    samples: Sequence[Sample],
    margins: Margins,
    index: NDArray[np.intp],
    which: str = "",
) -> list[Check]:
    """Check some of the readings against the shipped model and against one another."""
    return check(
        [samples[n] for n in index],
        (site.nodules.rows(index), site.shipped.rows(index)),
        (reference.nodules, reference.shipped),
        margins.limits,
        margins.strict,
        which,
    )


def _too_few(
    reference: Table, site: Table, held_out: NDArray[np.bool_], margins: Margins
) -> tuple[str, str]:
    """Return what evidence is missing, and what to do; two empty texts where nothing is."""
    known = len(set(reference.nodules.patients))
    patients = len({p for p, out in zip(site.nodules.patients, held_out, strict=True) if out})
    if known < margins.least_reference_patients:
        return (
            f"the reference set of the model has {known} patients, "
            f"{margins.least_reference_patients} are needed",
            "",
        )
    if patients < margins.least_held_out_patients:
        verb = "patient has" if patients == 1 else "patients have"
        return (
            f"{patients} held-out {verb} readings, {margins.least_held_out_patients} are needed",
            "Read nodules of more patients; a fifth of the patients is held out.",
        )
    return "", ""


def _no_longer_predicted(reference: Table, margins: Margins) -> list[str]:
    """Return which values the candidate lacks where the parent gives them, each once."""
    found = []
    for measure in MEASURES:
        before = measure.has_value(reference.parent)
        lost = int((before & ~measure.has_value(reference.candidate)).sum())
        if lost > margins.unanswered * before.sum():
            verb = "nodule no longer gets" if lost == 1 else "nodules no longer get"
            found.append(f"{lost} of {before.sum()} reference {verb} {measure.quantity}")
    return list(dict.fromkeys(found))
