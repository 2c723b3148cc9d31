"""What the guard makes of an answer: an id, safe headers, and errors as JSON without paths."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

_VIEWER = "/ohif"
_VIEWER_POLICY = "frame-ancestors 'self'; style-src 'self' 'unsafe-inline'; font-src 'self' data:"
"""OHIF's page names fonts of Google: each browser that shows a study would tell so there."""

_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'self'",
}


class Reply:
    """Passes on what the app answers, with an id; errors become JSON without paths."""

    def __init__(
        self, send: Send, path: str, request_id: str, without_paths: Callable[[str], str]
    ) -> None:
        """Answer a request.

        Args:
            send: to the client.
            path: of the request.
            request_id: told in a header, and in errors.
            without_paths: takes paths of the server out of a text.
        """
        self._send, self._id, self._without_paths = send, request_id, without_paths
        self._headers = _SAFE_HEADERS
        if path.startswith(_VIEWER):
            self._headers = {**_SAFE_HEADERS, "Content-Security-Policy": _VIEWER_POLICY}
        self._error = bytearray()
        """Of the app, as far as it has come."""
        self._error_headers: Mapping[str, str] | None = None
        """While an error is collected."""
        self.begun = False
        """Whether the answer has begun."""
        self.status = 499
        """Of the answer; 499 until it begins, as for a client that left."""
        self.shows_pages = False
        """Whether an error may be a page for a person."""
        self._drops_body = False

    async def __call__(self, message: Message) -> None:
        """Pass on a part of an answer."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            kind = headers.get("content-type", "")
            is_json, is_error = kind.startswith("application/json"), message["status"] >= 400
            if is_error and not is_json and not self.shows_pages:
                self._drops_body = True
                await self.refuse(message["status"], _reason(message["status"]))
                return
            if is_error and is_json and "content-encoding" not in headers:
                self.status, self._error_headers = message["status"], headers
                return
            self.begun, self.status = True, message["status"]
            headers["X-Request-ID"] = self._id
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        elif self._drops_body:
            return
        elif self._error_headers is not None:
            self._error += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_error(self._error_headers)
            return
        await self._send(message)

    async def _send_error(self, of_app: Mapping[str, str]) -> None:
        """Send the error of the app on, with an id and without paths of the server."""
        body = self._without_paths(self._error.decode("utf-8", "replace")).encode()
        kept = {n: v for n, v in of_app.items() if n.lower() != "content-length"}
        await self._begin(self.status, body, kept)

    async def refuse(self, status: int, reason: str, more: Mapping[str, str] | None = None) -> None:
        """Answer an error as JSON, unless an answer has begun."""
        if self.begun:
            return
        content = {"detail": self._without_paths(reason), "request_id": self._id}
        await self._begin(
            status,
            json.dumps(content).encode(),
            {"Content-Type": "application/json", **(more or {})},
        )

    async def _begin(self, status: int, body: bytes, more: Mapping[str, str]) -> None:
        self.begun, self.status = True, status
        headers = {
            "Content-Length": str(len(body)),
            "X-Request-ID": self._id,
            **self._headers,
            **more,
        }
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})
        await self._send({"type": "http.response.body", "body": body})


def _reason(status: int) -> str:
    if status >= 500:
        return "The request failed; the server's log says why."
    return "There is no such route; /docs lists them." if status == 404 else "Refused."
