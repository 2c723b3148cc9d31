"""Checks each request before a route sees it, and answers every failure as JSON with an id.

The same guard stands before MONAI Label's own app and before ours.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import parse_qsl

from anyio import to_thread
from monailabel.config import settings
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from resmtnet.audit import CALLER, audit
from resmtnet.server import access, bodies, login, metrics, rules
from resmtnet.server.pages import own_page
from resmtnet.server.redaction import Redaction
from resmtnet.server.reply import Reply
from resmtnet.server.rules import Refused, ServerRules

logger = logging.getLogger(__name__)

MOST_AT_ONCE = {"/batch": 2, "/infer": 64, "/scoring": 2, "/session": 4}
"""Requests that change or compute, which may run or wait at once, by the beginning of the path."""

SOCKETS = "/resmtnet/_nicegui_ws/"
"""Where the review page, and nothing else, opens a websocket."""

_AUDITED = {
    "/train": "training asked for or stopped",
    "/batch": "batch inference asked for or stopped",
    "/datastore": "studies or labels changed",
}
"""What a request that changes something is called in the audit log, by its route."""

_RETRY_S = 5
_FALSE = ("false", "0", "no", "off", "n", "f", "")
_LONGEST_VALUE = 2000


class Guard:
    """An ASGI app around another one."""

    def __init__(
        self, app: ASGIApp, find_rules: Callable[[], ServerRules], can_wait: bool = True
    ) -> None:
        """Stand before an app.

        Args:
            app: what answers the requests that are passed on.
            find_rules: returns the rules, asked at each request.
            can_wait: whether a request may wait for the end of a batch or training (run_sync);
                false for an app that answers no other request meanwhile.
        """
        self._app, self._find_rules, self._can_wait = app, find_rules, can_wait
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or open a websocket of the review page; all others are closed."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._open_socket(scope, receive, send)

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a websocket as if it were a GET of the same address; no other page may open one."""
        scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "ws"), "http")
        request: Scope = {**scope, "type": "http", "method": "GET", "scheme": scheme}
        caller = {"request_id": secrets.token_hex(8), "client": _address(scope)}
        found, headers = self._find_rules(), lower_case(scope)
        try:
            if not scope["path"].startswith(SOCKETS):
                raise Refused(404, "There is no such websocket.")
            if "origin" not in headers:
                raise Refused(403, "A websocket is opened by a page of this server alone.")
            _check_sender(request, headers, found)
            caller["role"] = access.check_role(request, headers, found)
        except Refused as refused:
            logger.info("A websocket is refused: %s", refused.detail, extra={"facts": caller})
            await send({"type": "websocket.close", "code": 1008})
            return
        held = CALLER.set(caller)
        try:
            await self._app(scope, receive, send)
        finally:
            CALLER.reset(held)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = secrets.token_hex(8)
        without_paths = _redaction(self._find_rules().private_folders)
        reply = Reply(send, scope["path"], request_id, without_paths)
        caller = {"request_id": request_id, "client": _address(scope)}
        held, route = CALLER.set(caller), metrics.route_label(scope["path"])
        began_s = time.perf_counter()
        metrics.RUNNING.labels(route).inc()
        try:
            await self._pass_on(scope, receive, reply, caller)
        except Refused as refused:
            await reply.refuse(refused.status_code, refused.detail, refused.headers)
        except Exception:
            logger.exception("The request failed")
            if not reply.begun:
                await reply.refuse(500, "The request failed; the server's log says why.")
        finally:
            metrics.RUNNING.labels(route).dec()
            _tell(scope, route, reply.status, time.perf_counter() - began_s, caller)
            CALLER.reset(held)

    async def _pass_on(
        self, scope: Scope, receive: Receive, reply: Reply, caller: dict[str, str]
    ) -> None:
        found, headers = self._find_rules(), lower_case(scope)
        _check_sender(scope, headers, found)
        answer = login.with_token_in_address(scope, headers, found)
        log_in = login.handler_of(scope["method"], scope["path"])
        if log_in is not None and not settings.MONAI_LABEL_AUTH_ENABLE:
            answer = await log_in(scope, receive, headers, found)
        if answer is None:
            try:
                caller["role"] = access.check_role(scope, headers, found)
            except Refused as refused:
                if refused.status_code != 401 or not login.wants_page(scope, headers):
                    raise
                answer = login.to_login(scope)
        if answer is not None:
            reply.shows_pages = True
            await answer(scope, receive, reply)
            return
        receive = await _checked(scope, receive, headers, found)
        if not self._can_wait:
            _check_sync(scope)
        with self._place(scope):
            page = own_page(scope["method"], scope["path"])
            if page is None:
                await self._app(scope, receive, reply)
            else:
                await (await to_thread.run_sync(page))(scope, receive, reply)

    @contextmanager
    def _place(self, scope: Scope) -> Iterator[None]:
        """Holds one of the places of a route that computes.

        Raises:
            Refused: 503 if all are taken.
        """
        start = next((s for s in MOST_AT_ONCE if scope["path"].startswith(s)), None)
        if start is None or scope["method"] in ("GET", "HEAD", "DELETE"):
            yield
            return
        if self._running[start] >= MOST_AT_ONCE[start]:
            metrics.PUT_OFF.labels(start).inc()
            raise Refused(
                503,
                f"{MOST_AT_ONCE[start]} requests to {start} run or wait already; ask again later.",
                {"Retry-After": str(_RETRY_S)},
            )
        self._running[start] += 1
        try:
            yield
        finally:
            self._running[start] -= 1


