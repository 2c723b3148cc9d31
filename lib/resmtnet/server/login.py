"""Logging in: a page for browsers, an address with a token, and what MONAI Label's clients ask."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl, quote, urlencode

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from resmtnet.server import access
from resmtnet.server.bodies import read_all
from resmtnet.server.rules import Refused, ServerRules

Handler = Callable[[Scope, Receive, Mapping[str, str], ServerRules], Awaitable[Response]]

_FORM_BYTES = 10_000
_NO_STORE = {"Cache-Control": "no-store"}
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",  # with no-referrer the form is sent with Origin: null
    **_NO_STORE,
}
_PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Log in</title>
<style>body{{font:16px sans-serif;margin:4em auto;max-width:30em}}input{{width:100%;padding:.4em}}
p.wrong{{color:#a00}}</style>
<h1>Res-MTNet</h1>
{wrong}<form method="post" action="/login?next={next}">
<p><label>Token <input type="password" name="token" autocomplete="current-password" required
autofocus></label></p><p><button>Log in</button></p></form>
<p>The server printed its address with a token, and where the tokens are kept, when it was
started.</p></html>
"""


def handler_of(method: str, path: str) -> Handler | None:
    """Return what answers a request for logging in; None if it is none."""
    plain = path.rstrip("/") or "/"
    return _HANDLERS.get((method, plain))


def with_token_in_address(
    scope: Scope, headers: Mapping[str, str], rules: ServerRules
) -> Response | None:
    """Answer an address with ?token=...: a cookie, and the same address without the token.

    Returns:
        None for any other address.

    Raises:
        Refused: 401 for a wrong token, 429 after too many, 403 without encryption.
    """
    given = access.token_in_query(scope)
    if given is None:
        return None
    access.check_encrypted(scope, headers, rules)
    role = access.proven_role(given, "address", scope, headers, rules)
    if role is None:
        raise Refused(401, "The token in the address is none of this server.")
    kept = [p for p in parse_qsl(scope["query_string"].decode("latin-1")) if p[0] != "token"]
    address = quote(scope["path"]) + (f"?{urlencode(kept)}" if kept else "")
    return _with_cookie(
        RedirectResponse(_local(address), 303, _NO_STORE), scope, headers, role, rules
    )


def wants_page(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether a person waits for a page, and not a program for data."""
    return scope["method"] == "GET" and "text/html" in headers.get("accept", "")


def to_login(scope: Scope) -> Response:
    """Send a person to the page for logging in, and back afterwards."""
    query = scope["query_string"].decode("latin-1")
    here = quote(scope["path"]) + (f"?{query}" if query else "")
    return RedirectResponse(f"/login?{urlencode({'next': here})}", 303, _NO_STORE)


async def _show(scope: Scope, receive: Receive, headers: object, rules: ServerRules) -> Response:
    return _page(scope)


async def _log_in(
    scope: Scope, receive: Receive, headers: Mapping[str, str], rules: ServerRules
) -> Response:
    access.check_encrypted(scope, headers, rules)
    given = await _fields(receive)
    role = access.proven_role(given.get("token", "").strip(), "page", scope, headers, rules)
    if role is None:
        return _page(scope, "That is no token of this server.", 401)
    answer = RedirectResponse(_next(scope), 303, _NO_STORE)
    return _with_cookie(answer, scope, headers, role, rules)


async def _log_out(scope: Scope, receive: Receive, headers: object, rules: ServerRules) -> Response:
    answer = RedirectResponse("/login", 303, _NO_STORE)
    answer.delete_cookie(access.cookie_name(scope), path="/")
    return answer


async def _is_asked_for(
    scope: Scope, receive: Receive, headers: Mapping[str, str], rules: ServerRules
) -> Response:
    """What MONAI Label's clients ask first; 3D Slicer then shows its dialog."""
    return JSONResponse({"enabled": access.asks_for_login(scope, headers, rules)})


async def _give_bearer(
    scope: Scope, receive: Receive, headers: Mapping[str, str], rules: ServerRules
) -> Response:
    """Take the password of 3D Slicer's dialog, which is the token, and hand it back as a bearer."""
    access.check_encrypted(scope, headers, rules)
    given = await _fields(receive)
    token = given.get("password", "").strip()
    name = given.get("username", "")
    role = access.proven_role(token, "client", scope, headers, rules, name)
    if role is None:
        raise Refused(401, "The password is no token of this server.")
    return JSONResponse({"access_token": token, "token_type": "bearer"}, headers=_NO_STORE)


async def _is_valid(
    scope: Scope, receive: Receive, headers: Mapping[str, str], rules: ServerRules
) -> Response:
    role = access.role_of(scope, headers, rules)
    if role is None:
        raise Refused(401, "The token is none of this server.", {"WWW-Authenticate": "Bearer"})
    return JSONResponse({"username": role, "email": None, "name": None, "roles": [role]})


_HANDLERS: dict[tuple[str, str], Handler] = {
    ("GET", "/login"): _show,
    ("POST", "/login"): _log_in,
    ("POST", "/logout"): _log_out,
    ("GET", "/auth"): _is_asked_for,
    ("POST", "/auth/token"): _give_bearer,
    ("GET", "/auth/token/valid"): _is_valid,
}


async def _fields(receive: Receive) -> dict[str, str]:
    body = await read_all(receive, _FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode("utf-8"), max_num_fields=20))
    except (ValueError, UnicodeDecodeError):
        raise Refused(400, "A form (application/x-www-form-urlencoded) is needed.") from None


def _page(scope: Scope, wrong: str = "", status: int = 200) -> Response:
    shown = f'<p class="wrong">{html.escape(wrong)}</p>' if wrong else ""
    text = _PAGE.format(wrong=shown, next=quote(_next(scope), safe=""))
    return HTMLResponse(text, status, _POLICY)


def _next(scope: Scope) -> str:
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    return _local(query.get("next", "/"))


def _local(address: str) -> str:
    """Return an address of this server; another server's becomes the first page.

    >>> _local("/ohif/?a=1"), _local("//evil.example"), _local("https://evil.example")
    ('/ohif/?a=1', '/', '/')
    """
    own = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if own and address.isprintable() else "/"


def _with_cookie(
    answer: Response, scope: Scope, headers: Mapping[str, str], role: str, rules: ServerRules
) -> Response:
    assert rules.tokens is not None
    by_proxy = headers.get("x-forwarded-proto") if rules.behind_proxy else None
    answer.set_cookie(
        access.cookie_name(scope),
        rules.tokens.cookie(role),
        path="/",
        httponly=True,
        samesite="lax",  # a link of another page may open a study; it can change nothing
        secure=scope.get("scheme") == "https" or by_proxy == "https",
    )
    return answer
