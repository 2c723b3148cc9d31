"""The trainer: readings in, a version that is served or the reason why none is, in the stats."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from phantom_readings import EAGER, IMAGE, LENIENT, patients, points_lps_mm, read
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import write_nifti
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.inference.model_folder import FILES, MANIFEST, read_model, write_model
from resmtnet.monai_label import trainer as trainers
from resmtnet.monai_label import trainer_form
from resmtnet.monai_label.infer import SharedCharacterizer
from resmtnet.monai_label.labels import DatastoreImages
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.served_model import served_model
from resmtnet.monai_label.settings import AppSettings
from resmtnet.monai_label.trainer import ResMTNetTrainer, make_trainers, train_when_due
from resmtnet.monai_label.training_status import TrainReport
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.location import database_in
from resmtnet.readings.patients import pseudonym
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.collect import OF_REFERENCE, OF_SHIPPED
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.samples import is_held_out
from resmtnet.training.carried_sets import read_reference, read_replay


class Folder:
    """A datastore, as far as the trainer asks it."""

    def __init__(self, studies: Path) -> None:
        self.studies = studies

    def get_image_uri(self, image_id: str) -> str:
        path = self.studies / f"{image_id}.nii.gz"
        return str(path) if path.is_file() else ""


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The intervals of the gate need not be precise here."""
    few = {name: BootstrapConfig(resamples=100) for name in ("bootstrap", "strict")}
    monkeypatch.setattr(trainer_form, "_GATE", replace(Margins(), **few))


@pytest.fixture
def studies(tmp_path: Path, phantom: Phantom) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    write_nifti(phantom, folder / f"{IMAGE}.nii.gz")
    return folder


@pytest.fixture
def store(studies: Path) -> Iterator[ReadingStore]:
    with ReadingStore.open(database_in(studies)) as store:
        yield store


@pytest.fixture
def shared(studies: Path, small_model: Path, tmp_path: Path) -> SharedCharacterizer:
    settings = AppSettings(model_dir=small_model, device="cpu")
    return SharedCharacterizer(served_model(tmp_path, str(studies), settings), settings)


@pytest.fixture
def trainer(shared: SharedCharacterizer, studies: Path) -> ResMTNetTrainer:
    return ResMTNetTrainer(shared, database_in(studies))


@pytest.fixture
def train(trainer: ResMTNetTrainer, studies: Path) -> Callable[..., dict[str, Any]]:
    return lambda **request: trainer({"model": "resmtnet", **request}, Folder(studies))


def test_stats_before_the_first_training_are_those_that_the_viewers_read(
    trainer: ResMTNetTrainer,
) -> None:
    stats = trainer.stats()
    assert (stats["epoch"], stats["total_epochs"]) == (0, 1)
    assert (stats["best_metric"], stats["outcome"]) == (0, "")
    assert stats["version"] == "2"
    json.dumps(trainer.info() | stats, allow_nan=False)


def test_readings_become_a_version_that_answers_next(
    train: Callable[..., dict[str, Any]],
    trainer: ResMTNetTrainer,
    shared: SharedCharacterizer,
    store: ReadingStore,
    phantom: Phantom,
) -> None:
    read(store, points_lps_mm(phantom, 6))
    rated = store.readings()[-1]
    sized = store.add(Reading(rated.image, "A", nodule=rated.nodule, sizes={"long_axis_mm": 9.0}))
    told = train(**EAGER, **LENIENT)
    assert (told["verdict"], told["published"]) == ("published", "2+site.1"), told["reason"]
    assert told["readings"] == 7
    assert 0 < told["epoch"] <= told["total_epochs"]
    assert shared.now.model.info.version == "2+site.1"
    stats = trainer.stats()
    assert (stats["version"], stats["verdict"]) == ("2+site.1", "published")
    assert stats["total_time"]
    assert 0 < stats["best_metric"] < 1
    json.dumps(stats, allow_nan=False)
    version = shared.versions.list()[-1]
    assert (version.parent, version.readings) == ("shipped", 7)
    assert version.details["reason"] == told["reason"]
    assert told["reason"].startswith("Published: a new version is served.")
    rows = told["gate"]["table"]
    assert {"reference, against parent", "the readings themselves"} <= {row["on"] for row in rows}
    assert all(row["passed"] for row in rows)
    assert version.details["config"]["fine_tuning"]["epochs"] == 3
    manifest = json.loads((version.folder / "manifest.json").read_text())
    trained = manifest["provenance"]["readings"]
    assert len(trained) == 7  # every patient trains, and judges what others made
    assert {rated.id, sized.id} < set(trained)  # something of both trains


