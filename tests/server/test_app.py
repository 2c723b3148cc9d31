"""MONAI Label's routes, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Barrier, Lock
from typing import Any

import httpx
import pytest
from anyio import CapacityLimiter
from fastapi import APIRouter, FastAPI, Form

from resmtnet.errors import ReadingError, StoreError
from resmtnet.server.app import BLOCKING, make_app, off_the_loop
from resmtnet.server.routes import add_refusals


def ask(app: FastAPI, *requests: tuple[str, str], **more: Any) -> list[httpx.Response]:
    """The replies to requests that are sent at once."""

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
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


def test_a_limit_holds_for_the_requests_that_it_is_of(threaded: Any) -> None:
    running, most, lock = [0], [0], Lock()

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        for _ in range(1000):
            pass
        with lock:
            running[0] -= 1

    app = threaded(work, writes=CapacityLimiter(1))
    assert all(reply.status_code == 200 for reply in ask(app, *[("POST", "/work/")] * 20))
    assert most[0] == 1
    meeting = Barrier(2)
    app = threaded(lambda: meeting.wait(timeout=30), writes=CapacityLimiter(1))
    assert all(reply.status_code == 200 for reply in ask(app, *[("GET", "/work/")] * 2))


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
