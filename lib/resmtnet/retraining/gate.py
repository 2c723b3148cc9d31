"""Whether a candidate may be served: knowledge and habit are judged apart.

Knowledge is judged on the reference set, by what the candidate says without the habit of the site's
readers. Habit is judged on the site's own readings, by what versions say that learnt nothing from
the patient (cross_fit.py). Whether the readings are a habit and not mistakes is checked before
anything is learnt from them (reading_checks.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import MALIGNANCY
from resmtnet.data.consensus import malignant_share
from resmtnet.errors import InputError
from resmtnet.inference.model_folder import Model
from resmtnet.retraining.candidate import FineTuned
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions, bands
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import DEFAULT_MARGINS, Margins
from resmtnet.retraining.noninferiority import (
    AXIS_SPREAD,
    HABIT,
    KNOWLEDGE,
    SCORE_MAE,
    SIZE_SPREAD,
    losses,
)
from resmtnet.retraining.reading_check import Check
from resmtnet.retraining.reading_checks import check
from resmtnet.retraining.samples import Sample
from resmtnet.retraining.verdict import (
    Comparison,
    JudgedOn,
    Other,
    Rule,
    Verdict,
    describe_loss,
    not_published,
)
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import read_reference
from resmtnet.types import Array

BAND_EDGES_MM = (6.0, 10.0, 15.0)
IN_STRATA = (SCORE_MAE, SIZE_SPREAD, AXIS_SPREAD)
OTHERS: tuple[Other, ...] = ("parent", "shipped")


@dataclass(frozen=True, eq=False)
class Reference:
    """The reference set, and what the versions know of it: their answers without any habit."""

    held: Sequence[CachedNodule]
    """As the served version sees it."""
    nodules: ComparedNodules
    parent: Predictions
    shipped: Predictions

    @classmethod
    def of(cls, parent: Model, shipped: Model, held: Sequence[CachedNodule]) -> Reference:
        """Let the served and the shipped version answer.

        Raises:
            InputError: the shipped model has another reference set.
        """
        nodules = ComparedNodules.of(held)
        same = same_trunk(parent, shipped)
        by_shipped = held if same else reference_seen_by_shipped(shipped, held)
        at_first = knowledge(shipped, by_shipped, nodules)
        same_model = parent.info == shipped.info
        return cls(
            held, nodules, at_first if same_model else knowledge(parent, held, nodules), at_first
        )


@dataclass(frozen=True, eq=False)
class Site:
    """The site's nodules: what its readers say, and what the versions answer."""

    samples: tuple[Sample, ...]
    nodules: ComparedNodules
    parent: Predictions
    """As it is served, with the habit that it has learnt."""
    shipped: Predictions
    ratings: Array
    """[N, levels] logits of the shipped version's calibrated malignancy ratings."""

    @property
    def patients(self) -> set[str]:
        """Of the nodules."""
        return {sample.patient_id for sample in self.samples}

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        parent: Model,
        shipped: Model,
        shipped_saw: Sequence[CachedNodule] | None = None,
    ) -> Site:
        """Let the served and the shipped version answer.

        Args:
            samples: of the site, as the served version sees them.
            parent: the served version.
            shipped: the version that came with the package.
            shipped_saw: the same nodules as the shipped model sees them; needed where the served
                version has another feature extractor.

        Raises:
            InputError: the shipped model did not see the site's nodules.
        """
        held = [s.held for s in samples]
        if same_trunk(parent, shipped):
            shipped_saw = held
        if shipped_saw is None or len(shipped_saw) != len(held):
            raise InputError(
                f"The shipped model saw {len(shipped_saw or ())} of {len(held)} nodules of the "
                "site. It must see all of them, because it judges their readings."
            )
        votes = [s.consensus.votes for s in samples]
        nodules = ComparedNodules.of(held, [malignant_share(v) if v else None for v in votes])
        parent_says = LinearHeads.of(parent.networks).answer_all(held)
        shipped_says = LinearHeads.of(shipped.networks).answer_all(shipped_saw)
        calibration = shipped.calibration.without_habit()
        logits = [h.observation.outputs[MALIGNANCY.name] for h in shipped_says]
        return cls(
            tuple(samples),
            nodules,
            Predictions.of(nodules, parent_says, parent.calibration),
            Predictions.of(nodules, shipped_says, calibration),
            np.array(logits) / calibration.malignancy_temperature,
        )


def knowledge(
    model: Model | FineTuned, held: Sequence[CachedNodule], nodules: ComparedNodules
) -> Predictions:
    """Return what a version predicts without the habit of a site's readers."""
    answering = model if isinstance(model, FineTuned) else LinearHeads.of(model.networks)
    return Predictions.of(nodules, answering.answer_all(held), model.calibration.without_habit())


