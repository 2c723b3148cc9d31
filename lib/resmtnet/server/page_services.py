"""What the review page uses of the app that this process serves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask

from resmtnet.active.study_scores import ScoredStudy
from resmtnet.ct import CTVolume
from resmtnet.errors import InputError
from resmtnet.findings import Finding
from resmtnet.monai_label.trainer import NAME as TRAINER
from resmtnet.page.blinding import strategy_for
from resmtnet.page.services import Services, ToCompare, Visitor
from resmtnet.server.page_state import state_of
from resmtnet.server.training import UNDER_WAY
from resmtnet.types import Json, Point


class SiteTraining:
    """The trainer of the app, as the page uses it."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def stats(self) -> Json:
        """Return the status of the last or running training, with what there is to train.

        A training is a process that takes a while to start: until it has written its own status,
        `verdict` is "starting", or "failed" where it has ended without one.
        """
        found: Json = self._trainer.stats()
        task, _ = AsyncTask.status("train")
        return found | not_begun(task, found)

    def form(self) -> Json:
        """Return the options with their defaults."""
        found: Json = self._trainer.config()
        return found

    def running(self) -> bool:
        """Whether a training runs or is starting, in any process."""
        return bool(self._trainer.runs) or self.stats().get("verdict") == "starting"

    def start(self, options: Mapping[str, object]) -> None:
        """Start a training.

        Raises:
            InputError: it cannot start, with the reason.
        """
        with _in_words():
            self._trainer.check(options)
            if self.running():
                raise InputError("A training of these studies is running already.")
            self._trainer.check_ready(options)
        task, why = AsyncTask.run("train", request={"model": TRAINER}, params=dict(options))
        if task is None:
            raise InputError(str(why))

    def stop(self) -> None:
        """Stop it."""
        AsyncTask.stop("train")


def not_begun(task: Mapping[str, Any] | None, stats: Mapping[str, Any]) -> Json:
    """Return what to tell of a training that has not written its own status; {} if it has.

    Args:
        task: of MONAI Label, the last one; None where this process has started none.
        stats: the status that was written last, perhaps by an earlier training.

    >>> not_begun({"status": "RUNNING", "start_ts": "2026-01-31 12:00:00"}, {})["verdict"]
    'starting'
    """
    if task is None:
        return {}
    began = datetime.strptime(str(task["start_ts"]), "%Y-%m-%d %H:%M:%S").timestamp()
    if int(stats.get("start_ts") or 0) >= int(began):
        return {}
    if task["status"] in UNDER_WAY:
        return {"verdict": "starting", "reason": ""}
    if task["status"] == "ERROR":
        said = next((line for line in reversed(task.get("details") or ()) if line.strip()), "")
        return {
            "verdict": "failed",
            "reason": f"The training ended before it began. The last line of its log: {said[:300]}",
        }
    return {}


def find_services(visitor: Visitor) -> Services:
    """Return what the views use, for a visitor.

    Raises:
        HTTPException: the app cannot be loaded.
    """
    app: Any = app_instance()
    shared, inbox, datastore = app.shared, app.inbox, app.datastore()
    state = state_of(app)
    visitor = replace(visitor, blinded=state.blinding.is_on(visitor.reader))
    strategy = next(iter(app._strategies.values()), None)

    def open_ct(image: str) -> CTVolume:
        ct: CTVolume = inbox.images.open(inbox.images.volume(image))
        return ct

    def ask(
        image: str, points: Sequence[Point], reader: str, model: str, **more: Any
    ) -> list[Finding]:
        grid = open_ct(image).geometry
        asked = {
            "model": model,
            "image": image,
            "client_id": reader or None,
            "foreground": [[float(x) for x in grid.lps_to_ijk(point)] for point in points],
            **more,
        }
        with _in_words():
            result = app.infer({k: v for k, v in asked.items() if v})
        Path(str(result.get("file") or "")).unlink(missing_ok=True)
        return [Finding.from_json(entry) for entry in result["params"]["nodules"]]

    def compare(image: str, what: ToCompare, reader: str) -> None:
        more = {"prior": dict(what.prior), "context": what.context}
        if what.points:
            ask(image, what.points, reader, "resmtnet_click", **more)
        if what.candidates:
            places = [[float(mm) for mm in place] for place in what.candidates]
            ask(image, (), reader, "resmtnet", candidates=places, **more)

    def next_study(strategy: str, reader: str) -> Json | None:
        name = strategy_for(strategy, app._strategies, blinded=state.blinding.is_on(visitor.reader))
        with _in_words():
            found: Json = app.next_sample({"strategy": name, "client_id": reader})
        return found if found.get("id") else None

    scoring = _scoring(app)

    def score_of(image: str) -> ScoredStudy | None:
        found: ScoredStudy | None = scoring.get(image) if scoring is not None else None
        return found

    trainer = getattr(app, "_trainers", {}).get(TRAINER)
    return Services(
        visitor=visitor,
        inbox=inbox,
        list_images=datastore.list_images,
        open_ct=open_ct,
        now=lambda: shared.now,
        versions=shared.versions,
        click=lambda image, points, reader: ask(image, points, reader, "resmtnet_click"),
        search=lambda image, reader: ask(image, (), reader, "resmtnet"),
        earlier=state.visits.earlier,
        compare=compare,
        score_of=score_of,
        strategies={name: task.description for name, task in app._strategies.items()},
        next_study=next_study,
        training=None if trainer is None else SiteTraining(trainer),
        blinding=state.blinding,
        worklist=state.worklist,
        answers=state.answers,
        open_for=strategy.open_for if strategy else lambda image, reader: True,
        close_for=strategy.close_for if strategy else lambda image, reader: None,
    )


def _scoring(app: Any) -> Any:
    """The scores in the background, which all strategies share; None without strategies."""
    for strategy in app._strategies.values():
        work = getattr(strategy, "_worklist", None)
        if work is not None:
            return work.scoring
    return None


@contextlib.contextmanager
def _in_words() -> Any:
    """Turn refusals of MONAI Label into errors of the package, which the page shows."""
    try:
        yield
    except HTTPException as error:
        raise InputError(str(error.detail)) from error
