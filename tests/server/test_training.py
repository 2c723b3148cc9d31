"""The start of a training: what cannot run is refused before anything starts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from monailabel.endpoints import train

from resmtnet.monai_label.refusals import Refusal, as_refusals
from resmtnet.monai_label.trainer_form import TrainOptions
from resmtnet.server import training
from resmtnet.server.app import make_app


class OneTrainer:
    """Checks options as the app's trainer does."""

    runs = False

    def check(self, request: Mapping[str, Any]) -> object:
        with as_refusals():
            return TrainOptions.parse(request)

    missing = ""

    def check_ready(self, request: Mapping[str, Any]) -> None:
        if self.missing:
            raise Refusal(400, f"No training: {self.missing}.")

    def outcome(self) -> str:
        return "Not published: too few."


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> OneTrainer:
    trainer = OneTrainer()
    monkeypatch.setattr(training, "trainers", lambda: {"resmtnet": trainer})
    return trainer


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What MONAI Label was told to start."""
    calls: list[Any] = []

    def note(*arguments: Any) -> Any:
        calls.append(arguments)
        return {"status": "SUBMITTED"}

    monkeypatch.setattr(train, "run_model", note)
    monkeypatch.setattr(train, "run", note)
    return calls


def post(path: str, body: object = None) -> tuple[int, Any]:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=make_app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(path, json=body)

    reply = asyncio.run(run())
    return reply.status_code, reply.json()


BAD = [
    ({"colour": "red"}, "colour is no option of training"),
    ({"epochs": 0}, "epochs is 0; a whole number from 1 to 1000"),
    ({"epochs": {"n": 3}}, "epochs is {'n': 3}"),
    ({"depth": "deep"}, "depth is 'deep'; allowed are heads"),
    ({"use_histology": "perhaps"}, "use_histology is 'perhaps'"),
]


@pytest.mark.parametrize(("options", "told"), BAD)
@pytest.mark.parametrize("of_all", [False, True])
def test_a_wrong_option_is_refused_in_one_line_before_anything_starts(
    trainer: OneTrainer, started: list[Any], options: Any, told: str, of_all: bool
) -> None:
    path, body = ("/train/", {"resmtnet": options}) if of_all else ("/train/resmtnet", options)
    status, reply = post(path, body)
    assert status == 400
    assert reply["detail"].startswith(told)
    assert "\n" not in reply["detail"]
    assert started == []


@pytest.mark.parametrize("body", [None, {}, {"epochs": 3, "client_id": "slicer"}])
def test_a_training_that_can_run_is_started_by_monai_label(
    trainer: OneTrainer, started: list[Any], body: Any
) -> None:
    status, reply = post("/train/resmtnet?run_sync=true", body)
    assert (status, reply) == (200, {"status": "SUBMITTED"})
    assert started == [("resmtnet", body, True, False)]


def test_all_trainers_are_started_with_options_by_their_name(
    trainer: OneTrainer, started: list[Any]
) -> None:
    body = {"resmtnet": {"epochs": 3}}
    assert post("/train/", body)[0] == 200
    assert started == [(body, False)]


def test_options_that_are_no_object_are_refused(trainer: OneTrainer, started: list[Any]) -> None:
    assert post("/train/", {"resmtnet": 3})[0] == 400
    assert post("/train/resmtnet", [3])[0] == 422
    assert started == []


@pytest.mark.parametrize("path", ["/train/", "/train/resmtnet?enqueue=true"])
def test_only_few_trainings_wait_for_another_one(
    trainer: OneTrainer, started: list[Any], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    waiting = [{"status": "RUNNING"}, {"status": "DONE"}, {"status": "SUBMITTED"}]
    monkeypatch.setitem(training.background.background_tasks, "train", waiting)
    assert post(path, {})[0] == 200
    waiting.append({"status": "SUBMITTED"})
    status, told = post(path, {})
    assert status == 503
    assert "2 trainings wait already" in told["detail"]
    assert len(started) == 1


def test_the_plain_start_checks_what_starts_all_trainers(trainer: OneTrainer) -> None:
    trainer.missing = "5 more patients"
    with pytest.raises(Refusal, match="5 more patients"):
        training.check_start_all({"params": None})


def test_a_trainer_that_is_not_there_is_told_with_those_that_are(
    trainer: OneTrainer, started: list[Any]
) -> None:
    status, reply = post("/train/other", {})
    assert (status, started) == (404, [])
    assert reply["detail"] == "There is no trainer 'other'; allowed are resmtnet."


def test_while_a_training_runs_another_one_only_queues(
    trainer: OneTrainer, started: list[Any]
) -> None:
    trainer.runs = True
    status, reply = post("/train/resmtnet", {})
    assert (status, started) == (429, [])
    assert "is running" in reply["detail"]
    assert post("/train/resmtnet?enqueue=true", {})[0] == 200
    assert len(started) == 1


@pytest.mark.parametrize("path", ["/train/resmtnet", "/train/"])
def test_a_training_with_too_few_patients_is_refused_before_it_starts(
    trainer: OneTrainer, started: list[Any], path: str
) -> None:
    trainer.missing = "3 patients, 10 are needed"
    status, reply = post(path, {})
    assert (status, reply["detail"]) == (400, "No training: 3 patients, 10 are needed.")
    assert started == []


def test_the_status_of_a_training_that_ended_says_what_became_of_it(
    trainer: OneTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = iter(["RUNNING", "DONE"])
    monkeypatch.setattr(training, "_status_of_platform", lambda *_: {"status": next(states)})
    assert [training.status()["status"] for _ in range(2)] == [
        "RUNNING",
        "DONE. Not published: too few.",
    ]
