"""Sends single requests to a server, and judges the answers."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

PATIENCE_S = 20.0
"""A request without an answer after this time is a hole too."""

MARKER_S = 60.0
"""How long a training process may take until it runs a client's code."""

EVIL = "http://evil.example"
Attack = Callable[["Client"], "Result"]


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    """0: no answer."""
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def refused(self) -> bool:
        """Whether the server said no, as JSON."""
        return 400 <= self.status < 500 and self.is_json

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON, or there is none (HEAD)."""
        return not self.body or self.headers.get("content-type", "").startswith("application/json")

    def __str__(self) -> str:
        if not self.status:
            return f"no answer in {self.seconds:.0f} s"
        shown = self.body[:60].decode(errors="replace")
        return f"{self.status} {''.join(c if c.isprintable() else ' ' for c in shown)}"


@dataclass(frozen=True)
class Result:
    """Whether a hole is open."""

    state: str
    """open, closed or not tried."""
    told: str


class Client:
    """Sends single requests, each over a connection of its own."""

    def __init__(self, url: str, folder: Path, patience_s: float = PATIENCE_S) -> None:
        self.host, self.port = urlsplit(url).hostname or "127.0.0.1", urlsplit(url).port or 80
        self.patience_s = patience_s
        self.folder = folder
        """For files that a request names; only this program writes there."""

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str | None = None,
        patience_s: float | None = None,
        **headers: str,
    ) -> Answer:
        """Send a request; names of headers have _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"Content-Type": kind} if kind else {}
        began_s = time.monotonic()
        connection = http.client.HTTPConnection(
            self.host, self.port, timeout=patience_s or self.patience_s
        )
        try:
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            content = reply.read(100_000)
            told = {name.lower(): value for name, value in reply.getheaders()}
            return Answer(reply.status, told, content, time.monotonic() - began_s)
        except (OSError, http.client.HTTPException):
            return Answer(0, {}, b"", time.monotonic() - began_s)
        finally:
            connection.close()

    def send_json(self, path: str, document: object, kind: str = "application/json") -> Answer:
        """POST a JSON document."""
        return self.ask("POST", path, json.dumps(document).encode(), kind)

    def form(
        self, method: str, path: str, fields: dict[str, str], **files: tuple[str, bytes]
    ) -> Answer:
        """Send a form with files, (name, content) by field."""
        edge, body = "----intruder", b""
        for name, value in fields.items():
            body += f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
            body += value.encode("utf-8", "surrogatepass") + b"\r\n"
        for name, (file, content) in files.items():
            head = f'name="{name}"; filename="{file}"'
            body += f"--{edge}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
            body += content + b"\r\n"
        body += f"--{edge}--\r\n".encode()
        return self.ask(method, path, body, f"multipart/form-data; boundary={edge}")

    def lives(self) -> bool:
        """Whether the server still answers."""
        return self.ask("GET", "/info/").status == 200

    def has_pacs(self) -> bool:
        """Whether its studies are in a PACS."""
        return self.ask("GET", "/proxy/dicom/qido/studies").status == 200


def judged(answer: Answer) -> Result:
    """A request that must be refused."""
    return Result("closed" if answer.refused else "open", str(answer))


def refused(*request: object, **more: str) -> Attack:
    """One request that must be refused."""
    return lambda client: judged(client.ask(*request, **more))  # type: ignore[arg-type]


def as_json(path: str, document: object, kind: str = "application/json") -> Attack:
    """One JSON document that must be refused."""
    return lambda client: judged(client.send_json(path, document, kind))


def as_form(method: str, path: str, fields: dict[str, str], **files: tuple[str, bytes]) -> Attack:
    """One form that must be refused."""
    return lambda client: judged(client.form(method, path, fields, **files))
