"""Whether a candidate may be served: it is published, or kept back with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.inference.model_folder import Model
from resmtnet.retraining.finetune import FineTuned
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.noninferiority import (
    AUC,
    AXIS_ERROR,
    LOG_LOSS,
    MEASURES,
    SCORE_MAE,
    SIZE_ERROR,
    ComparedNodules,
    Loss,
    Predictions,
    bands,
    losses,
)
from resmtnet.retraining.reading_checks import Check, Limits, check, complaints
from resmtnet.retraining.samples import Sample, class_share
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import read_reference
from resmtnet.types import Json

Outcome = Literal["published", "kept"]
BAND_EDGES_MM = (6.0, 10.0, 15.0)


@dataclass(frozen=True)
class Margins:
    """What a candidate may lose, and on how much evidence: stated here and nowhere else."""

    class_auc: float = 0.01
    """Half of what the model gains over the best predictor from size alone in sub-solid nodules;
    about the standard error of the AUC on the reference set."""
    class_log_loss: float = 0.03
    """A tenth of the shipped model's."""
    score_mae: float = 0.03
    """Levels; 6% of the shipped model's, and far below the half level that readers differ by."""
    score_coverage: float = 0.03
    """Share of 90% intervals that fail in addition."""
    size_error: float = 0.015
    """Mean |log diameter|: 0.12 mm in a nodule of 8 mm. Of the axes the same, like all of size."""
    size_bias: float = 0.03
    """Log diameter: 3%, a quarter of what readers differ by."""
    size_coverage: float = 0.03
    """Share of 90% intervals that fail in addition."""
    axis_bias: float = 0.04
    """Log of a long axis, which readers draw less alike than volumes: a third of that."""
    unanswered: float = 0.01
    """Share of the reference set of which a figure was told before, and is told no more."""
    stratum_factor: float = 2.0
    """A size band or texture, being small, is refused only where it is shown to have lost, and
    more than so many margins."""
    least_reference_patients: int = 30
    """Below this there is no reference set to speak of; the shipped one has 187."""
    least_held_out_patients: int = 10
    """Patients with readings that never trained; fewer are insufficient evidence."""
    limits: Limits = field(default_factory=Limits)
    """What the readings themselves are held to."""
    bootstrap: BootstrapConfig = field(
        default_factory=lambda: BootstrapConfig(resamples=1000, confidence=0.9)
    )
    """Of the comparisons: the upper end is a one-sided 95% limit."""
    strict: BootstrapConfig = field(
        default_factory=lambda: BootstrapConfig(resamples=1000, confidence=0.99)
    )
    """Of the checks of readings, of which there are many."""

    def of(self, measure: str) -> float:
        """Return the margin of a figure; that of a diameter holds for axes that have none."""
        own = measure if hasattr(self, measure) else measure.replace("axis", "size")
        return float(getattr(self, own))


@dataclass(frozen=True)
class Verdict:
    """What was decided, why, and on which figures."""

    outcome: Outcome
    reason: str
    """One or more sentences for the user."""
    insufficient: bool = False
    """Kept for want of evidence, not because of it."""
    compared: Mapping[str, Mapping[str, Loss]] = field(default_factory=dict)
    """Losses by where and against what, such as "reference, against parent"."""
    readings: Sequence[Check] = ()
    """What the readings themselves were looked at for."""

    @property
    def published(self) -> bool:
        """The candidate may be served."""
        return self.outcome == "published"

    def to_json(self) -> Json:
        """Return plain values, for the train stats and the version's record."""
        return {
            "outcome": self.outcome,
            "reason": self.reason,
            "insufficient": self.insufficient,
            "compared": {
                where: {name: loss.to_json() for name, loss in found.items()}
                for where, found in self.compared.items()
            },
            "readings": [finding.to_json() for finding in self.readings],
        }


