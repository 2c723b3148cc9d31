"""Who may send a request: the role that each route needs, and the role that a client has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

from monailabel.config import settings
from starlette.types import Scope

from resmtnet.audit import audit
from resmtnet.server.rules import Refused, ServerRules, is_loopback
from resmtnet.server.tokens import ROLES

READER, TRAINER, ADMIN = ROLES

OPEN = frozenset({"/health", "/ready", "/login", "/logout", "/favicon.ico"})
"""Routes that show no data of patients, and change nothing."""

_OPEN = re.compile(r"/(auth|static)(/|$)")
_FORWARDED = re.compile(
    r"forwarded|via|(x-forwarded|x-real|x-original|x-envoy|cf|cdn|fly|tailscale|ngrok)-.+"
    r"|(x-cluster|x|true)-client-ip"
)
"""Headers that proxies and tunnels add: the request may come from another machine."""
_NEEDED: tuple[tuple[str, re.Pattern[str], str], ...] = (
    # Method ("" for any), path, role: the first that fits.
    ("GET", re.compile(r"/logs(/|$)"), ADMIN),
    ("", re.compile(r"/(logs|model|reload)(/|$)"), ADMIN),
    ("GET", re.compile(r"/"), READER),
    ("HEAD", re.compile(r"/"), READER),
    ("DELETE", re.compile(r"/(train|batch|scoring)(/|$)"), TRAINER),
    ("DELETE", re.compile(r"/session(/|$)"), READER),
    ("DELETE", re.compile(r"/"), ADMIN),
    ("", re.compile(r"/(train|batch|scoring)(/|$)"), TRAINER),
    ("", re.compile(r"/datastore/label(/?$)"), READER),
    (
        "",
        re.compile(r"/(infer|session|activelearning|proxy|resmtnet/(readings|pacs/read))(/|$)"),
        READER,
    ),
    ("", re.compile(r"/datastore(/|$)"), TRAINER),
)


def needed_role(method: str, path: str) -> str | None:
    """Return the role that a request needs; None if anybody may send it.

    >>> needed_role("GET", "/info/"), needed_role("POST", "/train/resmtnet")
    ('reader', 'trainer')
    >>> needed_role("GET", "/health") is None
    True
    """
    if path in OPEN or _OPEN.match(path) or method == "OPTIONS":
        return None
    for known, pattern, role in _NEEDED:
        if known in ("", method) and pattern.match(path):
            return role
    return ADMIN


def asks_for_login(scope: Scope, headers: Mapping[str, str], rules: ServerRules) -> bool:
    """Whether a client needs a token.

    A program of this machine needs none, unless the server was told to ask always, or a proxy or
    tunnel may have brought the request from elsewhere.

    Args:
        scope: of the request.
        headers: of it, names in lower case.
        rules: of the server.
    """
    if settings.MONAI_LABEL_AUTH_ENABLE:
        return False  # MONAI Label's own routes ask Keycloak
    if rules.asks_always:
        return True
    ends = (scope.get("server"), scope.get("client"))
    local = all(end is not None and is_loopback(str(end[0])) for end in ends)
    return not local or any(map(_FORWARDED.fullmatch, headers))


def check_encrypted(scope: Scope, headers: Mapping[str, str], rules: ServerRules) -> None:
    """Refuse a client elsewhere that sends its token where others on the way can read it.

    Raises:
        Refused: 403.
    """
    ends = (scope.get("server"), scope.get("client"))
    local = all(end is not None and is_loopback(str(end[0])) for end in ends)
    if not (local or scope.get("scheme") == "https" or rules.insecure or rules.behind_proxy):
        raise Refused(
            403,
            "This server is asked from elsewhere without encryption. Start it with --tls-cert and "
            "--tls-key, behind a proxy that encrypts (--behind-proxy), or, where nobody else is on "
            "the network, with --insecure.",
        )


def role_of(scope: Scope, headers: Mapping[str, str], rules: ServerRules) -> str | None:
    """Return the role that a client proves with a header or cookie; None if none.

    Args:
        scope: of the request.
        headers: of it, names in lower case.
        rules: hold the tokens.
    """
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() in ("bearer", "token") and given:
        return proven_role(given.strip(), "header", scope, headers, rules)
    cookie = _cookie(headers.get("cookie", ""), cookie_name(scope))
    return proven_role(cookie, "cookie", scope, headers, rules) if cookie else None


def proven_role(
    given: str,
    way: str,
    scope: Scope,
    headers: Mapping[str, str],
    rules: ServerRules,
    name: str = "",
) -> str | None:
    """Return the role of a token, or of a cookie; None if it is none of this server.

    Args:
        given: the token or cookie.
        way: by which it came: header, cookie, address, page or client; for the audit log.
        scope: of the request.
        headers: of it, names in lower case.
        rules: hold the tokens.
        name: that the client gave itself.

    Raises:
        Refused: 429 if this client has tried too many others.
    """
    if rules.tokens is None:
        return None
    guesses, address = rules.tokens.guesses, client_address(scope, headers, rules)
    wait_s = guesses.wait_s(address, given)
    if wait_s:
        raise Refused(
            429,
            "Too many wrong tokens came from your address; try again later.",
            {"Retry-After": str(round(wait_s))},
        )
    compare = rules.tokens.role_of_cookie if way == "cookie" else rules.tokens.role_of
    role = compare(given)
    is_new = guesses.note(address, given, role is not None)
    if role is None and (is_new or way not in ("header", "cookie")):
        audit("login refused", way=way, name=name[:80])
    elif way not in ("header", "cookie"):
        audit("login", role=role, way=way, name=name[:80])
    return role


def client_address(scope: Scope, headers: Mapping[str, str], rules: ServerRules) -> str:
    """Return the address of a client; behind a proxy, as the proxy tells it."""
    client = scope.get("client")
    address = str(client[0]) if client else ""
    told = headers.get("x-forwarded-for", "").split(",")[-1].strip()
    return told[:64] if rules.behind_proxy and told else address


def check_role(scope: Scope, headers: Mapping[str, str], rules: ServerRules) -> str:
    """Return the role of a client, if it may send this request.

    Returns:
        A role; "" for a route that is open to all; "local" for a program of this machine that
        needs no token.

    Raises:
        Refused: 401 without a token, 403 with that of a role that may not.
    """
    needed = needed_role(scope["method"], scope["path"])
    if needed is None:
        return ""
    if not asks_for_login(scope, headers, rules):
        return role_of(scope, headers, rules) or "local"
    check_encrypted(scope, headers, rules)
    role = role_of(scope, headers, rules)
    if role is None:
        raise Refused(
            401,
            "A token is needed: send the header 'Authorization: Bearer TOKEN'; in a browser open "
            "/login; in 3D Slicer log in with your name, and the token as the password. The server "
            "says at its start where the tokens are.",
            {"WWW-Authenticate": "Bearer"},
        )
    if ROLES.index(role) < ROLES.index(needed):
        raise Refused(403, f"This needs the token of role {needed}; yours is of role {role}.")
    return role


def cookie_name(scope: Scope) -> str:
    """Return the name of the cookie; browsers share cookies among the ports of a machine.

    >>> cookie_name({"server": ("127.0.0.1", 8000)})
    'resmtnet-8000'
    """
    server = scope.get("server") or ("", 0)
    return f"resmtnet-{server[1] or 0}"


def token_in_query(scope: Scope) -> str | None:
    """Return the token of an address that was printed at the start, if it is such a one."""
    if scope["method"] != "GET":
        return None
    return dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("token")


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""