def newer_model(shipped: Path, folder: Path) -> None:
    """Write a model of version 3 whose trunk differs from that of a shipped one."""
    model = read_model(shipped)
    states = [{name: t.clone() for name, t in n.state_dict().items()} for n in model.networks]
    for state in states:
        state["stem.0.weight"] *= 1.05
    further = {
        path.name: partial(shutil.copyfile, path)
        for path in shipped.iterdir()
        if path.name not in {*FILES, MANIFEST}
    }
    write_model(folder, "3", states, model.config, model.calibration, {}, further)


def test_a_newer_shipped_model_is_trained_on_all_readings_and_replaces_the_old_version(
    studies: Path, small_model: Path, store: ReadingStore, phantom: Phantom, tmp_path: Path
) -> None:
    shipped = tmp_path / "shipped"
    shutil.copytree(small_model, shipped)
    settings = AppSettings(model_dir=shipped, device="cpu")

    def started() -> SharedCharacterizer:
        return SharedCharacterizer(served_model(tmp_path, str(studies), settings), settings)

    def train(shared: SharedCharacterizer) -> dict[str, Any]:
        trainer = ResMTNetTrainer(shared, database_in(studies))
        return trainer({"model": "resmtnet", **EAGER, **LENIENT}, Folder(studies))

    read(store, points_lps_mm(phantom, 6))
    assert train(started())["published"] == "2+site.1"
    shutil.rmtree(shipped)
    newer_model(small_model, shipped)
    shared = started()
    assert shared.now.model.info.version == "2+site.1"
    assert "Press Train" in " ".join(shared.now.warnings)
    told = train(shared)
    assert (told["verdict"], told["published"]) == ("published", "3+site.2"), told["reason"]
    trunk = LinearHeads.of(read_model(shared.versions.current()).networks).trunk
    assert trunk == LinearHeads.of(read_model(shipped).networks).trunk
    assert not started().now.warnings
    shared.versions.rollback("1")
    assert started().now.model.info.version == "2+site.1"


def test_too_few_readings_are_insufficient_evidence(
    train: Callable[..., dict[str, Any]],
    shared: SharedCharacterizer,
    store: ReadingStore,
    phantom: Phantom,
) -> None:
    read(store, points_lps_mm(phantom, 4))
    told = train(**EAGER)
    assert told["verdict"] == "kept"
    assert told["insufficient"]
    assert told["reason"] == (
        "Not published: 4 of 5 readings for a training. The current model stays."
    )
    assert shared.versions.list()[1:] == ()


def test_what_is_missing_is_told_before_a_training_and_by_it(
    train: Callable[..., dict[str, Any]],
    trainer: ResMTNetTrainer,
    shared: SharedCharacterizer,
    store: ReadingStore,
    phantom: Phantom,
) -> None:
    assert trainer.stats()["readiness"]["missing"] == "0 of 10 readings for a training"
    read(store, points_lps_mm(phantom, 10))
    ready = trainer.stats()["readiness"]
    missing = "10 of 15 patients for learning the habits of your readers"
    assert (ready["stage"], ready["missing"]) == ("nothing", missing)
    assert ready["told"] == f"Nothing can be learnt yet: {missing}."
    assert [(row["there"], row["needed"], row["met"]) for row in ready["rows"]] == [
        (10, 10, True), (10, 15, False), (10, 25, False),
    ]  # fmt: skip
    told = train()
    assert (told["verdict"], told["insufficient"]) == ("kept", True)
    assert told["reason"] == f"Not published: {missing}. The current model stays."
    assert shared.now.model.info.version == "2"


def test_readings_of_an_image_that_is_gone_are_told_and_left_out(
    train: Callable[..., dict[str, Any]], store: ReadingStore, phantom: Phantom
) -> None:
    read(store, points_lps_mm(phantom, 2))
    store.add(Reading("gone", "A", points_lps_mm(phantom, 1)[0], malignancy=1))
    told = train(**EAGER | {"min_readings": 3})
    (skipped,) = told["skipped"]
    assert "There is no image 'gone'" in skipped