@dataclass(frozen=True)
class Table:
    """Nodules, and what the three versions say of them."""

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
    margins: Margins = Margins(),
) -> Verdict:
    """Decide whether a candidate may be served.

    Args:
        candidate: of fine_tune.
        parent: the version it was trained from, which is served.
        shipped: the version that came with the package.
        reference: nodules that no version trained on, as the parent's folder has them.
        held_out: the site's samples of patients who never train.
        margins: what may be lost.
    """
    site = [*candidate.samples, *held_out]
    shares = [class_share(s.said.votes) if s.said.votes else None for s in site]
    seen = [s.held for s in site]
    known = parent_readings(parent)
    if LinearHeads.of(shipped.networks).trunk == LinearHeads.of(parent.networks).trunk:
        theirs, judges = reference, shipped
    else:  # the shipped trunk saw its own reference set, and nothing of the site
        theirs, judges = shipped_sight(shipped, reference), parent
    return decide(
        table_of(candidate, (parent, reference), (shipped, theirs)),
        table_of(candidate, (parent, seen), (judges, seen), shares),
        site,
        len(candidate.samples),
        margins,
        np.array([not known.issuperset(s.said.reading_ids) for s in site]) if known else None,
    )


def shipped_sight(shipped: Model, reference: Sequence[CachedNodule]) -> list[CachedNodule]:
    """Return the reference set as the shipped trunk saw it.

    Raises:
        InputError: it came with another one than the served version.
    """
    by_id = {one.case.id: one for one in read_reference(shipped.folder)}
    missing = [one.case.id for one in reference if one.case.id not in by_id]
    if missing:
        raise InputError(
            f"the shipped model has another reference set than the served version ({missing[0]} is "
            "not in it), so that they cannot be compared: `resmtnet model rollback --studies DIR "
            "--to shipped`, then train again"
        )
    return [by_id[one.case.id] for one in reference]


def parent_readings(parent: Model) -> set[str]:
    """Return the ids of the readings that a version was trained on, empty for the shipped one."""
    return set(parent.provenance.get("readings", ()))


def table_of(
    candidate: FineTuned,
    parent: tuple[Model, Sequence[CachedNodule]],
    shipped: tuple[Model, Sequence[CachedNodule]],
    shares: Sequence[float | None] | None = None,
) -> Table:
    """Ask the three versions of the same nodules, each as its own trunk saw them."""
    nodules = ComparedNodules.of(parent[1], shares)
    others = []
    for model, held in (parent, shipped):
        said = LinearHeads.of(model.networks).answer_all(held)
        others.append(Predictions.of(nodules, said, model.calibration))
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
    """Decide on what the three versions say.

    Args:
        reference: on the reference set.
        site: on all of the site's samples, those that trained first.
        samples: the site's.
        trained: how many of them trained.
        margins: what may be lost.
        new: [N] samples with readings that the parent does not know; they are also looked at by
            themselves, since many good ones before would hide them. None: all.
    """
    out = np.arange(len(samples)) >= trained
    compared = _compared(reference, site, out, margins)
    looked = _look(reference, site, samples, margins)
    if new is not None and new.sum() >= margins.limits.least_nodules:
        looked += _look(reference, site, samples, margins, np.flatnonzero(new))
    complained, missing = complaints(looked), _missing(reference, site, out, margins)
    if missing and not complained:
        reason = f"insufficient evidence, kept: {missing}"
        return Verdict("kept", reason, True, compared, looked)
    reasons = complained or _unanswered(reference, margins) + _lost(compared, margins)
    if reasons:
        return Verdict("kept", "kept: " + "; ".join(reasons), False, compared, looked)
    return Verdict("published", _gain(compared), False, compared, looked)


def _look(
    reference: Table,
    site: Table,
    samples: Sequence[Sample],
    margins: Margins,
    index: NDArray[np.intp] | None = None,
) -> list[Check]:
    chosen = np.arange(len(samples)) if index is None else index
    return check(
        [samples[n] for n in chosen],
        (site.nodules.rows(chosen), site.shipped.rows(chosen)),
        (reference.nodules, reference.shipped),
        margins.limits,
        margins.strict,
        "" if index is None else "new readings, ",
    )


