"""The guard before an app: what it lets through, refuses, and makes of failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Form, Request, UploadFile
from fastapi.responses import PlainTextResponse

from resmtnet.audit import CALLER
from resmtnet.server import guard
from resmtnet.server.guard import Guard
from resmtnet.server.rules import ServerRules

RULES = ServerRules(
    upload_bytes=10_000, json_keys={"/train": frozenset({"epochs", "gpus"})}, trainers=("resmtnet",)
)


def guarded() -> Guard:
    """An app whose routes echo, fail or answer plain text."""
    app = FastAPI()

    @app.post("/train/{name}")
    async def train(name: str, params: dict[str, Any] | None = None) -> Any:
        return params

    @app.put("/datastore/label")
    async def upload(label: UploadFile, params: str = Form("{}")) -> Any:
        return {"bytes": len(await label.read())}

    @app.get("/fails")
    async def fail() -> None:
        raise ValueError("a path of the server: /secret")

    @app.get("/plain")
    async def plain() -> PlainTextResponse:
        return PlainTextResponse("no", 418)

    @app.get("/host")
    async def host(request: Request) -> str:
        return request.headers["host"]

    return Guard(app, lambda: RULES)


def ask(method: str, path: str, **more: Any) -> httpx.Response:
    return asyncio.run(_ask(guarded(), method, path, **more))


async def _ask(app: Any, method: str, path: str, **more: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path, **more)


def test_a_request_in_order_reaches_its_route_with_its_body() -> None:
    reply = ask("POST", "/train/resmtnet", json={"epochs": 3, "gpus": "0,1"})
    assert reply.json() == {"epochs": 3, "gpus": "0,1"}
    assert len(reply.headers["x-request-id"]) == 16
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_ids_of_requests_differ() -> None:
    assert (
        ask("GET", "/host").headers["x-request-id"] != ask("GET", "/host").headers["x-request-id"]
    )


@pytest.mark.parametrize(
    "body",
    [
        {"bundle_path": "/tmp"},
        {"resmtnet": {"bundle_path": "/tmp"}},
        {"epochs": 1, "PYTHONPATH": "/tmp"},
        {"gpus": ["0"]},
        {"gpus": "0; rm"},
        [1],
    ],
)
def test_parameters_that_are_not_listed_are_refused(body: Any) -> None:
    reply = ask("POST", "/train/resmtnet", json=body)
    assert reply.status_code == 400
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_the_refusal_names_what_is_allowed() -> None:
    reply = ask("POST", "/train/resmtnet", json={"bundle_path": "/tmp"})
    assert reply.json()["detail"].endswith("allowed are epochs, gpus.")


@pytest.mark.parametrize("body", [b"{", b'{"a":' * 30 + b"1" + b"}" * 30, b"[" * 100_000])
def test_no_json_and_json_too_deep_is_refused(body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert ask("POST", "/train/resmtnet", content=body, headers=headers).status_code == 400


def test_an_empty_body_has_no_parameters() -> None:
    assert ask("POST", "/train/resmtnet").status_code == 200


async def _parts(count: int) -> AsyncIterator[bytes]:
    head = b'--x\r\nContent-Disposition: form-data; name="label"; filename="a.nrrd"\r\n\r\n'
    yield head
    for _ in range(count):
        yield bytes(1000)
    yield b"\r\n--x--\r\n"


@pytest.mark.parametrize(("count", "status"), [(5, 200), (50, 413)])
def test_an_upload_of_unknown_size_ends_at_the_limit(count: int, status: int) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    reply = ask("PUT", "/datastore/label", content=_parts(count), headers=headers)
    assert reply.status_code == status
    assert reply.headers["content-type"] == "application/json"


def test_an_upload_that_announces_too_much_is_refused_before_it_comes() -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "100000000000"}
    assert ask("PUT", "/datastore/label", headers=headers).status_code == 413


def test_a_failure_is_json_without_what_it_was() -> None:
    reply = ask("GET", "/fails")
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_a_plain_text_error_becomes_json() -> None:
    reply = ask("GET", "/plain")
    assert reply.status_code == 418
    assert reply.json()["request_id"]


@pytest.mark.parametrize("query", ["image=a%00b", f"image={'x' * 3000}", "uncompress=true"])
def test_values_that_no_route_takes_are_refused(query: str) -> None:
    assert ask("GET", f"/host?{query}").status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_hosts_and_origins_are_checked(headers: dict[str, str], status: int) -> None:
    reply = ask("GET", "/host", headers=headers)
    assert reply.status_code == status
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_list_of_routes_loads_nothing_from_elsewhere(path: str) -> None:
    reply = ask("GET", path)
    assert reply.status_code == 200
    assert "https://" not in reply.text
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_more_requests_than_places_are_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_AT_ONCE", {"/batch": 2})

    async def run() -> list[httpx.Response]:
        go_on, entered = asyncio.Event(), []

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            entered.append(1)
            await go_on.wait()
            await PlainTextResponse("done")(scope, receive, send)

        app = Guard(slow, lambda: RULES)
        waiting = [asyncio.create_task(_ask(app, "POST", "/batch/infer/a")) for _ in range(2)]
        while len(entered) < 2:
            await asyncio.sleep(0)
        third = await _ask(app, "POST", "/batch/infer/a")
        go_on.set()
        done = await asyncio.gather(*waiting)
        return [third, *done, await _ask(app, "POST", "/batch/infer/a")]

    third, *others = asyncio.run(run())
    assert third.status_code == 503
    assert int(third.headers["retry-after"]) > 0
    assert [reply.status_code for reply in others] == [200, 200, 200]


@pytest.mark.parametrize(("can_wait", "status"), [(True, 200), (False, 400)])
def test_an_app_that_answers_nothing_else_meanwhile_does_not_wait(
    can_wait: bool, status: int
) -> None:
    app = Guard(PlainTextResponse("done"), lambda: RULES, can_wait)
    assert asyncio.run(_ask(app, "POST", "/batch/infer/a?run_sync=true")).status_code == status
    assert asyncio.run(_ask(app, "POST", "/batch/infer/a?run_sync=false")).status_code == 200


SOCKET = "/resmtnet/_nicegui_ws/socket.io/"


def open_socket(path: str, headers: dict[str, str], found: ServerRules = RULES) -> str:
    """Try to open a websocket; returns "opened" or "refused"."""
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert CALLER.get()["role"] == "local"
        await send({"type": "websocket.accept"})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {
        "type": "websocket",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"EIO=4&transport=websocket",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 5000),
    }
    asyncio.run(Guard(app, lambda: found)(scope, receive, send))
    return {"websocket.accept": "opened", "websocket.close": "refused"}["".join(sent)]


HOME = {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("path", "headers", "found", "expected"),
    [
        (SOCKET, HOME, RULES, "opened"),
        ("/other", HOME, RULES, "refused"),
        (SOCKET, {**HOME, "origin": "https://evil.example"}, RULES, "refused"),
        (SOCKET, {**HOME, "origin": "null"}, RULES, "refused"),
        (SOCKET, {"host": "127.0.0.1:8000"}, RULES, "refused"),
        (
            SOCKET,
            {"host": "evil.example", "origin": "http://evil.example"},
            RULES,
            "refused",
        ),
        (SOCKET, HOME, ServerRules(login="always"), "refused"),
        (SOCKET, {**HOME, "x-forwarded-for": "10.0.0.7"}, RULES, "refused"),
    ],
)
def test_a_websocket_is_opened_by_the_review_page_of_this_server_alone(
    path: str, headers: dict[str, str], found: ServerRules, expected: str
) -> None:
    assert open_socket(path, headers, found) == expected