def test_patients_of_the_reference_and_replay_sets_judge_nothing_they_made(
    train: Callable[..., dict[str, Any]],
    shared: SharedCharacterizer,
    store: ReadingStore,
    phantom: Phantom,
) -> None:
    model = shared.versions.shipped
    reference = sorted({one.case.patient_id for one in read_reference(model)})
    replayed = sorted({nodule.patient_id for nodule in read_replay(model).nodules})
    out, into = (next(n for n in replayed if is_held_out(n) is held) for held in (True, False))
    whose = [*patients(6), reference[0], str(pseudonym(reference[1])), out, into]
    read(store, points_lps_mm(phantom, len(whose)), whose)
    told = train(**EAGER, **LENIENT)
    reasons = [OF_REFERENCE] * 2 + [OF_SHIPPED] * 2
    assert [line.partition(": ")[2] for line in told["skipped"]] == reasons
    assert told["readings"] == 6
    assert told["published"], told["reason"]
    manifest = json.loads((shared.versions.list()[-1].folder / "manifest.json").read_text())
    by_patient = {reading.study_patient: reading.id for reading in store.readings()}
    trained = {by_patient[name] for name in patients(6)}
    assert set(manifest["provenance"]["readings"]) == trained


def test_readings_of_reference_patients_are_told_where_they_are_all_there_is(
    train: Callable[..., dict[str, Any]],
    shared: SharedCharacterizer,
    store: ReadingStore,
    phantom: Phantom,
) -> None:
    whose = [one.case.patient_id for one in read_reference(shared.versions.shipped)[:5]]
    read(store, points_lps_mm(phantom, 5), whose)
    told = train(**EAGER)
    assert (told["insufficient"], told["readings"], len(told["skipped"])) == (True, 0, 5)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"epochs": "many"}, "epochs is 'many'; a whole number from 1 to 1000 is needed."),
        ({"depth": "deep"}, "depth is 'deep'; allowed are heads, full."),
    ],
)
def test_a_bad_option_is_refused_in_one_line_and_told_in_the_stats(
    train: Callable[..., dict[str, Any]],
    trainer: ResMTNetTrainer,
    request_: dict[str, Any],
    told: str,
) -> None:
    with pytest.raises(Refusal) as caught:
        train(**request_)
    assert (caught.value.status_code, caught.value.detail) == (400, told)
    with pytest.raises(Refusal):
        trainer.check(request_)
    stats = trainer.stats()
    assert stats["verdict"] == "failed"
    assert told.rstrip(".") in stats["reason"]


def test_a_depth_without_its_archive_is_refused_before_it_starts(trainer: ResMTNetTrainer) -> None:
    with pytest.raises(Refusal, match="--conf archive DIR") as caught:
        trainer.check({"depth": "full"})
    assert caught.value.status_code == 400
    assert trainer.stats()["verdict"] == "none"


def test_a_trainer_tells_whether_any_process_trains(trainer: ResMTNetTrainer) -> None:
    assert not trainer.runs
    with TrainReport(trainer._report.folder).training(3):
        assert trainer.runs
    assert not trainer.runs


def test_the_stats_tell_nodules_and_epochs_while_training_runs(
    train: Callable[..., dict[str, Any]],
    trainer: ResMTNetTrainer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def retrain(*_: Any, tell: Callable[..., None], **__: Any) -> Any:
        for step in (("nodules", 3, 25), ("epochs", 7, 40)):
            time.sleep(0.4)
            tell(*step)
            seen.append(trainer.stats())
        return trainers.Retrained("nothing was tried")

    monkeypatch.setattr(trainers, "retrain", retrain)
    train(epochs=40)
    assert [(s["stage"], s["epoch"], s["total_epochs"]) for s in seen] == [
        ("nodules", 0, 40),
        ("epochs", 7, 40),
    ]
    assert seen[0]["nodules"] == 3
    assert all(s["verdict"] == "running" and "total_time" not in s for s in seen)


def test_a_training_starts_by_itself_after_so_many_readings(
    train: Callable[..., dict[str, Any]],
    trainer: ResMTNetTrainer,
    store: ReadingStore,
    phantom: Phantom,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []

    def run(method: str, request: Any) -> tuple[Any, None]:
        started.append((method, request))
        return {"id": "1"}, None

    monkeypatch.setattr(trainers.AsyncTask, "run", run)
    read(store, points_lps_mm(phantom, 2))
    train()
    assert not train_when_due(trainer, after=2, count=3)
    assert train_when_due(trainer, after=2, count=4)
    assert not train_when_due(trainer, after=0, count=4)
    assert started == [("train", {"model": "resmtnet"})]


def test_readings_that_are_saved_start_it_if_the_settings_say_so(
    shared: SharedCharacterizer,
    studies: Path,
    phantom: Phantom,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(trainers, "train_when_due", lambda _, after, count: asked.append(count))
    store = Folder(studies)
    inbox = Inbox(database_in(studies), DatastoreImages(lambda: store, shared.open))
    assert list(make_trainers(shared, inbox)) == ["resmtnet"]
    (point,) = points_lps_mm(phantom, 1)
    inbox.add([Reading(IMAGE, "A", point, malignancy=4)])
    assert asked == [1]
    inbox.store.close()
