"""What is missing for a training, counted before it starts."""

from __future__ import annotations

from resmtnet.inference.model_folder import Model
from resmtnet.readings.patients import names_of
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.collect import collect
from resmtnet.retraining.retrain import RetrainConfig
from resmtnet.retraining.samples import split_by_patient
from resmtnet.training.carried_sets import read_reference


def missing(store: ReadingStore, parent: Model, config: RetrainConfig) -> str:
    """Return what is missing, as one sentence without its full stop; empty where nothing is.

    Args:
        store: the readings.
        parent: the served version.
        config: how would be trained.

    Raises:
        ModelError: the served version carries no reference set.
    """
    reference = parent.carried(read_reference)
    usable = collect(store.readings(every=True), parent, reference, config.evidence)
    if usable.count < config.least_readings:
        return f"{usable.count} readings can train, {config.least_readings} are needed"
    train, held_out = split_by_patient(usable.consensus)
    if not train:
        return "all readings are of patients who are held out or excluded from training"
    patients = len({one.patient_id for one in held_out})
    needed = config.margins.least_held_out_patients
    if patients < needed:
        return (
            f"{patients} of the patients with readings are held out to judge a new version, "
            f"{needed} are needed; go on reading"
        )
    return ""


def reference_names(parent: Model) -> frozenset[str]:
    """Return the names under which a site may know the patients of the reference set."""
    return frozenset(names_of(one.case.patient_id for one in parent.carried(read_reference)))
