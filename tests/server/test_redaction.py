"""What clients see of paths of the server in errors: the last step."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from resmtnet import errors
from resmtnet.server.guard import Guard
from resmtnet.server.redaction import Redaction
from resmtnet.server.routes import add_refusals
from resmtnet.server.rules import ServerRules

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ResMTNetError)
]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/data/site/readings.sqlite is damaged", "readings.sqlite is damaged"),
        ("in '/data/site/My CT.nii': no", "in 'My CT.nii': no"),
        ("/data: no space left", "data: no space left"),
        ("(/data/a/b), /data/c.", "(b), c."),
        ("/datastore lists them; see /database", "/datastore lists them; see /database"),
        ("https://pacs/data/x", "https://pacs/data/x"),
    ],
)
def test_paths_below_private_folders_are_shortened(text: str, told: str) -> None:
    assert Redaction(["/data", "/"])(text) == told


def test_links_and_other_names_of_a_folder_are_known(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    told = Redaction([link])
    assert told(f"{real}/x.nii {link}/y.nii") == "x.nii y.nii"


def test_without_folders_texts_stay() -> None:
    assert Redaction(["/"])("/etc/passwd") == "/etc/passwd"


@pytest.mark.parametrize("kind", [*KINDS, HTTPException, OSError], ids=lambda kind: kind.__name__)
def test_no_kind_of_error_tells_a_path_of_the_server(kind: type[Exception], tmp_path: Path) -> None:
    secret = tmp_path / "Smith^John" / "readings.sqlite"
    app = FastAPI()
    add_refusals(app)

    @app.get("/fails")
    def fail() -> None:
        if kind is HTTPException:
            raise HTTPException(503, f"{secret} is damaged; restore it")
        if kind is errors.ReadingError:
            raise errors.ReadingError("mask", f"{secret} is missing")
        if kind is OSError:
            raise OSError(28, "No space left on device", str(secret))
        raise kind(f"{secret} is damaged; restore it")

    rules = ServerRules(private_folders=(str(tmp_path),))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Guard(app, lambda: rules), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/fails")

    reply = asyncio.run(ask())
    assert 400 <= reply.status_code < 600
    assert reply.headers["x-request-id"]
    assert str(tmp_path) not in reply.text
    assert "Smith" not in reply.text
    assert reply.json()["detail"]
