"""Learns from places that a site's readers called no nodule, and judges what came of it.

Only the output layer of the task "nodule or not" is trained: no other answer changes. The rejected
places are its hard negatives; the nodules of the site and the replayed ones are what it must keep.
It is published with, or without, whatever else was learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resmtnet.characteristics import NODULE
from resmtnet.inference.model_folder import Model
from resmtnet.inference.presence import NodulePresence, nodule_logit
from resmtnet.retraining.candidate import FineTuned
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.retraining.cross_fit import fold_of_each
from resmtnet.retraining.finetune import rounded
from resmtnet.retraining.fit_heads import replayed
from resmtnet.retraining.gate import OTHERS, Reference, knowledge
from resmtnet.retraining.linear_heads import OUTPUTS, Linear, LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.noninferiority import RECALL, SHOWN, losses
from resmtnet.retraining.samples import Sample
from resmtnet.retraining.verdict import (
    Comparison,
    JudgedOn,
    Rule,
    Verdict,
    describe_loss,
    not_published,
)
from resmtnet.types import Array

FOLDS = 5
STEPS = 100
PULL = 0.01
"""Weight of the squared distance to the shipped layer, times 100 / places: chosen on the
development patients of benchmarks/hard_negatives.py."""
LEAST_PLACES, LEAST_PATIENTS = 10, 5
"""With fewer nothing is learnt from them."""
LEAST_AUC = 0.75
"""Of reference nodules and rejected places, by the shipped model: rejected nodules give 0.5."""
LEAST_GAIN = 0.25
"""By how much the share of rejected places that a search shows must be shown to fall. They were
rejected because they were shown: any other layer shows fewer of them, and more of the others."""
LIKE_NODULES = (
    "the places that your readers called no nodule look like nodules (were nodules rejected?)"
)
NO_GAIN = "it is not shown that fewer places like them would be shown (reject more of them)"


def with_rejected(
    base: FineTuned,
    shipped: Model,
    rejected: Sequence[Sample],
    nodules: Sequence[Sample],
    reference: Reference,
    margins: Margins,
) -> tuple[FineTuned | None, Verdict | None]:
    """Return a version that also learnt from rejected places, and what was decided.

    Args:
        base: what would be served without them.
        shipped: the version that came with the package, to whose layer the new one is held close.
        rejected: the places.
        nodules: the site's, which must stay recognised.
        reference: nodules that no version trained on.
        margins: what may be lost.

    Returns:
        No version where it may not be served; no verdict either where there was nothing to learn,
        or the model has no such task.
    """
    presence = base.calibration.nodule
    if presence is None or not enough(rejected) or not _same_trunk(base, shipped):
        return None, None
    heads = LinearHeads.of(shipped.networks)
    if looks_like_nodules(heads, rejected, reference):
        return None, Verdict("kept", not_published([LIKE_NODULES]))
    anchor, own, absent = heads.layers[NODULE.name], _seen(nodules), _seen(rejected)
    present = np.concatenate([own, replayed(base.parent)[0].numpy()])

    def trained(places: Array) -> FineTuned:
        layer = fit_layer(anchor, present, places, presence)
        return with_layer(base, at_same_recall(layer, anchor, own, presence))

    candidate, truth = trained(absent), ComparedNodules.of([s.held for s in rejected])
    place = fold_of_each([s.patient_id for s in rejected], FOLDS)
    parts = []
    for fold in sorted(set(place.tolist())):
        index = np.flatnonzero(place == fold)
        held = trained(absent[place != fold]).answer_all([rejected[n].held for n in index])
        parts.append((index, Predictions.of(truth.rows(index), held, base.calibration)))
    crossed = Predictions.joined(len(rejected), parts)
    held = base.answer_all([s.held for s in rejected])
    before = Predictions.of(truth, held, base.calibration)
    verdict = judge_layer(candidate, truth, crossed, before, reference, margins)
    if not verdict.published:
        return None, verdict
    return learnt_from(candidate, rejected), verdict


def enough(rejected: Sequence[Sample]) -> bool:
    """Whether there are so many rejected places that anything can be learnt from them."""
    return len(rejected) >= LEAST_PLACES and len({s.patient_id for s in rejected}) >= LEAST_PATIENTS


def judge_layer(
    candidate: FineTuned,
    truth: ComparedNodules,
    crossed: Predictions,
    before: Predictions,
    reference: Reference,
    margins: Margins,
) -> Verdict:
    """Decide whether a new layer may be served: it must show no fewer nodules, and fewer places.

    Args:
        candidate: with the new layer.
        truth: the rejected places.
        crossed: what layers say of them that learnt nothing from the patient.
        before: what is said of them without the new layer.
        reference: nodules that no version trained on.
        margins: what may be lost.
    """
    said = knowledge(candidate, reference.held, reference.nodules)
    config, found = margins.bootstrap, []
    for other, answers in zip(OTHERS, (reference.parent, reference.shipped), strict=True):
        lost = losses(reference.nodules, said, answers, (RECALL,), config=config)
        found.append(Comparison(JudgedOn.REFERENCE, None, other, Rule.NON_INFERIOR, lost))
    shown = losses(truth, crossed, before, (SHOWN,), config=config)
    found.append(Comparison(JudgedOn.SITE, None, "parent", Rule.NO_SHOWN_LOSS, shown))
    wrong = [
        describe_loss(comparison, loss, margins)
        for comparison in found
        for loss in comparison.losses
        if comparison.refuses(loss, margins)
    ]
    if not wrong and not any(loss.high < -LEAST_GAIN for loss in shown):
        wrong = [NO_GAIN]
    if wrong:
        return Verdict("kept", not_published(wrong), False, found)
    return Verdict("published", "", False, found)


def looks_like_nodules(
    shipped: LinearHeads, rejected: Sequence[Sample], reference: Reference
) -> bool:
    """Whether the shipped model does not tell rejected places from reference nodules."""
    known, places = (
        np.array([nodule_logit(h.observation.outputs) for h in shipped.answer_all(held)])
        for held in (reference.held, [s.held for s in rejected])
    )
    above = known[:, None] - places[None]
    return float(np.mean((above > 0) + 0.5 * (above == 0))) < LEAST_AUC


def fit_layer(anchor: Linear, present: Array, absent: Array, presence: NodulePresence) -> Linear:
    """Return the layer of least log loss near another one; nodules and places weigh the same.

    Args:
        anchor: the layer that is held on to.
        present: [N, members, D] embeddings of nodules.
        absent: [M, members, D] of other places.
        presence: calibration of its logit.
    """
    from scipy.optimize import minimize

    pull = PULL * 100 / len(absent)
    truth = np.concatenate([np.ones(len(present)), np.zeros(len(absent))])
    weight = np.where(truth > 0, 0.5 / len(present), 0.5 / len(absent))
    weights, biases = anchor.weight.copy(), anchor.bias.copy()
    for member in range(len(weights)):
        visible = np.flatnonzero(anchor.weight[member].any(0))  # of its own branch
        seen = np.concatenate([present[:, member], absent[:, member]])[:, visible].astype(float)
        first = seen @ (weights[member, 1] - weights[member, 0])[visible]
        first = first + biases[member, 1] - biases[member, 0]

        def loss_and_slope(
            move: Array, seen: Array = seen, first: Array = first
        ) -> tuple[float, Array]:
            logit = presence.slope * (first + seen @ move[:-1] + move[-1]) + presence.intercept
            lost = np.logaddexp(0, logit) - truth * logit
            slope = weight * (1 / (1 + np.exp(-np.clip(logit, -50, 50))) - truth) * presence.slope
            return (
                float(weight @ lost + pull * move @ move),
                np.append(slope @ seen, slope.sum()) + 2 * pull * move,
            )

        found = minimize(
            loss_and_slope,
            np.zeros(len(visible) + 1),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": STEPS},
        ).x
        for row, sign in ((0, -0.5), (1, 0.5)):
            weights[member, row, visible] += sign * found[:-1]
            biases[member, row] += sign * found[-1]
    return Linear(weights, biases)


def at_same_recall(
    layer: Linear, anchor: Linear, nodules: Array, presence: NodulePresence
) -> Linear:
    """Return a layer whose bias is moved so that a search shows as many nodules as before.

    Rejected places are all of the shown kind: a layer that was fitted to them and to nodules alone
    would show less of both.

    Args:
        layer: the new one.
        anchor: the one before.
        nodules: [N, members, D] embeddings of nodules that the feature extractor never trained on.
        presence: calibration of the logit.
    """
    new, old = (
        np.sort((said[..., 1] - said[..., 0]).mean(1))[::-1]
        for said in (layer(nodules), anchor(nodules))
    )
    least = presence.least_logit(candidate=True)
    shown = int((old >= least).sum())
    if not shown:
        return layer
    move = (least - new[shown - 1]) * np.array([-0.5, 0.5])
    return Linear(layer.weight, layer.bias + move)


def with_layer(base: FineTuned, layer: Linear) -> FineTuned:
    """Return a version with another layer of the task; what is judged is what is stored."""
    branches = base.parent.networks[0].names
    states = tuple(
        rounded(_replaced(state, layer, member, branches))
        for member, state in enumerate(base.states)
    )
    return replace(
        base, states=states, heads=LinearHeads.of_states(states, branches, base.heads.trunk)
    )


def _replaced(
    state: Mapping[str, Tensor], layer: Linear, member: int, branches: Sequence[str]
) -> dict[str, Tensor]:
    name = f"heads.{NODULE.branch}{OUTPUTS}{NODULE.name}"
    new, width = dict(state), state[f"{name}.weight"].shape[1]
    start = list(branches).index(NODULE.branch) * width
    weight: NDArray[np.float64] = layer.weight[member][:, start : start + width]
    new[f"{name}.weight"] = torch.from_numpy(weight.copy()).to(state[f"{name}.weight"])
    new[f"{name}.bias"] = torch.from_numpy(layer.bias[member].copy()).to(state[f"{name}.bias"])
    return new


def learnt_from(version: FineTuned, rejected: Sequence[Sample]) -> FineTuned:
    """Return a version that names the readings of rejected places in its provenance."""
    ids = {i for s in rejected for i in s.consensus.reading_ids}
    known = set(version.provenance.get("readings", ()))
    patients = len({s.patient_id for s in rejected})
    more = {
        "readings": sorted(known | ids),
        "not_a_nodule": {"places": len(rejected), "patients": patients},
    }
    return replace(version, provenance={**version.provenance, **more})


def _same_trunk(base: FineTuned, shipped: Model) -> bool:
    """Whether a version sees nodules as the shipped one does, which has the task."""
    heads = LinearHeads.of(shipped.networks)
    return NODULE.name in heads.layers and heads.trunk == base.heads.trunk


def _seen(samples: Sequence[Sample]) -> Array:
    return np.array([s.held.observation.embeddings for s in samples], float)
