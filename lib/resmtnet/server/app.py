"""The web app: MONAI Label's routes, run in threads, and our own routes.

`monailabel start_server --uvicorn_app resmtnet.server.app:app`, or `resmtnet serve`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import ModuleType
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from monailabel.app import app as platform
from monailabel.config import settings
from monailabel.endpoints import (
    activelearning,
    batch_infer,
    datastore,
    infer,
    info,
    model,
    scoring,
    session,
    train,
)
from monailabel.interfaces.utils.app import apps
from starlette.middleware import Middleware

from resmtnet.page.app import mount_page
from resmtnet.server import training
from resmtnet.server.guard import Guard
from resmtnet.server.lifespan import lifespan
from resmtnet.server.openapi import describe
from resmtnet.server.page_services import find_services
from resmtnet.server.platform_fixes import mend_platform
from resmtnet.server.routes import add_refusals, router
from resmtnet.server.rules import ServerRules

BLOCKING: tuple[ModuleType, ...] = (
    *(infer, batch_infer, datastore, activelearning, train, scoring, model, session, info),
)
"""Their routes are `async def` around blocking code: each would stop the server while it runs."""

_READS = {"GET", "HEAD"}


def make_app() -> FastAPI:
    """Make an app with MONAI Label's routes, lifespan and middleware, and our router.

    Inferences run in parallel, on all cores but one; changes of the datastore run one at a time.
    """
    app = FastAPI(
        title=settings.MONAI_LABEL_PROJECT_NAME,
        lifespan=lifespan,
        middleware=[Middleware(Guard, rules_of_app), *platform.user_middleware],
        docs_url=None,
        redoc_url=None,
    )
    mend_platform()
    app.include_router(router)
    app.include_router(training.router, prefix=settings.MONAI_LABEL_API_STR)
    add_refusals(app)
    inferring = CapacityLimiter(max(1, (os.cpu_count() or 1) - 1))
    writing = CapacityLimiter(1)
    for module in BLOCKING:
        limiters = {infer: (inferring, inferring), datastore: (None, writing)}
        reads, writes = limiters.get(module, (None, None))
        app.include_router(
            off_the_loop(module.router.routes, reads, writes), prefix=settings.MONAI_LABEL_API_STR
        )
    describe(app)
    mount_page(app, find_services)  # after our routes below /resmtnet, which it must not hide
    app.mount("/", platform)  # the rest: OHIF, the DICOM proxy, logs
    return app


def rules_of_app() -> ServerRules:
    """Return the rules of the app that this process serves; the strictest before it is loaded."""
    for served in apps.values():
        found: ServerRules = served.rules
        return found
    return ServerRules()


def off_the_loop(
    routes: Iterable[object],
    reads: CapacityLimiter | None = None,
    writes: CapacityLimiter | None = None,
) -> APIRouter:
    """Return the same routes, each handled in a thread.

    Args:
        routes: of a router of MONAI Label.
        reads: limits how many GET and HEAD requests run at once; None: anyio's 40 threads.
        writes: the same for all other requests.
    """
    threaded = APIRouter()
    for route in routes:
        if isinstance(route, APIRoute):
            methods = set(route.methods or ())
            limiter = reads if methods <= _READS else writes
            threaded.add_api_route(
                route.path,
                _in_thread(route.endpoint, limiter),
                methods=sorted(methods),
                name=route.name,
                summary=route.summary,
                tags=route.tags,
                responses=route.responses,
                deprecated=route.deprecated,
                include_in_schema=route.include_in_schema,
            )
    return threaded


def _in_thread(
    endpoint: Callable[..., Any], limiter: CapacityLimiter | None
) -> Callable[..., Awaitable[Any]]:
    def call(**arguments: Any) -> Any:
        result = endpoint(**arguments)
        return asyncio.run(result) if inspect.iscoroutine(result) else result

    async def handle(**arguments: Any) -> Any:
        return await to_thread.run_sync(partial(call, **arguments), limiter=limiter)

    # FastAPI reads the parameters from the signature. It would look behind functools.wraps.
    handle.__signature__ = inspect.signature(endpoint)  # type: ignore[attr-defined]
    handle.__name__ = endpoint.__name__
    handle.__doc__ = endpoint.__doc__
    return handle


app = make_app()