def _compared(
    reference: Table, site: Table, out: NDArray[np.bool_], margins: Margins
) -> dict[str, dict[str, Loss]]:
    config = margins.bootstrap
    found = {}
    for name in ("parent", "shipped"):
        other = getattr(reference, name)
        pair = (reference.nodules, reference.candidate, other)
        found[f"reference, against {name}"] = losses(*pair, config=config)
        for stratum, rows in strata(reference.nodules).items():
            found[f"reference, {stratum}, against {name}"] = losses(
                *pair, (SCORE_MAE, SIZE_ERROR, AXIS_ERROR), among=rows, config=config
            )
    pair = (site.nodules, site.candidate, site.parent)
    found["held-out readings, against parent"] = losses(
        *pair, (AUC, LOG_LOSS, SCORE_MAE, SIZE_ERROR, AXIS_ERROR), among=out, config=config
    )
    return {where: loss for where, loss in found.items() if loss}


def strata(nodules: ComparedNodules) -> dict[str, NDArray[np.bool_]]:
    """Return the parts of the reference set that are looked at by themselves."""
    texture = np.array([str(case.texture_class) for case in nodules.cases])
    solid, unknown = texture == "solid", texture == "None"
    return {**bands(nodules, BAND_EDGES_MM), "solid": solid, "sub-solid": ~solid & ~unknown}


def _missing(reference: Table, site: Table, out: NDArray[np.bool_], margins: Margins) -> str:
    known = len(set(reference.nodules.patients))
    patients = len({p for p, held in zip(site.nodules.patients, out, strict=True) if held})
    if known < margins.least_reference_patients:
        return (
            f"the reference set has {known} patients, {margins.least_reference_patients} are needed"
        )
    if patients < margins.least_held_out_patients:
        return (
            f"readings of {patients} held-out patients, {margins.least_held_out_patients} are "
            "needed: read nodules of more patients (a fifth of them is held out)"
        )
    return ""


def _unanswered(reference: Table, margins: Margins) -> list[str]:
    """Return the figures that the candidate owes of nodules of which the parent tells them."""
    found = []
    for measure in MEASURES:
        told, before = (
            np.isfinite(measure.answer(a).reshape(len(reference.nodules.patients), -1)).all(1)
            for a in (reference.candidate, reference.parent)
        )
        count = int((before & ~told).sum())
        if count > margins.unanswered * before.sum():
            found.append(
                f"{measure.name}: {count} of {int(before.sum())} nodules get none any more"
            )
    return found


def _lost(compared: Mapping[str, Mapping[str, Loss]], margins: Margins) -> list[str]:
    """Return what speaks against the candidate."""
    found = []
    for where, by_measure in compared.items():
        for loss in by_measure.values():
            margin = margins.of(loss.measure)
            if where.startswith("reference, against"):
                bad = not loss.high <= margin
            else:
                bad = loss.low > 0 and loss.value > margins.stratum_factor * margin
            if bad:
                found.append(
                    f"{loss.measure} {loss.other:.3f} -> {loss.candidate:.3f} on the {where} "
                    f"(worse by {loss.value:.3f}, {loss.low:.3f} to {loss.high:.3f}; "
                    f"allowed {margin:g})"
                )
    return found


def _gain(compared: Mapping[str, Mapping[str, Loss]]) -> str:
    site = compared.get("held-out readings, against parent", {})
    gains = [
        f"{loss.measure} {loss.other:.3f} -> {loss.candidate:.3f}"
        for loss in site.values()
        if loss.value < 0
    ]
    said = ", ".join(gains) if gains else "no figure better"
    return f"published: not worse on the reference set; on held-out readings {said}"
