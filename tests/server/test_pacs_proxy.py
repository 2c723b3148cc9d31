"""The way from a browser to the PACS: searches and retrievals, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from monailabel.config import settings

from resmtnet.server import pacs_proxy
from resmtnet.server.pacs_proxy import check_path, checked_query, forward


@pytest.mark.parametrize(
    "path",
    [
        "studies",
        "studies/1.2/series",
        "studies/1.2/series/3.4/instances",
        "studies/1.2/series/3.4/metadata",
        "studies/1.2/series/3.4/instances/5.6/frames/1,2",
        "studies/1.2/series/3.4/instances/5.6/rendered",
        "studies/1.2/series/3.4/instances/5.6/bulk/7FE00010",
        "studies/1.2/series/3.4/thumbnail/",
    ],
)
def test_dicomweb_searches_and_retrievals_pass(path: str) -> None:
    assert check_path(path) == path.strip("/")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "system",
        "../system",
        "studies/../../system",
        "studies/../series",
        "studies/..",
        "studies/%2e%2e/series",
        "studies/1.2/../../../instances",
        "studies/1.2/series/..",
        "studies/1.2/series/3.4/instances/5.6/bulk/../../x",
        "studies/1.2/metadata?x",
        "studies/1.2\n/series",
        "studies//series",
        "instances/1.2/file",
    ],
)
def test_every_other_path_is_refused(path: str) -> None:
    with pytest.raises(HTTPException) as caught:
        check_path(path)
    assert caught.value.status_code == 403


def test_queries_name_attributes_and_options_only() -> None:
    assert checked_query("limit=1&00100020=A&includefield=all") == (
        "limit=1&00100020=A&includefield=all"
    )
    with pytest.raises(HTTPException):
        checked_query("a/../b=1")


class Pacs:
    """A PACS that notes what it is asked; it can be slow."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.logins: list[str | None] = []
        self.answer = threading.Event()
        self.answer.set()
        self.status = 200


@pytest.fixture
def pacs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pacs]:
    state = Pacs()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.logins.append(self.headers["Authorization"])
            state.answer.wait(60)
            self.send_response(state.status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Set-Cookie", "secret=1")
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", url)
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_USERNAME", "user")
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_PASSWORD", "word")
    yield state
    state.answer.set()
    server.shutdown()
    server.server_close()
    thread.join()


def browser() -> FastAPI:
    app = FastAPI()

    @app.api_route("/proxy/dicom/{op}/{path:path}", methods=["GET", "POST"])
    async def proxy(request: Request, op: str, path: str) -> Any:
        return await forward(request, op, path)

    @app.get("/info")
    async def info() -> str:
        return "here"

    return app


async def _ask(app: FastAPI, method: str, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path)


def ask(method: str, path: str) -> httpx.Response:
    return asyncio.run(_ask(browser(), method, path))


def test_a_search_reaches_the_pacs_with_its_query_and_the_login_of_the_server(pacs: Pacs) -> None:
    reply = ask("GET", "/proxy/dicom/qido/studies?limit=2&PatientID=A")
    assert (reply.status_code, reply.content) == (200, b"[]")
    assert reply.headers["content-type"] == "application/dicom+json"
    assert "set-cookie" not in reply.headers
    assert pacs.asked == ["/dicom-web/studies?limit=2&PatientID=A"]
    assert pacs.logins[0] is not None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/proxy/dicom/wado/..%2f..%2fsystem"),
        ("GET", "/proxy/dicom/wado/..%252f..%252fsystem"),
        ("GET", "/proxy/dicom/wado/studies%2f..%2f..%2f..%2fsystem"),
        ("GET", "/proxy/dicom/qido/%2e%2e/%2e%2e/system"),
        ("POST", "/proxy/dicom/qido/studies"),
        ("GET", "/proxy/dicom/stow/studies"),
    ],
)
def test_no_other_request_reaches_it(pacs: Pacs, method: str, path: str) -> None:
    assert ask(method, path).status_code in (403, 404)
    assert pacs.asked == []


def test_other_requests_are_answered_while_the_pacs_is_slow(pacs: Pacs) -> None:
    pacs.answer.clear()

    async def run() -> tuple[str, int]:
        app = browser()
        slow = asyncio.create_task(_ask(app, "GET", "/proxy/dicom/qido/studies"))
        while not pacs.asked:
            await asyncio.sleep(0.01)
        info = await _ask(app, "GET", "/info")
        assert not slow.done()
        pacs.answer.set()
        return info.json(), (await slow).status_code

    assert asyncio.run(run()) == ("here", 200)


def test_a_pacs_that_takes_too_long_is_given_up(
    pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs_proxy, "TIMEOUT", httpx.Timeout(0.2))
    pacs.answer.clear()
    assert ask("GET", "/proxy/dicom/qido/studies").status_code == 504


def test_a_pacs_that_is_not_there_and_one_that_sends_elsewhere_is_told(
    pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    pacs.status = 302
    assert ask("GET", "/proxy/dicom/qido/studies").status_code == 502
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", "http://127.0.0.1:1/dicom-web")
    assert ask("GET", "/proxy/dicom/qido/studies").status_code == 502