def _check_sender(scope: Scope, headers: Mapping[str, str], found: ServerRules) -> None:
    """Check from where a request comes, and its path and query, before anything else.

    Raises:
        Refused: with the first reason.
    """
    if len(Headers(scope=scope).getlist("host")) != 1:
        raise Refused(400, "One header Host is needed.")
    rules.check_host(headers["host"], found)
    rules.check_origin(scope["method"], headers, found)
    raw_path = scope.get("raw_path", scope["path"].encode())
    rules.check_path(raw_path.decode("latin-1"))
    _check_query(scope["query_string"].decode("latin-1"))
    method, length = scope["method"], headers.get("content-length", "0")
    has_body = length != "0" or "transfer-encoding" in headers
    kind = headers.get("content-type", "")
    rules.check_content_type(method, scope["path"], kind, has_body)


async def _checked(
    scope: Scope, receive: Receive, headers: Mapping[str, str], found: ServerRules
) -> Receive:
    """Check what a client that may ask wants; return the channel of its body.

    Raises:
        Refused: with the first reason.
    """
    method, path = scope["method"], scope["path"]
    rules.check_closed(method, path, found)
    length = headers.get("content-length", "0")
    if length == "0" and "transfer-encoding" not in headers:
        return receive
    most = rules.JSON_BYTES if rules.takes_json(path) else found.upload_bytes
    if not length.isdecimal() or int(length) > most:
        raise Refused(413, bodies.too_large(most))
    if found.keys_of(path) is not None:
        body = await bodies.read_all(receive)
        bodies.check_parameters(bodies.json_object(body, "body"), path, found)
        return bodies.replayed(body, receive)
    return bodies.bounded(receive, most)


def lower_case(scope: Scope) -> dict[str, str]:
    """Return the headers of a request by name in lower case."""
    return {name.lower(): value for name, value in Headers(scope=scope).items()}


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def _tell(scope: Scope, route: str, status: int, took_s: float, caller: dict[str, str]) -> None:
    """Count an answer, write it to the log and, if it changed something, to the audit log."""
    metrics.REQUEST_SECONDS.labels(route, scope["method"], str(status)).observe(took_s)
    facts = {"method": scope["method"], "route": route, "status": status}
    logger.info("answered", extra={"facts": {**facts, "ms": round(1e3 * took_s, 1), **caller}})
    if status < 400 and scope["method"] in ("POST", "PUT", "DELETE") and route in _AUDITED:
        audit(_AUDITED[route], method=scope["method"], status=status)


@lru_cache(maxsize=4)
def _redaction(folders: tuple[str, ...]) -> Redaction:
    return Redaction(folders)


def _check_query(query: str) -> None:
    """Refuse values that no route takes, and that functions below would fail on.

    Raises:
        Refused: 400.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=50, errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise Refused(400, "The query is no valid one.") from None
    for name, value in pairs:
        if "\0" in value or len(value) > _LONGEST_VALUE:
            raise Refused(
                400, f"{name[:40]}: at most {_LONGEST_VALUE} characters and no NUL are allowed."
            )
        if name == "uncompress" and value.lower() not in _FALSE:
            raise Refused(400, "uncompress: archives are not unpacked; upload the image itself.")


def _check_sync(scope: Scope) -> None:
    """Refuse to wait for a batch or training.

    Raises:
        Refused: 400.
    """
    waits = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("run_sync", "false")
    if waits.lower() not in _FALSE:
        raise Refused(
            400,
            "run_sync: this server would answer nothing else until the end. Leave it out and ask "
            "for the state with GET, or use `resmtnet serve`.",
        )
