"""The trainer at depth full, which needs the archive that the model was trained on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resmtnet.config import AugmentConfig, NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import write_nifti
from resmtnet.data import archive as archives
from resmtnet.data.archive import Archive, Crop
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.monai_label.infer import SharedCharacterizer
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.served_model import served_model
from resmtnet.monai_label.settings import AppSettings
from resmtnet.monai_label.trainer import ResMTNetTrainer
from resmtnet.readings.location import database_in
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.samples import is_held_out
from resmtnet.training.carried_sets import read_reference, read_replay
from resmtnet.training.run import run_experiment

EAGER = {"min_readings": 5, "min_patients": 3, "min_patients_of_weights": 3, "epochs": 1}
"""Options with which six readings are enough."""
LENIENT = {"auc_margin": 0.05, "score_margin": 0.2, "size_margin": 0.1}
"""For a model of a few weights."""
CONFIG = TrainingConfig(
    epochs=1,
    batch_size=8,
    calibration_folds=(1,),
    reference_folds=(2,),
    context_variants=1,
    network=NetworkConfig(widths=(4, 4, 4), hidden=8, mask=False),
    patch=PatchConfig(size_px=16, mask_size_px=16, offsets_mm=(-2.0, 0.0, 2.0)),
    augment=AugmentConfig(thickness_share=0.0),
)
FOLDS = (0,) * 10 + (1,) * 14 + (2,) * 32
"""Of the nodules of the archive: to train on, of the calibration, of the reference set."""


@pytest.fixture(scope="module")
def archive(small_archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """The balls of the small archive, some of them twice or thrice, each of a patient."""

    def crops() -> Iterator[Crop]:
        nodules = itertools.cycle(small_archive.nodules)
        for n, (fold, nodule) in enumerate(zip(FOLDS, nodules, strict=False)):
            own = replace(nodule, id=f"B{n}", patient_id=f"B{n}", fold=fold, split="train")
            yield own, small_archive.voxels_hu(nodule), small_archive.mask(nodule)

    path = tmp_path_factory.mktemp("archive") / "copies"
    archives.write(path, crops(), {"data": "synthetic balls"})
    return Archive.open(path)


@pytest.fixture(scope="module")
def model(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of few weights, written as `resmtnet train` does."""
    out = tmp_path_factory.mktemp("experiment")
    run_experiment(archive, CONFIG, out, version="2")
    return out / "model"


@pytest.fixture
def studies(tmp_path: Path, phantom: Phantom) -> Path:
    """Six CTs with a reading each, of a patient of its own; the first never trains."""
    folder = tmp_path / "studies"
    folder.mkdir()
    x, y, z = phantom.nodules[0].centre_lps_mm
    names = [f"P{n}" for n in range(100)]
    patients = sorted(names, key=lambda name: not is_held_out(name))
    first = next(n for n, name in enumerate(patients) if not is_held_out(name)) - 1
    with ReadingStore.open(database_in(folder)) as store:
        for n, patient in enumerate(patients[first : first + 6]):
            at = (x - 14 + 9 * (n % 4), y - 14 + 9 * (n // 4), z)
            write_nifti(phantom, folder / f"{patient}.nii.gz")
            rating = (1, 5, 2, 4)[n % 4]
            store.add(Reading(patient, "A", at, malignancy=rating, study_patient=patient))
    return folder


class Folder:
    """A datastore, as far as the trainer asks it."""

    def __init__(self, studies: Path) -> None:
        self.studies = studies

    def get_image_uri(self, image_id: str) -> str:
        return str(self.studies / f"{image_id}.nii.gz")


@pytest.fixture
def trained(model: Path, studies: Path, tmp_path: Path) -> Callable[..., tuple[Any, Model]]:
    """Trains, with an archive or none; returns the stats, and the model that is served then."""

    def train(archive: Path | None, **request: Any) -> tuple[Any, Model]:
        settings = AppSettings(model_dir=model, device="cpu", archive=archive)
        shared = SharedCharacterizer(served_model(tmp_path, str(studies), settings), settings)
        trainer = ResMTNetTrainer(shared, database_in(studies))
        told = trainer({"model": "resmtnet", **EAGER, **LENIENT, **request}, Folder(studies))
        return told, read_model(shared.now.folder)

    return train


def test_depth_full_trains_on_the_archive_and_is_served(
    trained: Callable[..., tuple[Any, Model]], model: Path, archive: Archive, studies: Path
) -> None:
    told, served = trained(archive.path, depth="full", learning_rate=1e-4)
    assert (told["verdict"], told["published"]) == ("published", "2+site.1"), told["reason"]
    (version,) = ModelRegistry.beside(database_in(studies), model).list()[1:]
    assert version.details["config"]["archive"] == str(archive.path)
    heads = LinearHeads.of(served.networks)
    assert heads.trunk != LinearHeads.of(read_model(model).networks).trunk
    assert read_replay(served.folder).nodules == read_replay(model).nodules
    for one in read_reference(served.folder)[:5]:
        again = heads.answer(one).observation.outputs["class"]
        assert again == pytest.approx(one.observation.outputs["class"], abs=0.01)


def test_depth_full_without_an_archive_is_refused_in_one_line(
    trained: Callable[..., tuple[Any, Model]],
) -> None:
    with pytest.raises(Refusal, match="name the training archive") as caught:
        trained(None, depth="full")
    assert caught.value.status_code == 400
    assert "\n" not in caught.value.detail
