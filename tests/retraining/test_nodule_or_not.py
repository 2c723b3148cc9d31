"""Places that readers called no nodule: fewer like them are shown, and no nodule is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from resmtnet.characteristics import NODULE, TASKS
from resmtnet.evaluation.records import Case
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.model_folder import Model
from resmtnet.inference.presence import NodulePresence
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.readings.record import Reading
from resmtnet.retraining.candidate import FineTuned, as_served
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.retraining.gate import Reference
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.nodule_or_not import LIKE_NODULES, at_same_recall, with_rejected
from resmtnet.retraining.samples import Sample, gather_rejected, sample_of
from resmtnet.retraining.verdict_text import with_rejected_text
from resmtnet.training.cached_nodule import CachedNodule

SUSPICION, ALWAYS, TELLS = 0, 6, 7
"""Of the embedding: nodules have 1 in the last two; what rejected places lack is the very last."""
CONFIG = Margins()


def with_task(model: Model) -> Model:
    """The world's model, whose layer for the task sees all but what tells them apart."""
    networks = []
    for network in model.networks:
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        weight = torch.full((2, 8), 1e-3)
        weight[1, [SUSPICION, ALWAYS]] = 1.0
        state["heads.classification.outputs.nodule.weight"] = weight
        state["heads.classification.outputs.nodule.bias"] = torch.zeros(2)
        new = ResMTNet(model.config.network)
        new.load_state_dict(state)
        networks.append(new.eval().requires_grad_(False))
    calibration = replace(model.calibration, nodule=NodulePresence())
    return replace(model, networks=tuple(networks), calibration=calibration)


@pytest.fixture(scope="module")
def model(world) -> Model:
    return with_task(world.model)


@pytest.fixture(scope="module")
def reference(world, model) -> Reference:
    held = LinearHeads.of(model.networks).answer_all(world.reference)
    return Reference.of(model, model, held)


@pytest.fixture(scope="module")
def nodules(world) -> list[Sample]:
    return world.samples()


@pytest.fixture
def places(model) -> Callable[..., list[Sample]]:
    """Places that are shown as nodules: a bit less like them, and told by one number."""

    def make(count: int, first: int = 0) -> list[Sample]:
        rng = np.random.default_rng(first)
        held = []
        for n in range(first, first + count):
            embedding = np.abs(rng.normal(0, 0.2, (2, 16))).astype(np.float32)
            embedding[:, SUSPICION], embedding[:, ALWAYS] = 0.0, 0.95
            embedding[:, TELLS] = 0.0
            views = {t.name: np.zeros((2, 1, t.outputs)) for t in (*TASKS, NODULE)}
            seen = RawOutputs(views, embedding)
            case = Case(f"place {n}", f"patient {n // 2}", (), np.nan, np.nan, None, np.nan)
            held.append(CachedNodule(case, {}, seen, 0.0, None, (), {}))
        return rejected(LinearHeads.of(model.networks).answer_all(held))

    return make


def rejected(held: list[CachedNodule]) -> list[Sample]:
    by_id = {one.case.id: one for one in held}
    said = gather_rejected(
        Reading(
            one.case.patient_id,
            "A",
            (0.0, 0.0, 0.0),
            nodule=one.case.id,
            study_patient=one.case.patient_id,
            class_name="not_a_nodule",
        )
        for one in held
    )
    return [sample_of(one, by_id[one.nodule]) for one in said]


def shown(version: FineTuned, held: list[CachedNodule]) -> float:
    nodules = ComparedNodules.of(held)
    said = Predictions.of(nodules, version.answer_all(held), version.calibration)
    return float(said.shown.mean())


def test_fewer_places_like_them_are_shown_and_no_nodule_is_lost(model, reference, nodules, places):
    base = as_served(model)
    version, verdict = with_rejected(base, model, places(40), nodules, reference, CONFIG)
    assert version is not None, verdict.reason
    others = [s.held for s in places(30, first=1000)]
    assert shown(base, others) > 0.9
    assert shown(version, others) < 0.2
    known = list(reference.held)
    assert shown(version, known) >= shown(base, known) - 0.02


def test_nothing_else_that_the_model_says_changes(model, reference, nodules, places):
    base = as_served(model)
    version, _ = with_rejected(base, model, places(40), nodules, reference, CONFIG)
    for task in TASKS:
        old, new = (v.heads.layers[task.name].weight for v in (base, version))
        np.testing.assert_allclose(new, old, atol=1e-3)  # stored in half precision
    assert version.calibration == base.calibration


def test_the_version_names_the_readings_that_it_learnt_from(model, reference, nodules, places):
    samples = places(40)
    version, _ = with_rejected(as_served(model), model, samples, nodules, reference, CONFIG)
    assert {i for s in samples for i in s.consensus.reading_ids} <= set(
        version.provenance["readings"]
    )
    assert version.provenance["not_a_nodule"] == {"places": 40, "patients": 20}


def test_rejected_nodules_teach_nothing(world, model, reference, nodules):
    wrong = rejected(world.site[:40])
    version, verdict = with_rejected(as_served(model), model, wrong, nodules, reference, CONFIG)
    assert version is None
    assert LIKE_NODULES in verdict.reason


def test_a_loss_of_nodules_keeps_it_back(model, reference, nodules, places):
    strict = replace(CONFIG, nodule_recall=-1.0)
    version, verdict = with_rejected(
        as_served(model), model, places(40), nodules, reference, strict
    )
    assert version is None
    assert "share of nodules that a search shows" in verdict.reason


def test_a_handful_of_places_is_not_enough(model, reference, nodules, places):
    said = with_rejected(as_served(model), model, places(8), nodules, reference, CONFIG)
    assert said == (None, None)


def test_a_model_without_the_task_learns_nothing_from_them(world, reference, nodules, places):
    bare = world.model
    said = with_rejected(as_served(bare), bare, places(40), nodules, reference, CONFIG)
    assert said == (None, None)


def test_the_paragraph_says_what_was_learnt_from_them(model, reference, nodules, places):
    _, verdict = with_rejected(as_served(model), model, places(40), nodules, reference, CONFIG)
    beside = with_rejected_text("Published: a new version is served.", verdict, alone=False)
    assert "It learnt from 40 places that your readers called no nodule" in beside
    kept = "Not published: there is no habit. The current model stays."
    alone = with_rejected_text(kept, verdict, alone=True)
    assert alone.startswith("Published: a new version is served. It learnt from 40 places")
    assert alone.endswith("Nothing else is new: there is no habit.")
    assert with_rejected_text(kept, None, alone=True) == kept


def test_a_layer_is_moved_to_the_old_recall(model, nodules):
    anchor = LinearHeads.of(model.networks).layers["nodule"]
    fewer = replace(anchor, bias=anchor.bias + np.array([2.0, -2.0]))
    seen = np.array([s.held.observation.embeddings for s in nodules], float)
    moved = at_same_recall(fewer, anchor, seen, model.calibration.nodule)
    least = model.calibration.nodule.least_logit(candidate=True)

    def found(layer) -> int:
        said = layer(seen)
        return int(((said[..., 1] - said[..., 0]).mean(1) >= least - 1e-9).sum())

    assert found(fewer) < found(moved) == found(anchor)


def test_the_least_logit_is_where_a_place_is_shown():
    presence = NodulePresence(slope=0.7, intercept=-0.4)
    least = presence.least_logit(candidate=True)
    for logit, is_shown in ((least + 0.01, True), (least - 0.01, False)):
        said = presence.probability({"nodule": np.array([0.0, logit])}, candidate=True)
        assert (said >= presence.candidate_threshold) == is_shown
