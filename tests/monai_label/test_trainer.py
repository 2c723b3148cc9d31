"""The trainer: readings in, a version that is served or the reason why none is, in the stats."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alike import assert_alike
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import write_nifti
from resmtnet.evaluation.bootstrap import BootstrapConfig
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
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import check_model
from resmtnet.retraining.samples import is_held_out
from resmtnet.server.launch import ServerOptions, free_port, running_server
from resmtnet.training.carried_sets import read_reference, read_replay

IMAGE = "phantom"
EAGER = {"min_readings": 5, "min_held_out_patients": 1, "epochs": 3}
"""Options with which six readings are enough."""
LENIENT = {"auc_margin": 0.05, "score_margin": 0.2, "size_margin": 0.1}
"""For a model of a few random weights."""


class Folder:
    """A datastore, as far as the trainer asks it."""

    def __init__(self, studies: Path) -> None:
        self.studies = studies

    def get_image_uri(self, image_id: str) -> str:
        path = self.studies / f"{image_id}.nii.gz"
        return str(path) if path.is_file() else ""


def points_lps_mm(phantom: Phantom, count: int) -> list[tuple[float, float, float]]:
    """Points around the nodule of the phantom, each more than a click apart."""
    x, y, z = phantom.nodules[0].centre_lps_mm
    return [(x - 14 + 9 * (n % 4), y - 14 + 9 * (n // 4), z) for n in range(count)]


def patients(count: int) -> list[str]:
    """Patients of whom the first never trains, and all others do."""
    names = [f"S{n}" for n in range(1000)]
    out = [name for name in names if is_held_out(name)]
    return [*out[:1], *(name for name in names if name not in out)][:count]


def read(store: ReadingStore, points: Sequence[Any], whose: Sequence[str] | None = None) -> None:
    """One reader rates what is at each point, each in an image of a patient of its own."""
    studies = store.path.parents[1]
    names = whose or patients(len(points))
    for n, (point, patient) in enumerate(zip(points, names, strict=True)):
        shutil.copy(studies / f"{IMAGE}.nii.gz", studies / f"of-{patient}.nii.gz")
        rating = (1, 5, 2, 4)[n % 4]
        store.add(Reading(f"of-{patient}", "A", point, malignancy=rating, study_patient=patient))


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
    assert 0 < stats["best_metric"] < 1
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
    assert version.details["config"]["fine_tuning"]["epochs"] == 3
    manifest = json.loads((version.folder / "manifest.json").read_text())
    trained = manifest["provenance"]["readings"]
    assert len(trained) == 6  # one patient is held out
    assert {rated.id, sized.id} < set(trained)  # something of both trains


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
        "Not published: 4 readings can train, 5 are needed. The current model stays."
    )
    assert shared.versions.list()[1:] == ()


def test_too_few_held_out_patients_are_insufficient_evidence(
    train: Callable[..., dict[str, Any]],
    shared: SharedCharacterizer,
    store: ReadingStore,
    phantom: Phantom,
) -> None:
    read(store, points_lps_mm(phantom, 6))
    told = train(**EAGER | {"min_held_out_patients": 10})
    assert (told["verdict"], told["insufficient"]) == ("kept", True)
    assert told["reason"].startswith(
        "Not published: 1 held-out patient has readings, 10 are needed. The current model stays."
    )
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
    reasons = [OF_REFERENCE] * 2 + [OF_SHIPPED]
    assert [line.partition(": ")[2] for line in told["skipped"]] == reasons
    assert told["readings"] == 7
    assert told["published"], told["reason"]
    manifest = json.loads((shared.versions.list()[-1].folder / "manifest.json").read_text())
    by_patient = {reading.study_patient: reading.id for reading in store.readings()}
    trained = {by_patient[name] for name in [*patients(6)[1:], into]}
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


# -- through the real server -----------------------------------------------------------------


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, phantom: Phantom, small_model: Path
) -> Iterator[tuple[str, Path]]:
    """A server, and its folder of studies."""
    studies = tmp_path_factory.mktemp("site")
    write_nifti(phantom, studies / f"{IMAGE}.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path_factory.mktemp("sessions")))
        conf = {"model_dir": str(small_model), "device": "cpu"}
        options = ServerOptions(str(studies), port=free_port(), conf=conf)
        with running_server(options, timeout_s=180.0) as url:
            yield url, studies


@pytest.fixture
def client(site: tuple[str, Path], tmp_path: Path) -> Any:
    from monailabel.client.client import MONAILabelClient

    return MONAILabelClient(site[0], str(tmp_path))


@pytest.fixture
def versions(site: tuple[str, Path], small_model: Path) -> ModelRegistry:
    return ModelRegistry.beside(database_in(site[1]), small_model)


def ended(client: Any, timeout_s: float = 300.0) -> dict[str, Any]:
    """Wait for the training, and return MONAI Label's status of it."""
    end_s = time.monotonic() + timeout_s
    while True:
        status: dict[str, Any] = client.train_status()
        if status["status"] not in ("SUBMITTED", "RUNNING"):
            return status
        assert time.monotonic() < end_s, status
        time.sleep(0.2)


