"""Pages of the server that load nothing from elsewhere: the list of routes, and the log."""

from __future__ import annotations

import html
from collections import deque
from collections.abc import Callable
from pathlib import Path

from fastapi import HTTPException
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

from resmtnet.server.health import health_page, ready_page
from resmtnet.server.metrics import metrics_page

MOST_LINES = 10_000
"""Of the log, in one answer."""

_POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; "
    "script-src 'unsafe-inline'; frame-ancestors 'self'; base-uri 'none'"
}

_ROUTES = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Routes</title>
<style>body{font:15px sans-serif;margin:2em}td{padding:.2em 1em .2em 0;vertical-align:top}
code{font-family:monospace}</style>
<h1>Routes of this server</h1>
<p>As <a href="/openapi.json">OpenAPI</a>; the review page is at
<a href="/resmtnet/">/resmtnet/</a>, the viewer at <a href="/ohif/">/ohif/</a>.</p>
<table id="routes"></table>
<script>
fetch("/openapi.json").then(reply => reply.json()).then(api => {
  const table = document.getElementById("routes");
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, route] of Object.entries(methods)) {
      const row = table.insertRow();
      for (const text of [method.toUpperCase(), path, route.summary || ""])
        row.insertCell().textContent = text;
    }
});
</script></html>
"""


def own_page(method: str, path: str) -> Callable[[], Response] | None:
    """Return what makes our page at a path; None where MONAI Label answers.

    It may wait for the disk, and is to be called in a thread.

    >>> own_page("GET", "/info/") is None
    True
    """
    return _PAGES.get(path) if method in ("GET", "HEAD") else None


def routes_page() -> Response:
    """Return the list of routes; MONAI Label's loads scripts from elsewhere."""
    return HTMLResponse(_ROUTES, headers=_POLICY)


_PAGES: dict[str, Callable[[], Response]] = {
    "/": routes_page,
    "/docs": routes_page,
    "/health": health_page,
    "/ready": ready_page,
    "/metrics": metrics_page,
}


def log_page(
    logger_file: str,
    lines: int | None = 300,
    html_page: bool | None = True,
    text: bool | None = False,
    refresh: int | None = 0,
) -> Response:
    """Return the end of the server's log.

    Args:
        logger_file: the log.
        lines: how many at most; 0: the whole file.
        html_page: as a page instead of plain text.
        text: as plain text after all.
        refresh: seconds after which the page loads itself again; 0: never.

    Raises:
        HTTPException: 400 for an impossible number of lines, 404 if there is no log.
    """
    path, lines = Path(logger_file), lines or 0
    if not 0 <= lines <= MOST_LINES:
        raise HTTPException(400, f"lines: a number from 0 to {MOST_LINES:,} is needed.")
    if not path.is_file():
        raise HTTPException(404, "There is no log file.")
    if lines == 0:
        return FileResponse(path, media_type="text/plain")
    with path.open(encoding="utf-8", errors="replace") as log:
        shown = "".join(deque(log, lines))
    if text or not html_page:
        return PlainTextResponse(shown)
    again_s = min(max(refresh or 0, 3), 3600) if refresh else 0
    meta = f'<meta http-equiv="refresh" content="{again_s}">' if again_s else ""
    page = f'<!DOCTYPE html><meta charset="utf-8">{meta}<title>Log</title><pre>{html.escape(shown)}'
    return HTMLResponse(f"{page}</pre>", headers=_POLICY)
