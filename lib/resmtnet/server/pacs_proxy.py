"""Passes reading DICOMweb requests of a browser on to the PACS, and no other request."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode

import httpx
from anyio import to_thread
from fastapi import HTTPException, Request
from fastapi.responses import Response, StreamingResponse
from monailabel.config import settings

from resmtnet.ct.dicom_header import is_uid

logger = logging.getLogger(__name__)

TIMEOUT = httpx.Timeout(60.0, connect=5.0, pool=5.0)
LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=8)

_QUERY_NAME = re.compile(r"[A-Za-z0-9.,]{1,200}")
_PASSED_ON = ("accept", "accept-language", "range", "if-none-match")
_GIVEN_BACK = ("content-type", "content-length", "content-encoding", "etag", "warning")
_UID = "UID"
_PATHS = [
    re.compile(pattern.replace(_UID, r"[0-9A-Za-z.]{1,64}"))
    for pattern in (
        r"(studies|series|instances)",  # QIDO-RS, PS3.18 10.6
        r"studies/UID/(series|instances)",
        r"studies/UID/series/UID/instances",
        # WADO-RS, PS3.18 10.4
        r"studies/UID(/series/UID(/instances/UID)?)?(/(metadata|rendered|thumbnail))?",
        r"studies/UID/series/UID/instances/UID/frames/[0-9]{1,6}(,[0-9]{1,6}){0,99}"
        r"(/(rendered|thumbnail))?",
        r"studies/UID/(series/UID/)?(instances/UID/)?(bulk|bulkdata)(/[0-9A-Za-z]{1,32}){1,16}",
    )
]


def check_path(path: str) -> str:
    """Return a path below the DICOMweb root if it is one of QIDO-RS or WADO-RS.

    Args:
        path: decoded.

    Raises:
        HTTPException: 403 for any other.

    >>> check_path("studies/1.2/series")
    'studies/1.2/series'
    """
    plain = path.strip("/")
    steps = plain.split("/")
    named = [steps[n + 1] for n, step in enumerate(steps[:-1]) if step in _LEVELS]
    uids = [name for name in named if name not in _LEVELS]
    matches = any(pattern.fullmatch(plain) for pattern in _PATHS)
    if not matches or not all(is_uid(uid) for uid in uids):
        raise HTTPException(
            403,
            "Only DICOMweb searches and retrievals (QIDO-RS, WADO-RS) are passed on to the PACS.",
        )
    return plain


_LEVELS = ("studies", "series", "instances")


def checked_query(query: str) -> str:
    """Return a query with names of DICOM attributes and options, encoded anew.

    Raises:
        HTTPException: 400 for another one.

    >>> checked_query("limit=5&PatientName=A*")
    'limit=5&PatientName=A%2A'
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    if any(not _QUERY_NAME.fullmatch(name) for name, _ in pairs):
        raise HTTPException(400, "The query may name DICOM attributes and options of QIDO-RS only.")
    return urlencode(pairs)


async def forward(request: Request, op: str, path: str) -> Response:
    """Answer a request with what the PACS answers, while it arrives.

    Args:
        request: of the browser.
        op: qido, wado, stow or "".
        path: below the DICOMweb root, decoded.

    Raises:
        HTTPException: 403 for what is not to be passed on, 502 if the PACS does not answer, 504
            if it takes too long.
    """
    if op == "stow" or request.method != "GET":
        raise HTTPException(403, "Nothing is stored in the PACS through this server.")
    address = _address(op, check_path(path), checked_query(request.url.query))
    headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    headers["accept-encoding"] = request.headers.get("accept-encoding", "identity")
    headers |= await to_thread.run_sync(_google_headers)
    client = httpx.AsyncClient(
        timeout=TIMEOUT,
        limits=LIMITS,
        auth=_login(),
        follow_redirects=False,
        trust_env=False,
        verify=await to_thread.run_sync(_certificates),
    )
    try:
        reply = await client.send(
            client.build_request("GET", address, headers=headers), stream=True
        )
    except httpx.TimeoutException as error:
        await client.aclose()
        raise HTTPException(504, "The PACS did not answer in time.") from error
    except httpx.HTTPError as error:
        await client.aclose()
        logger.warning("The PACS did not answer: %s", type(error).__name__)
        raise HTTPException(502, "The PACS did not answer.") from error
    if 300 <= reply.status_code < 400 and reply.status_code != 304:
        await reply.aclose()
        await client.aclose()
        raise HTTPException(502, "The PACS sent the request elsewhere, which is not followed.")
    return StreamingResponse(
        _parts(client, reply), reply.status_code, headers=_given_back(reply.headers)
    )


async def _parts(client: httpx.AsyncClient, reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for part in reply.aiter_raw():
            yield part
    finally:
        await reply.aclose()
        await client.aclose()


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """Return the trusted certificates; reading them takes longer than many requests do."""
    return httpx.create_ssl_context(trust_env=False)


def _given_back(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _GIVEN_BACK if name in headers}


def _address(op: str, path: str, query: str) -> str:
    prefixes = {"wado": settings.MONAI_LABEL_WADO_PREFIX, "qido": settings.MONAI_LABEL_QIDO_PREFIX}
    # Some versions of OHIF ask for metadata under the address of searches.
    prefix = prefixes.get("wado" if path.endswith("metadata") and op else op)
    steps = [settings.MONAI_LABEL_STUDIES.rstrip("/"), *([prefix.strip("/")] if prefix else [])]
    return "/".join([*steps, quote(path, safe="/,")]) + (f"?{query}" if query else "")


def _login() -> tuple[str, str] | None:
    name, password = settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
    return (name, password) if name and password else None


def _google_headers() -> dict[str, str]:
    """A bearer of Google's, where the PACS is theirs, as MONAI Label's own proxy sends it."""
    if ".googleapis.com/" not in f"{settings.MONAI_LABEL_STUDIES}/":
        return {}
    import google.auth
    import google.auth.transport.requests

    login, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    login.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
    return {"Authorization": f"Bearer {login.token}"}
