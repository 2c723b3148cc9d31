"""A PACS that is silent, and one that asks for an account: a real socket answers, or does not."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from dicomweb_client import DICOMwebClient
from monailabel.config import settings

from resmtnet.errors import PacsError
from resmtnet.monai_label import pacs_client
from resmtnet.monai_label.dicomweb import DicomWebDatastore
from resmtnet.monai_label.pacs import Pacs
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.site_images import SiteFiles


@pytest.fixture
def silent() -> Iterator[str]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/dicom-web"


@pytest.fixture
def guarded() -> Iterator[str]:
    """Answers whoever has the account of "server" with no series, and others with 401."""
    account = "Basic " + base64.b64encode(b"server:secret").decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") == account
            self.send_response(204 if known else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    server.shutdown()
    server.server_close()


def test_a_silent_pacs_is_not_waited_for_without_end(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs_client, "SILENCE_S", 0.2)
    monkeypatch.setattr(pacs_client, "ATTEMPTS", 1)
    with pytest.raises(PacsError, match="timed out"):
        Pacs(pacs_client.connect(silent)).series(StudyInstanceUID="1.2")
    stock: Any = SimpleNamespace(
        _client=DICOMwebClient(silent),
        _search_filter={},
        _datastore_path=str(tmp_path / "hash"),
        _fetch_by_frame=False,
    )
    with pytest.raises(Refusal) as refused:
        DicomWebDatastore(stock).volume_path("1.2.3")
    assert refused.value.status_code == 502


def test_commands_send_the_account_of_the_pacs(
    guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def series() -> list[Any]:
        pacs = SiteFiles(guarded).pacs
        assert pacs is not None
        return list(pacs.series(StudyInstanceUID="1.2"))

    with pytest.raises(PacsError, match="401"):
        series()
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_USERNAME", "server")
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_PASSWORD", "secret")
    assert series() == []
