"""What the server refuses before a route sees the request: hosts, origins, kinds of body, paths."""

from __future__ import annotations

import ipaddress
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from starlette.exceptions import HTTPException

from resmtnet.server.tokens import Tokens

JSON_BYTES = 1_000_000
"""Greatest size of a JSON body."""

_FORM = ("multipart/form-data", "application/x-www-form-urlencoded")
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_LOGIN = re.compile(r"/(login|logout|auth)(/|$)")
_JSON_ROUTES = re.compile(r"/(train|batch|scoring|activelearning|resmtnet|logs|model/info)(/|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Refused(HTTPException):
    """A request that is not passed on, with the HTTP status and the reason."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, reason, headers)


@dataclass(frozen=True)
class ServerRules:
    """Who may ask the server, and what it takes; the defaults are the strictest."""

    hosts: tuple[str, ...] = ()
    """Host names that are served in addition to those of this machine, lower case, no port."""

    origins: tuple[str, ...] = ()
    """Pages of other servers that may use this one, such as https://viewer.example."""

    upload_bytes: int = 2_048_000_000
    """Greatest size of a form with files."""

    json_keys: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Names that a JSON body may have, by the beginning of the path."""

    trainers: tuple[str, ...] = ()
    """Names under which POST /train/ takes the options of one trainer."""

    has_pacs: bool = False
    """Whether the studies are in a PACS, which /proxy/dicom reads."""

    has_sessions: bool = False
    """Whether sessions are on."""

    tokens: Tokens | None = None
    """What clients log in with; None before the server has started."""

    login: str = "auto"
    """Who needs a token: "always" all; "auto" all but the programs of this machine."""

    behind_proxy: bool = False
    """Whether a proxy or a tunnel brings the requests of other machines."""

    insecure: bool = False
    """Whether other machines may ask without encryption."""

    private_folders: tuple[str, ...] = ()
    """Folders of the server whose paths are taken out of errors that clients see."""

    @property
    def asks_always(self) -> bool:
        """Whether programs of this machine need a token too.

        They do where a request that seems to be of this machine can be of another one: behind a
        proxy or tunnel, which the user declares, by its name too.
        """
        chosen = self.tokens is not None and self.tokens.chosen
        return self.login == "always" or self.behind_proxy or bool(self.hosts) or chosen

    def keys_of(self, path: str) -> frozenset[str] | None:
        """Return the names that a JSON body for a path may have; None if any."""
        for start, keys in self.json_keys.items():
            if path == start or path.startswith(f"{start}/"):
                return keys
        return None


def check_host(host: str, rules: ServerRules) -> None:
    """Refuse a request that was sent to another name than those of this server.

    A page of another site can let its own name point to this machine (DNS rebinding); the browser
    then takes this server for that site.

    Args:
        host: header Host.
        rules: declare further names.

    Raises:
        Refused: 421.

    >>> check_host("127.0.0.1:8000", ServerRules())
    """
    name = _host_name(host)
    if not is_loopback(name) and name not in rules.hosts:
        raise Refused(
            421,
            f"Host {host[:100]!r} is no name of this server. Ask it as 127.0.0.1 or localhost, or "
            "declare the name when it is started: --conf hosts NAME.",
        )


def check_origin(method: str, headers: Mapping[str, str], rules: ServerRules) -> None:
    """Refuse a request that a page of another server makes a browser send.

    A link may lead here from anywhere; a form may not.

    Args:
        method: of the request.
        headers: of it, names in lower case.
        rules: declare pages that may.

    Raises:
        Refused: 403.
    """
    origin = headers.get("origin")
    if origin is None:
        site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode")
        is_link = mode == "navigate" and method in ("GET", "HEAD")
        if site in ("cross-site", "same-site") and not is_link:
            raise Refused(403, "A page of another server may not use this one.")
        return
    if origin.lower() in rules.origins:
        return
    if urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise Refused(
            403,
            f"A page of {origin[:100]!r} may not use this server. If it should, declare it when "
            "the server is started: --conf origins ORIGIN.",
        )


def check_path(raw_path: str) -> None:
    """Refuse a path with steps upwards or characters that no route has.

    Args:
        raw_path: as it was sent, with percent escapes.

    Raises:
        Refused: 400.

    >>> check_path("/datastore/image")
    """
    path = raw_path
    for _ in range(3):  # escaped once more for each server on the way
        if _CONTROL.search(path) or "\\" in path or ".." in path.split("/"):
            raise Refused(400, "The path may hold no '..', backslash or control character.")
        path = unquote(path)


def check_content_type(method: str, path: str, content_type: str, has_body: bool) -> None:
    """Refuse a body whose kind is not the one that its route takes.

    A browser sends text/plain to any server without asking that server first.

    Raises:
        Refused: 415.
    """
    kind = content_type.split(";")[0].strip().lower()
    if method not in _CHANGES or not has_body:
        return
    allowed = ("application/json",) if takes_json(path) else _FORM
    if kind not in allowed:
        raise Refused(415, f"Content-Type {kind[:60]!r}: {path[:60]} takes {' or '.join(allowed)}.")


def takes_json(path: str) -> bool:
    """Whether a route takes its body as JSON; the others take forms."""
    return bool(_JSON_ROUTES.match(path)) or path.startswith("/infer/wsi/")


def check_closed(method: str, path: str, rules: ServerRules) -> None:
    """Refuse routes of MONAI Label that this app does not offer.

    Raises:
        Refused: 403 or 404 with what to do instead.
    """
    plain = path.rstrip("/")
    if plain == "/reload":
        raise Refused(403, "/reload is closed; to load the app anew, restart the server.")
    if method in ("PUT", "DELETE") and plain.startswith("/model"):
        raise Refused(
            403,
            "Weights are not replaced over HTTP: train and publish, or use `resmtnet model "
            "rollback` on the server.",
        )
    if plain == "/logs/gpu" and shutil.which("nvidia-smi") is None:
        raise Refused(404, "This machine has no nvidia-smi.")
    if plain.startswith(("/infer/wsi/", "/infer/wsi_v2/")):
        raise Refused(404, "This app has no models for whole-slide images.")
    if plain.startswith("/session") and not rules.has_sessions:
        raise Refused(
            406, "Sessions are off; they are switched on at the start: --conf sessions true."
        )
    if plain.startswith("/proxy") and not rules.has_pacs:
        raise Refused(
            404, "The studies of this server are in a folder; there is no PACS behind it."
        )


def _host_name(host: str) -> str:
    """Return a Host header without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if ":" in host else host


def is_loopback(name: str) -> bool:
    """Whether a name or address is one of this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("10.0.0.7")
    (True, True, False)
    """
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