def same_trunk(one: Model, other: Model) -> bool:
    """Whether both versions see nodules in the same way."""
    return one is other or (
        LinearHeads.of(one.networks).trunk == LinearHeads.of(other.networks).trunk
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


def check_readings(
    site: Site, reference: Reference, known: set[str], margins: Margins = DEFAULT_MARGINS
) -> list[Check]:
    """Check a site's readings, before anything is learnt from them.

    Readings that the served version has not learnt from are also checked by themselves, since many
    good ones before them would hide them.

    Args:
        site: its readings.
        reference: tells how well the shipped model usually predicts readers.
        known: ids of the readings that the served version was trained on.
        margins: has the limits.
    """
    found = _check(site, reference, margins, np.arange(len(site.samples)))
    is_new = [not known.issuperset(s.consensus.reading_ids) for s in site.samples]
    new = np.flatnonzero(is_new)
    if known and len(new) >= margins.limits.least_nodules:
        found += _check(site, reference, margins, new, "new readings, ")
    return found


def _check(
    site: Site, reference: Reference, margins: Margins, index: NDArray[np.intp], which: str = ""
) -> list[Check]:
    limits = margins.limits
    if len({site.samples[n].patient_id for n in index}) < margins.least_patients_of_weights:
        enough_in_all = len(site.patients) >= margins.least_patients_of_weights
        of_few, of_new = limits.backwards_evidence_of_few, limits.backwards_evidence_of_new
        limits = replace(limits, backwards_evidence=of_new if enough_in_all else of_few)
    return check(
        [site.samples[n] for n in index],
        (site.nodules.rows(index), site.shipped.rows(index)),
        (reference.nodules, reference.shipped),
        site.ratings[index],
        limits,
        margins.strict,
        which,
    )


def judge(
    candidate: FineTuned,
    crossed: Predictions,
    site: Site,
    reference: Reference,
    margins: Margins = DEFAULT_MARGINS,
) -> Verdict:
    """Decide whether a candidate may be served.

    Args:
        candidate: the new version.
        crossed: what versions like it predict for the site's nodules that learnt nothing from the
            patient; NaN where there is none.
        site: the readings.
        reference: nodules that no version trained on.
        margins: what may be lost.
    """
    if too_small := _too_small(reference, margins):
        return Verdict("kept", not_published([too_small]), insufficient=True)
    comparisons, lost = [], []
    if not candidate.same_weights:
        said = knowledge(candidate, reference.held, reference.nodules)
        comparisons += compare_knowledge(said, reference, margins)
        lost += _no_longer_predicted(said, reference, margins)
    comparisons += compare_habit(crossed, site, margins)
    lost += [
        describe_loss(comparison, loss, margins)
        for comparison in comparisons
        for loss in comparison.losses
        if comparison.refuses(loss, margins)
    ]
    if lost:
        return Verdict("kept", not_published(lost), False, comparisons)
    return Verdict("published", "", False, comparisons)


def compare_knowledge(
    said: Predictions, reference: Reference, margins: Margins
) -> list[Comparison]:
    """Compare a candidate with the served and the shipped version on the reference set; see Rule.

    Args:
        said: what the candidate predicts without the habit of the site's readers.
        reference: what the others predict.
        margins: has the configuration of the bootstrap.
    """
    config, nodules, found = margins.bootstrap, reference.nodules, []
    others = [reference.parent, reference.shipped]
    for other, predictions in zip(OTHERS, others, strict=True):
        if other == "shipped" and reference.parent is reference.shipped:
            continue
        whole = losses(nodules, said, predictions, KNOWLEDGE, config=config)
        found.append(Comparison(JudgedOn.REFERENCE, None, other, Rule.NON_INFERIOR, whole))
        for name, rows in strata(nodules).items():
            part = losses(nodules, said, predictions, IN_STRATA, among=rows, config=config)
            found.append(Comparison(JudgedOn.REFERENCE, name, other, Rule.NO_SHOWN_LOSS, part))
    return [comparison for comparison in found if comparison.losses]


def compare_habit(crossed: Predictions, site: Site, margins: Margins) -> list[Comparison]:
    """Compare a candidate with the served version on the site's readings."""
    found = losses(site.nodules, crossed, site.parent, HABIT, config=margins.bootstrap)
    if not found:
        return []
    return [Comparison(JudgedOn.SITE, None, "parent", Rule.NO_SHOWN_LOSS, found)]


def strata(nodules: ComparedNodules) -> dict[str, NDArray[np.bool_]]:
    """Return the parts of the reference set that are also compared by themselves."""
    texture = np.array([str(case.texture_class) for case in nodules.cases])
    solid, unknown = texture == "solid", texture == "None"
    return {**bands(nodules, BAND_EDGES_MM), "solid": solid, "sub-solid": ~solid & ~unknown}


def _too_small(reference: Reference, margins: Margins) -> str:
    """Return that the reference set is too small; empty where it is not."""
    known = len(set(reference.nodules.patients))
    if known >= margins.least_reference_patients:
        return ""
    return (
        f"the reference set of the model has {known} patients, "
        f"{margins.least_reference_patients} are needed"
    )


def _no_longer_predicted(said: Predictions, reference: Reference, margins: Margins) -> list[str]:
    """Return which values the candidate lacks where the parent gives them, each once."""
    found = []
    for measure in KNOWLEDGE:
        before = measure.has_value(reference.parent)
        lost = int((before & ~measure.has_value(said)).sum())
        if lost > margins.unanswered * before.sum():
            verb = "nodule no longer gets" if lost == 1 else "nodules no longer get"
            found.append(f"{lost} of {before.sum()} reference {verb} {measure.quantity}")
    return list(dict.fromkeys(found))
