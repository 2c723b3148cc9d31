"""Mounts the page on the server's web app: its views, its pictures and its rules for browsers."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request
from nicegui import app as pages
from nicegui import core, run, ui
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resmtnet.audit import CALLER
from resmtnet.page.address import ROOT
from resmtnet.page.case_keys import SHORTCUTS as CASE_KEYS
from resmtnet.page.case_view import case_view
from resmtnet.page.frame import frame, notice
from resmtnet.page.images import add_image_routes
from resmtnet.page.learn_view import learn_view
from resmtnet.page.services import Services, Visitor
from resmtnet.page.worklist_view import SHORTCUTS as WORKLIST_KEYS
from resmtnet.page.worklist_view import worklist_view

logger = logging.getLogger(__name__)

FindServices = Callable[[Visitor], Services]

STATIC = Path(__file__).parent / "static"

POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; form-action 'self'; base-uri 'self'; "
    "frame-ancestors 'self'"
)
"""The browser itself loads nothing from elsewhere; NiceGUI compiles its templates in the page."""


@dataclass(frozen=True)
class View:
    """One view of the page."""

    path: str
    """Below ROOT; {study_id:path} is handed on."""
    name: str
    """As the navigation knows it."""
    title: str
    show: Callable[..., Awaitable[None] | None]
    shortcuts: Mapping[str, str] = field(default_factory=dict)
    """Keys of the view, and what each does."""


VIEWS = (
    View("/", "worklist", "Worklist", worklist_view, WORKLIST_KEYS),
    View("/learn", "learn", "Learn", learn_view),
    View("/case/{study_id:path}", "case", "Case", case_view, CASE_KEYS),
)

_mounted = False


def mount_page(app: FastAPI, find_services: FindServices) -> None:
    """Mount the page; routes below ROOT that the app has already come first.

    Args:
        app: of the server. Its middleware decides who may ask; what it says of the role of a
            request it leaves in `resmtnet.audit.CALLER`.
        find_services: returns what the views use, for a visitor; called at each request.
    """
    global _mounted
    if _mounted:  # NiceGUI has one app in a process
        app.mount(ROOT, core.app)
        return
    _mounted = True
    pages.add_static_files("/static", STATIC)
    core.app.add_middleware(_Policy)
    add_image_routes(core.app, lambda request: find_services(visitor_of(request)))
    for view in VIEWS:
        _register(view, find_services)
    ui.run_with(
        app,
        mount_path=ROOT,
        title="Res-MTNet",
        favicon=STATIC / "favicon.svg",
        tailwind=False,
        dark=None,
        show_welcome_message=False,
        reconnect_timeout=60.0,  # a busy server answers its pings late; what was entered must stay
        gzip_middleware_factory=None,  # it would compress pictures on the event loop
    )


def visitor_of(request: Request) -> Visitor:
    """Return who sent a request: the role from the guard, the rest from the browser's cookies."""
    cookies = {
        name: unquote(request.cookies.get(f"resmtnet-{name}", "")) for name in ("reader", "dark")
    }
    role = CALLER.get().get("role", "reader")
    reader = " ".join(cookies["reader"].split())[:100]
    return Visitor(role, reader, dark=cookies["dark"] == "1")


def _register(view: View, find_services: FindServices) -> None:
    async def show(request: Request) -> None:
        visitor = visitor_of(request)
        ui.add_head_html("<script>document.documentElement.lang = 'en'</script>")
        ui.add_head_html(f'<link rel="stylesheet" href="{ROOT}/static/page.css">')
        services, failed = await _found(find_services, visitor)
        blinding = services.blinding if services else None
        seen_as = services.visitor if services else visitor
        with frame(seen_as, view.name, view.shortcuts, blinding):
            try:
                if services is None:
                    raise failed
                shown = view.show(services, **request.path_params)
                if inspect.isawaitable(shown):
                    await shown
            except Exception as error:
                logger.exception("The view %s cannot be shown", view.name)
                notice("error", "This cannot be shown", _in_words(error))

    ui.page(view.path, title=f"{view.title} · Res-MTNet", response_timeout=60.0)(show)


async def _found(
    find_services: FindServices, visitor: Visitor
) -> tuple[Services | None, Exception]:
    try:
        return await run.io_bound(find_services, visitor), Exception()
    except Exception as error:
        return None, error


def _in_words(error: Exception) -> str:
    detail: Any = getattr(error, "detail", error)
    return " ".join(str(detail).split())[:500] or type(error).__name__


class _Policy:
    """Adds the rules for browsers to each answer of the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = POLICY
            await send(message)

        await self._app(scope, receive, with_policy if scope["type"] == "http" else send)
