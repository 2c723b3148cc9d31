"""The nodules of a site: seen by the served version, and by the shipped model that judges them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from resmtnet.errors import VolumeError
from resmtnet.inference.model_folder import Model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.readings.record import Reading
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.samples import gather
from resmtnet.retraining.site_samples import SiteSamples, look_at_nodules

CENTRE = (-75.0, 0.0, 20.0)


@pytest.fixture
def retrained(seeing_model) -> Model:
    """A version whose feature extractor is another than that of the shipped model."""
    network = ResMTNet(seeing_model.config.network)
    state = seeing_model.networks[0].state_dict()
    network.load_state_dict({**state, "stem.0.weight": state["stem.0.weight"] + 0.1})
    return replace(seeing_model, networks=(network.eval().requires_grad_(False),))


@pytest.fixture
def patients() -> list[str]:
    return ["P0", "P1", "P2"]


@pytest.fixture
def looked(ct, tmp_path, seeing_model, patients):
    """Lets a version and the shipped model look at a nodule of each patient."""
    gone: set[str] = set()

    def open_ct(image: str):
        if image in gone:
            raise VolumeError(f"There is no image {image}.")
        return ct

    def look(parent: Model, shipped: Model = seeing_model) -> SiteSamples:
        said = gather(
            Reading(p, "A", CENTRE, nodule="1", malignancy=4, study_patient=p) for p in patients
        )
        return look_at_nodules(
            said, parent, shipped, tmp_path, open_ct, "cpu", lambda done, of: None
        )

    look.gone = gone
    return look


def test_the_nodules_of_all_patients_train_and_judge(looked, seeing_model, patients):
    site = looked(seeing_model)
    assert [s.patient_id for s in site.samples] == patients
    assert site.skipped == ()


def test_places_called_no_nodule_are_apart_from_what_trains_nodules(looked, seeing_model, patients):
    site = looked(seeing_model)
    (second,) = (s.consensus.id for s in site.samples if s.patient_id == patients[1])
    nodules, rejected = site.split({second})
    assert [s.patient_id for s in nodules.samples] == [patients[0], patients[2]]
    assert len(nodules.shipped_saw) == 2
    assert [s.patient_id for s in rejected] == [patients[1]]


def test_a_version_with_the_shipped_feature_extractor_looks_once(looked, seeing_model):
    site = looked(seeing_model)
    assert site.shipped_saw == [s.held for s in site.samples]


def test_the_shipped_model_sees_the_same_nodules_in_the_same_order(
    looked, seeing_model, retrained, patients
):
    site = looked(retrained)
    assert [held.case.patient_id for held in site.shipped_saw] == patients
    own = LinearHeads.of(seeing_model.networks)
    for held, sample in zip(site.shipped_saw, site.samples, strict=True):
        seen, theirs = held.observation.embeddings, sample.held.observation.embeddings
        assert not np.allclose(seen, theirs)
        told = own.answer(held).observation.outputs["class"]
        np.testing.assert_allclose(held.observation.outputs["class"], told, atol=1e-5)


def test_a_nodule_that_the_shipped_model_cannot_see_neither_trains_nor_judges(
    looked, retrained, patients
):
    looked(retrained, retrained)  # the retrained version has seen all of them before
    looked.gone.add(patients[0])
    site = looked(retrained)
    assert [s.patient_id for s in site.samples] == patients[1:]
    assert len(site.shipped_saw) == 2
    assert site.skipped == (f"{patients[0]}/1: There is no image {patients[0]}.",)
