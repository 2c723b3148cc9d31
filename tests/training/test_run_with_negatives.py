"""A whole experiment with places without a nodule: trained, calibrated, written, read back."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resmtnet.config import AugmentConfig, NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.data import archive
from resmtnet.data.archive import Archive
from resmtnet.errors import ArchiveError, ConfigError, ModelError
from resmtnet.inference.characterizer import Characterizer
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.model_folder import read_model
from resmtnet.training.calibrate import fit_presence
from resmtnet.training.cross_validation import cross_validate, load_answers
from resmtnet.training.run import run_experiment

CONFIG = TrainingConfig(
    epochs=20,
    learning_rate=1e-2,
    ema_decay=0.9,
    batch_size=4,
    negative_share=1.0,
    calibration_folds=(0, 1),
    reference_folds=(2,),
    context_variants=1,
    network=NetworkConfig(widths=(4, 4, 4), hidden=8, mask=False, nodule_task=True),
    patch=PatchConfig(size_px=16, mask_size_px=16, offsets_mm=(-2.0, 0.0, 2.0)),
    augment=AugmentConfig(thickness_share=0.0),
)


@pytest.fixture(scope="module")
def negatives(small_archive, tmp_path_factory) -> Archive:
    """Noise where the balls are, and the same patients."""

    def crops():
        for nodule in small_archive.nodules:
            noise = np.random.default_rng(len(nodule.id)).normal(-850, 20, nodule.shape_kji)
            empty = np.zeros(nodule.shape_kji, np.uint8)
            own = replace(
                nodule, id=f"{nodule.id}-lung", ratings={}, mask_readers=0, nodule_label=0,
                volume_mm3=float("nan"), long_axis_mm=float("nan"),
            )  # fmt: skip
            yield own, noise.astype(np.int16), empty

    path = tmp_path_factory.mktemp("archive") / "lung"
    archive.write(path, crops(), {"data": "synthetic lung"})
    return Archive.open(path)


@pytest.fixture(scope="module")
def written(small_archive, negatives, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("experiment")
    run_experiment(small_archive, CONFIG, out, version="4", negatives=[negatives])
    return out / "model"


def test_the_model_tells_nodules_from_other_places(written):
    model = read_model(written)
    presence = model.calibration.nodule
    assert presence is not None
    assert presence.slope > 0
    assert "nodule" in model.networks[0].heads["classification"].outputs
    assert Characterizer(model).info.version == "4"


def test_the_model_lists_every_patient_with_the_part(written, small_archive):
    with (written / "patients.csv").open(newline="") as file:
        parts = {row["patient_id"]: row["part"] for row in csv.DictReader(file)}
    assert set(parts) == {nodule.patient_id for nodule in small_archive.nodules}
    assert {parts[n.patient_id] for n in small_archive.nodules if n.split == "val"} == {"reference"}
    folds = {n.fold for n in small_archive.nodules if parts[n.patient_id] == "train"}
    assert folds == {3, 4}


def test_a_network_that_does_not_tell_them_apart_is_refused(held):
    def said(logit: float) -> RawOutputs:
        views = {"nodule": np.broadcast_to(np.array([0.0, logit]), (1, 4, 2))}
        return RawOutputs(views, np.zeros((1, 4), np.float32))

    nodules = [replace(h, observation=said(n % 3 - 1.0)) for n, h in enumerate(held)]
    with pytest.raises(ModelError, match="train longer"):
        fit_presence(nodules, [said(n % 3) for n in range(20)])
    with pytest.raises(ModelError, match="no negatives"):
        fit_presence(nodules, [])


def test_the_task_and_negatives_come_together(small_archive, negatives, tmp_path):
    without = replace(
        CONFIG, negative_share=0.0, network=replace(CONFIG.network, nodule_task=False)
    )
    with pytest.raises(ArchiveError, match="nodule_task is False"):
        run_experiment(small_archive, without, tmp_path / "a", version="4", negatives=[negatives])
    with pytest.raises(ArchiveError, match="not given"):
        run_experiment(small_archive, CONFIG, tmp_path / "b", version="4")
    with pytest.raises(ConfigError, match="negative_share"):
        replace(CONFIG, negative_share=0.0)


def test_a_cross_validation_tells_nodules_out_of_fold(small_archive, negatives, tmp_path):
    quick = replace(CONFIG, epochs=1)
    cross_validate(small_archive, quick, tmp_path, group_size=3, negatives=[negatives])
    answers = load_answers(tmp_path)
    assert len(answers) == 20
    assert {one.observation.outputs["nodule"].shape for one in answers} == {(2,)}


def test_negatives_to_train_on_are_needed(small_archive, negatives, tmp_path):
    apart = tuple(replace(place, fold=0) for place in negatives.nodules)
    with pytest.raises(ArchiveError, match="have 0 places to train on"):
        run_experiment(
            small_archive,
            CONFIG,
            tmp_path,
            version="4",
            negatives=[replace(negatives, nodules=apart)],
        )


def test_a_nodule_is_no_negative(small_archive, tmp_path):
    with pytest.raises(ArchiveError, match="24 nodules, N0 for one"):
        run_experiment(small_archive, CONFIG, tmp_path, version="4", negatives=[small_archive])
