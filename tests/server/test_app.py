"""MONAI Label's routes, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Barrier, Event, Lock
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from anyio import CapacityLimiter
from fastapi import APIRouter, FastAPI, Form
from monailabel.endpoints import datastore

from resmtnet.errors import ReadingError, StoreError
from resmtnet.server import app as server
from resmtnet.server.app import BLOCKING, make_app, off_the_loop
from resmtnet.server.routes import add_refusals

PATIENCE_S = 60.0
"""After which a test fails instead of waiting for ever."""


def ask(app: FastAPI, *requests: tuple[str, str], **more: Any) -> list[httpx.Response]:
    """The replies to requests that are sent at once."""

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(client.request(*r, **more) for r in requests))

    return asyncio.run(run())


@pytest.fixture
def threaded() -> Callable[..., FastAPI]:
    """An app with one route that blocks, as MONAI Label's do."""

    def make(work: Callable[[], Any], **limits: Any) -> FastAPI:
        router = APIRouter(prefix="/work")

        @router.get("/")
        @router.post("/")
        async def handle(word: str = "", form: str = Form("{}")) -> Any:
            return {"work": work(), "word": word, "form": form}

        app = FastAPI()
        app.include_router(off_the_loop(router.routes, **limits))
        return app

    return make


def test_requests_that_block_run_beside_one_another(threaded: Any) -> None:
    meeting = Barrier(3)
    app = threaded(lambda: meeting.wait(timeout=30))
    replies = ask(app, *[("GET", "/work/")] * 3)
    assert sorted(reply.json()["work"] for reply in replies) == [0, 1, 2]


class Queue:
    """Work that waits until it is let go, and that tells how many do it at once."""

    def __init__(self) -> None:
        self.running = self.done = 0
        self.go_on = Event()
        self._lock = Lock()

    def __call__(self, *_: Any, **__: Any) -> None:
        with self._lock:
            self.running += 1
        assert self.go_on.wait(PATIENCE_S)
        with self._lock:
            self.running -= 1
            self.done += 1


async def until(state: Callable[[], bool]) -> None:
    """Wait for a state; the test fails if it never comes."""

    async def wait() -> None:
        while not state():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), PATIENCE_S)


def running_with_one_more_waiting(
    app: FastAPI, queue: Queue, limiter: CapacityLimiter, request: tuple[str, str]
) -> int:
    """Send two requests; return how many run when each of them either runs or waits."""

    def settled() -> bool:
        return queue.running + limiter.statistics().tasks_waiting == 2

    async def run() -> int:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            replies = [asyncio.create_task(client.request(*request)) for _ in range(2)]
            try:
                await until(settled)
                return queue.running
            finally:
                queue.go_on.set()
                await asyncio.gather(*replies)

    return asyncio.run(run())


def test_a_limit_holds_for_the_requests_that_it_is_of(threaded: Any) -> None:
    limiter, queue = CapacityLimiter(1), Queue()
    app = threaded(queue, writes=limiter)
    assert running_with_one_more_waiting(app, queue, limiter, ("POST", "/work/")) == 1
    assert queue.done == 2


def test_a_limit_leaves_other_requests_alone(threaded: Any) -> None:
    limiter, queue = CapacityLimiter(1), Queue()
    app = threaded(queue, writes=limiter)
    assert running_with_one_more_waiting(app, queue, limiter, ("GET", "/work/")) == 2


def test_changes_of_the_datastore_run_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[CapacityLimiter] = []

    def make(total: float) -> CapacityLimiter:
        made.append(CapacityLimiter(total))
        return made[-1]

    queue = Queue()
    store = SimpleNamespace(remove_image=queue)
    monkeypatch.setattr(server, "CapacityLimiter", make)
    monkeypatch.setattr(datastore, "app_instance", lambda: SimpleNamespace(datastore=lambda: store))
    app = make_app()
    writing = made[-1]
    request = ("DELETE", "/datastore/?id=a")
    assert running_with_one_more_waiting(app, queue, writing, request) == 1
    assert queue.done == 2


def test_parameters_reach_the_route_as_before(threaded: Any) -> None:
    (reply,) = ask(threaded(lambda: None), ("POST", "/work/?word=a"), data={"form": "b"})
    assert reply.json() == {"work": None, "word": "a", "form": "b"}


def test_every_route_of_monai_label_is_there() -> None:
    paths = make_app().openapi()["paths"]
    named = [route.path for module in BLOCKING for route in module.router.routes]
    shown = [p for p in named if p.startswith(("/infer", "/train", "/activelearning", "/info"))]
    assert set(shown) <= set(paths)
    assert {"/resmtnet/readings", "/resmtnet/versions"} <= set(paths)


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (ReadingError("size.volume_mm3", "is -1"), 422, "size.volume_mm3"),
        (StoreError("disk full"), 503, "disk full"),
    ],
)
def test_errors_are_answered_with_their_reason(error: Exception, status: int, detail: str) -> None:
    app = FastAPI()
    add_refusals(app)

    @app.get("/")
    def fail() -> None:
        raise error

    (reply,) = ask(app, ("GET", "/"))
    assert reply.status_code == status
    found = reply.json()["detail"]
    if status == 422:
        assert found == [{"field": detail, "message": "is -1"}]
    else:
        assert found == detail
