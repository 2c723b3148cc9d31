"""Scores one study of a cohort; every engine runs this, and whatever goes wrong is a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resmtnet.cohort.ledger import FAILED, NO_NODULE, OK
from resmtnet.cohort.studies import Study
from resmtnet.ct import CTVolume
from resmtnet.errors import PacsError
from resmtnet.inference.protocol import NoduleModel
from resmtnet.types import Json

UNREADABLE = "unreadable"
"""Stands for the key of an image that cannot be read."""

Load = Callable[[], NoduleModel]
"""Loads the model, in the process that uses it."""


@dataclass(frozen=True)
class Task:
    """A study to score."""

    study: Study
    max_candidates: int
    """Greatest number of nodules of a search."""
    finished_key: str | None
    """Key of the image that it was scored from before; None: not yet."""

    def is_finished(self) -> bool:
        """Whether it is known at little cost that its image is the one that was scored before."""
        return self.finished_key is not None and self.study.quick_key() == self.finished_key


class Scorer:
    """A model that scores one study after the other."""

    def __init__(self, model: NoduleModel) -> None:
        """Take a model."""
        self._model = model

    def __call__(self, task: Task) -> Json | None:
        """Return the record of a study, or None if its image is the one that was scored before."""
        try:
            key = task.study.content_key()
        except (OSError, PacsError):
            key = UNREADABLE
        if key == task.finished_key:
            return None
        if task.study.problem is not None:
            return failed(task, task.study.problem, key)
        try:
            return self._scored(task) | {"content_key": key}
        except Exception as error:  # a study of any kind must not end the run of all others
            return failed(task, f"{type(error).__name__}: {error}", key)

    def _scored(self, task: Task) -> Json:
        study, model = task.study, self._model
        with study.at_hand() as path:
            ct = CTVolume.open(path)
            if study.points_lps_mm is None:
                findings = model.find(ct, max_candidates=task.max_candidates)
            else:
                findings = model(ct, study.points_lps_mm)
            document = model.document(ct, findings)
        status = OK if findings else NO_NODULE
        return _record(study, status) | {"findings": document}


def failed(task: Task, reason: str, key: str = UNREADABLE) -> Json:
    """Return the record of a study that could not be scored."""
    return _record(task.study, FAILED) | {"reason": reason, "content_key": key}


def _record(study: Study, status: str) -> Json:
    return {
        "study_id": study.id,
        "path": study.place,
        "status": status,
        "reason": None,
        "findings": None,
    }
