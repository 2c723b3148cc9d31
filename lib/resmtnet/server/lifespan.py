"""The beginning and the end of our server: at the end, what runs in the background is stopped."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from monailabel.app import app as platform
from monailabel.interfaces.utils.app import apps
from monailabel.utils.async_tasks import utils as background

from resmtnet.ct import apart
from resmtnet.server.scratch import remove_own

logger = logging.getLogger(__name__)

METHODS = ("train", "batch_infer", "scoring")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start as MONAI Label does; end without waiting for a training, which can take hours."""
    async with platform.router.lifespan_context(app):
        yield
    stop_background()
    for served in apps.values():
        with suppress(Exception):  # nothing is lost: each reading was on the disk when answered
            served.inbox.store.close()
    apart.stop()
    remove_own()
    logger.info("The server has stopped")


def stop_background() -> None:
    """Stop trainings and batches, and forget those that wait; the served model stays as it is."""
    for method in METHODS:
        executor = background.background_executors.pop(method, None)
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        while background.processes(method):
            background.stop_background_task(method)