def stats(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.info()["train_stats"]["resmtnet"]
    return found


def wait_for(
    client: Any, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 300.0
) -> dict[str, Any]:
    """Wait until something holds of the stats, and return them."""
    end_s = time.monotonic() + timeout_s
    while not holds(told := stats(client)):
        assert time.monotonic() < end_s, told
        time.sleep(0.05)
    return told


def ask(client: Any, phantom: Phantom) -> dict[str, Any]:
    at = phantom.geometry.lps_to_ijk(phantom.nodules[0].centre_lps_mm)
    request = {"foreground": [[round(float(x)) for x in at]]}
    _, params = client.infer("resmtnet_click", IMAGE, request)
    return dict(params)


def client_error() -> type[Exception]:
    """What MONAI Label's client raises for any reply but 200."""
    from monailabel.client.client import MONAILabelClientException

    kind: type[Exception] = MONAILabelClientException
    return kind


SERVER = (
    pytest.mark.server,
    # MONAI Label's client leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
)


def on_a_server(test: Any) -> Any:
    for mark in SERVER:
        test = mark(test)
    return test


@on_a_server
def test_the_viewers_find_the_trainer_and_its_form(client: Any) -> None:
    info = client.info()
    assert list(info["trainers"]) == ["resmtnet"]
    assert info["trainers"]["resmtnet"]["config"]["depth"][0] == "heads"
    assert info["train_stats"]["resmtnet"]["version"] == "2"


@on_a_server
@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("resmtnet", {"epochs": "many"}, "400; .*epochs is .*many.*; a whole number from 1 to"),
        ("resmtnet", {"depth": "full"}, "400; .*--conf archive DIR"),
        ("other", {}, "404; .*no trainer .*other.*; allowed are resmtnet"),
    ],
)
def test_what_cannot_run_is_refused_at_once_and_changes_nothing(
    client: Any, model: str, options: dict[str, Any], told: str
) -> None:
    before = stats(client)
    with pytest.raises(client_error(), match=told):
        client.train_start(model, options)
    assert stats(client) == before


@on_a_server
def test_a_stopped_training_publishes_nothing_and_the_next_one_is_served(
    client: Any, site: tuple[str, Path], versions: ModelRegistry, phantom: Phantom
) -> None:
    with ReadingStore.open(database_in(site[1])) as store:
        read(store, points_lps_mm(phantom, 6))
    before = ask(client, phantom)
    assert before["model"]["version"] == "2"
    client.train_start("resmtnet", {**EAGER, **LENIENT, "epochs": 1000, "learning_rate": 1e-6})
    wait_for(client, lambda told: told["verdict"] == "running")
    with pytest.raises(client_error(), match=r"429; .*Another training"):
        client.train_start("resmtnet", {})
    client.train_stop()
    assert ended(client)["status"] == "STOPPED"
    told = wait_for(client, lambda told: told["verdict"] != "running")  # the kill takes a moment
    assert told["verdict"] == "stopped"
    assert "unchanged" in told["reason"]
    assert versions.current() == versions.shipped
    assert_alike(ask(client, phantom)["nodules"], before["nodules"])

    client.train_start("resmtnet", {**EAGER, **LENIENT, "epochs": "20"})
    assert ended(client)["status"] == "DONE"
    told = stats(client)
    assert (told["verdict"], told["version"]) == ("published", "2+site.1"), told["reason"]
    check_model(versions.current())
    after = ask(client, phantom)
    assert after["model"]["version"] == "2+site.1"
    scores = [document["nodules"][0]["malignancy"]["score"] for document in (before, after)]
    assert not np.isclose(*scores)
    versions.rollback()
    again = ask(client, phantom)
    assert again["model"] == before["model"]
    assert_alike(again["nodules"], before["nodules"])
