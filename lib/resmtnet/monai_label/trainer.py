"""The trainer `resmtnet`: the MONAI Label task that runs retraining.retrain."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.async_tasks.task import AsyncTask

from resmtnet.ct import CTVolume
from resmtnet.errors import InputError, ResMTNetError
from resmtnet.inference.device import choose_device
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.monai_label.infer import SharedCharacterizer
from resmtnet.monai_label.refusals import Refusal, as_refusals
from resmtnet.monai_label.trainer_form import TrainOptions
from resmtnet.monai_label.training_status import KEPT, NOTHING, PUBLISHED, TrainReport, due, outcome
from resmtnet.monai_label.volume_paths import VolumePaths
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.collect import reference_names
from resmtnet.retraining.evidence import NOTHING as NOTHING_YET
from resmtnet.retraining.evidence import Evidence
from resmtnet.retraining.retrain import Retrained, Stage, readiness, reference_auc, retrain
from resmtnet.types import Json

logger = logging.getLogger(__name__)


NAME = "resmtnet"


class ResMTNetTrainer(TrainTask):  # type: ignore[misc]
    """Fine-tunes the served model on the readings; publishes the result if it is not worse."""

    def __init__(self, shared: SharedCharacterizer, database: Path) -> None:
        """A trainer.

        Args:
            shared: the served model, its versions and the settings.
            database: of the readings.
        """
        super().__init__("Fine-tune on the readers' corrections; serve the result if not worse")
        self._shared = shared
        self._database = database
        self._report = TrainReport(shared.versions.folder)
        self._ready: tuple[tuple[int, str], Json] | None = None

    def config(self) -> Json:
        """Return the form that the viewers show; see TrainOptions."""
        return TrainOptions.form()

    def stats(self) -> Json:
        """Return the status of the last or running training, as Slicer and OHIF read it.

        Keys: epoch, total_epochs, total_time (once it has ended), best_metric (AUC of the served
        version on its reference set), verdict (running, published, kept, failed, stopped), reason,
        version (served now), readings, outcome (one sentence; empty before the first training),
        readiness (what a training would do now, and what is missing; see retraining.evidence).
        """
        now = self._shared.now
        told = self._report.read()
        if told["verdict"] != NOTHING["verdict"]:
            told["best_metric"] = _auc(now.folder, now.model.info.sha256)
        told["outcome"] = outcome(told)
        told["readiness"] = self._readiness()
        return told | {"version": now.model.info.version, "warnings": list(now.warnings)}

    def _readiness(self) -> Json | None:
        """Return what a training with the form's defaults would do; None where nothing tells.

        The viewers ask about once a second, so that it is counted again only when a reading has
        arrived or another version is served.
        """
        now, config = self._shared.now, TrainOptions().config()
        if not self._database.exists():
            return Evidence.of([], 0, config.least_readings, config.margins).to_json()
        try:
            with ReadingStore.open(self._database) as store:
                stand = (store.count(), now.model.info.sha256)
                if self._ready is None or self._ready[0] != stand:
                    found = readiness(store, _model(now.folder, stand[1]), config)
                    self._ready = stand, found.to_json()
        except ResMTNetError as error:
            logger.warning("What a training would do is not known: %s", error)
            return None
        return self._ready[1]

    @property
    def runs(self) -> bool:
        """Whether a training of these studies is running, in any process."""
        return self._report.at_work()

    def check(self, request: Mapping[str, Any]) -> TrainOptions:
        """Read the options of a request.

        Raises:
            Refusal: 400 with the first option that is wrong, or why no training can run here.
        """
        with as_refusals():
            options = TrainOptions.parse(request)
            options.config()  # checks what no single option shows
            if options.depth == "full" and self._shared.settings.archive is None:
                raise InputError(
                    "Depth full trains on images: start the server with --conf archive DIR, the "
                    "training archive, or choose depth heads."
                )
            self._report.check_writable()
            return options

    def check_ready(self, request: Mapping[str, Any]) -> None:
        """Refuse a training for which something is missing, before it starts.

        Raises:
            Refusal: 400 with what is missing.
        """
        with as_refusals():
            config, now = TrainOptions.parse(request).config(), self._shared.now
            if not self._database.exists():
                raise InputError("No training: nothing has been read yet.")
            parent = _model(now.folder, now.model.info.sha256)
            with ReadingStore.open(self._database) as store:
                found = readiness(store, parent, config)
            if found.stage == NOTHING_YET:
                raise InputError(f"No training: {found.missing}.")

    def outcome(self) -> str:
        """Return what became of the last training, in one sentence; "" before the first one."""
        return outcome(self.stats())

    def will_not_train(self, reading: Reading) -> str | None:
        """Return why a reading never trains, for the reader; None where it may."""
        now = self._shared.now
        parent = _model(now.folder, now.model.info.sha256)
        if reading.study_patient in reference_names(parent):
            return (
                "this patient belongs to the reference set of the model: what is read of it is "
                "kept, but neither trains nor judges a version"
            )
        return None

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> Json:
        """Train once; see retraining.retrain.

        Args:
            request: the form as the viewer sends it.
            datastore: holds the CTs of the readings.

        Returns:
            The status at the end.

        Raises:
            Refusal: a wrong option, another training that is running, or a failure, in one line.
        """
        with as_refusals():
            return self._train(request, datastore)

    def _train(self, request: Mapping[str, Any], datastore: Datastore) -> Json:
        report, paths = self._report, VolumePaths(datastore)
        epochs = request.get("epochs")
        with report.training(epochs if isinstance(epochs, int) else 1):
            options = TrainOptions.parse(request)

            def open_ct(image: str) -> CTVolume:
                try:
                    return CTVolume.open(paths.get_image_uri(image))
                except Refusal as error:
                    raise InputError(error.detail) from error

            def tell(stage: Stage, done: int, of: int) -> None:
                if stage == "epochs":
                    report.progress(done, total_epochs=of, stage=stage)
                else:
                    report.progress(0, total_epochs=options.epochs, stage=stage, nodules=done)

            with ReadingStore.open(self._database) as store:
                report.progress(0, total_epochs=options.epochs, readings_then=store.count())
                result = retrain(
                    store,
                    self._shared.versions,
                    open_ct,
                    replace(options.config(), archive=self._shared.settings.archive),
                    device=choose_device(self._shared.settings.device),
                    tell=tell,
                )
            return report.finish(**_told(result))


def make_trainers(shared: SharedCharacterizer, inbox: Inbox) -> dict[str, TrainTask]:
    """Return the trainers of the app; setting train_after makes them start automatically.

    Args:
        shared: the served model and the settings.
        inbox: the readings.
    """
    trainer = ResMTNetTrainer(shared, inbox.database)
    inbox.will_not_train = trainer.will_not_train
    inbox.on_kept = partial(train_when_due, trainer, shared.settings.train_after)
    return {NAME: trainer}


def _told(result: Retrained) -> Json:
    logger.info("%s", result.reason)
    version = result.version.info.version if result.version and result.version.info else None
    return {
        "verdict": PUBLISHED if result.version else KEPT,
        "reason": result.reason,
        "insufficient": result.insufficient,
        "published": version,
        "readings": result.readings,
        "skipped": list(result.skipped),
        "gate": dict(result.verdict),
    }


def train_when_due(trainer: ResMTNetTrainer, after: int, count: int) -> bool:
    """Start a training if enough readings arrived since the last one; return whether it did.

    Args:
        trainer: of the app.
        after: setting train_after; 0: never start one automatically.
        count: readings in the database.
    """
    if after < 1 or not due(trainer.stats(), count, after):
        return False
    try:
        task, _ = AsyncTask.run("train", request={"model": NAME})
    except Exception:  # the readings are saved, even if no training starts
        logger.exception("The training due after %d readings did not start", after)
        return False
    return task is not None


@lru_cache(maxsize=1)
def _model(folder: Path, sha256: str) -> Model:
    """Return a version with the sets that it carries, read once for each checksum."""
    return read_model(folder)


@lru_cache(maxsize=4)
def _auc(folder: Path, sha256: str) -> float:
    """Return the AUC of a version on its reference set, read once for each checksum."""
    return reference_auc(folder)
