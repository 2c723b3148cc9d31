"""The routes that start a training: those of MONAI Label, with the options checked first.

MONAI Label alone answers 200 to any request, and the training process fails later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import APIRouter, Depends, HTTPException
from monailabel.config import settings
from monailabel.endpoints import train
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks import utils as background

from resmtnet.types import Json

UNDER_WAY = ("SUBMITTED", "RUNNING")
"""States of a training that has not ended, as MONAI Label names them."""

MOST_WAITING = 2
"""Trainings that wait for the end of another one."""

_status_of_platform = train.status

router = APIRouter(
    prefix="/train",
    tags=["Train"],
    dependencies=[Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))],
)


class SiteTrainer(Protocol):
    """What the routes use of `resmtnet.monai_label.trainer`."""

    @property
    def runs(self) -> bool:
        """Whether a training of these studies is running, in any process."""

    def check(self, request: Mapping[str, Any]) -> object:
        """Refuse wrong options, and a training that cannot run here."""

    def check_ready(self, request: Mapping[str, Any]) -> None:
        """Refuse a training for which readings or patients are missing."""

    def outcome(self) -> str:
        """What became of the last training, in one sentence; "" before the first one."""


def trainers() -> Mapping[str, SiteTrainer]:
    """The trainers of the app in this process."""
    found: Mapping[str, SiteTrainer] = app_instance()._trainers
    return found


@router.post("/", include_in_schema=False)
def start_all(params: dict[str, Any] | None = None, run_sync: bool = False) -> Any:
    """Start every trainer; OHIF sends the options by trainer name."""
    check_start_all({"params": params})
    return train.run(params, run_sync)


@router.post("/{model}")
def start(
    model: str,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    enqueue: bool = False,
) -> Any:
    """Start a trainer; 400: wrong option, 404: no such trainer, 429: a training is running."""
    known = trainers()
    if model not in known:
        allowed = ", ".join(known) or "none: training is switched off"
        raise HTTPException(404, f"There is no trainer {model!r}; allowed are {allowed}.")
    _check_queue()
    asked: Json = params or {}
    known[model].check(asked)
    if known[model].runs and not enqueue:
        raise HTTPException(
            429,
            "Another training of these studies is running: wait until it ends, stop it, or send "
            "enqueue=true to start this one afterwards.",
        )
    if not known[model].runs:
        known[model].check_ready(asked)
    return train.run_model(model, params, run_sync, enqueue)


def status(all: bool = False, check_if_running: bool = False) -> Any:  # noqa: A002
    """Return MONAI Label's status of the last training, with what became of it.

    3D Slicer shows the text `status` when a training ends, and nothing else of its result.

    Args:
        all: of every training of this process, as MONAI Label has it.
        check_if_running: of the one that is running.
    """
    found = _status_of_platform(all, check_if_running)
    if all or check_if_running or found.get("status") in UNDER_WAY:
        return found
    told = " ".join(trainer.outcome() for trainer in trainers().values()).strip()
    return {**found, "status": f"{found.get('status')}. {told}"} if told else found


def check_start_all(arguments: Mapping[str, Any]) -> None:
    """Refuse to start every trainer where one of them cannot start.

    Args:
        arguments: of MONAI Label's function: `params`.
    """
    _check_queue()
    given = arguments.get("params") or {}
    for name, trainer in trainers().items():
        own = given.get(name)
        if own is not None and not isinstance(own, dict):
            raise HTTPException(400, f"{name} is {own!r}; a JSON object of options is needed.")
        trainer.check({**(own or {}), **given})
        if not trainer.runs:
            trainer.check_ready({**(own or {}), **given})


def _check_queue() -> None:
    """Refuse a training where enough of them wait.

    Raises:
        HTTPException: 503 with Retry-After.
    """
    waiting = sum(task.get("status") == UNDER_WAY[0] for task in background.tasks("train"))
    if waiting >= MOST_WAITING:
        raise HTTPException(
            503,
            f"{waiting} trainings wait already; stop them with DELETE /train/, or ask again later.",
            {"Retry-After": "60"},
        )


def check_start(arguments: Mapping[str, Any]) -> None:
    """Refuse a training that cannot start, where MONAI Label's own route starts it.

    Args:
        arguments: of MONAI Label's function: `model` and `params`.
    """
    _check_queue()
    trainer = trainers().get(arguments["model"])
    if trainer is not None:
        asked = arguments.get("params") or {}
        trainer.check(asked)
        trainer.check_ready(asked)
