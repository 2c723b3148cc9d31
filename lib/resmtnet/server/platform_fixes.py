"""Puts checks around functions of MONAI Label that answer wrong requests with a bare error 500.

MONAI Label's routes find these functions by name when they are called, so a checked one under the
same name holds in its own server as well as in ours.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any

from fastapi import FastAPI
from monailabel.endpoints import batch_infer, datastore, infer, logs, proxy, scoring, train
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from resmtnet.errors import ConfigError
from resmtnet.server import pacs_proxy, pages, routes, training
from resmtnet.server.bodies import json_object
from resmtnet.server.guard import Guard
from resmtnet.server.infer_output import check_output, name_segments
from resmtnet.server.rules import Refused, ServerRules

PLATFORM = "monailabel.app"

_CHECKSUMS = ("SHA256", "SHA512", "MD5")
_LONGEST_NAME = 200
_MOST_AT_ONCE = 1000
"""Workers of a batch inference, or images of one worker."""

Check = Callable[[Mapping[str, Any]], None]


def mend_platform() -> None:
    """Replace the functions, once in a process."""
    _check_first(infer, "run_inference", _json_fields, _file_names, _inputs, check_output)
    name_segments()
    _check_first(batch_infer, "run", _known_model, _batch_numbers)
    _check_first(scoring, "run_method", _known_scoring)
    for name in ("add_image", "save_label", "update_image_info", "update_label_info"):
        _check_first(datastore, name, _json_fields, _file_names)
    _check_first(datastore, "download_image", _checksum)
    datastore.download_dataset = _dataset
    _check_first(datastore, "download_dataset", _something_labelled)
    train.status = training.status
    logs.get_logs = pages.log_page
    proxy.proxy_dicom = pacs_proxy.forward


def guard_platform(find_rules: Callable[[], ServerRules]) -> None:
    """Put the guard before MONAI Label's own app, if this process serves it.

    Called while that app starts, when its chain of middleware exists and no request was answered.

    Args:
        find_rules: returns the rules of the app.

    Raises:
        ConfigError: this version of FastAPI keeps the chain elsewhere, so the guard cannot stand
            before it; the server does not start without.
    """
    served = getattr(sys.modules.get(PLATFORM), "app", None)
    if served is None or "resmtnet.server.app" in sys.modules:  # which has a guard of its own
        return
    _check_first(train, "run", training.check_start_all)
    _check_first(train, "run_model", training.check_start)
    chain: ASGIApp | None = getattr(served, "middleware_stack", None)
    if chain is None:
        raise ConfigError(
            "The checks of requests cannot be put before MONAI Label's own server with this "
            "version of FastAPI. Start it with --uvicorn_app resmtnet.server.app:app."
        )
    if not isinstance(chain, Guard):
        served.middleware_stack = Guard(_with_own_routes(chain), find_rules, can_wait=False)


def _with_own_routes(chain: ASGIApp) -> ASGIApp:
    """Answer our routes before MONAI Label's own server looks for them."""
    own = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    own.include_router(routes.router)
    routes.add_refusals(own)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"].startswith(f"{routes.router.prefix}/")
        await (own if ours else chain)(scope, receive, send)

    return answer


def _check_first(module: ModuleType, name: str, *checks: Check) -> None:
    function = getattr(module, name)
    if getattr(function, "checked", False):
        return
    signature = inspect.signature(function)

    @wraps(function)
    def checked(*positional: Any, **named: Any) -> Any:
        arguments = signature.bind(*positional, **named).arguments
        for check in checks:
            check(arguments)
        try:
            return function(*positional, **named)
        except BaseException:
            _remove_uploads(arguments)
            raise

    checked.checked = True  # type: ignore[attr-defined]
    setattr(module, name, checked)


def _remove_uploads(arguments: Mapping[str, Any]) -> None:
    """Do what is to be done after an answer: a request that fails would leave its files behind."""
    for task in getattr(arguments.get("background_tasks"), "tasks", ()):
        task.func(*task.args, **task.kwargs)


def _dataset(limit_cases: int | None = None) -> FileResponse:
    """Return an archive of all labelled images, which is deleted once it was sent."""
    path = app_instance().datastore().get_dataset_archive(limit_cases)
    return FileResponse(
        path,
        media_type="application/zip",
        filename="dataset.zip",
        background=BackgroundTask(remove_file, path),
    )


def _json_fields(arguments: Mapping[str, Any]) -> None:
    for name in ("params", "info"):
        if isinstance(arguments.get(name), str):
            json_object(arguments[name], name)


def _file_names(arguments: Mapping[str, Any]) -> None:
    for name in ("file", "label"):
        upload = arguments.get(name)
        # MONAI Label's clients send the whole path of the file on their machine.
        file_name = re.split(r"[/\\]", getattr(upload, "filename", None) or "")[-1]
        if len(file_name.encode("utf-8", "replace")) > _LONGEST_NAME or not file_name.isprintable():
            raise Refused(
                400,
                f"{name}: a file name of at most {_LONGEST_NAME} bytes, without control "
                "characters, is needed.",
            )


def _inputs(arguments: Mapping[str, Any]) -> None:
    given = [arguments.get(name) for name in ("image", "session_id", "file")]
    if not any(given):
        raise Refused(400, "image, session_id or file: one of them is needed.")
    if arguments.get("session_id") and not app_instance().sessions():
        raise Refused(
            406, "Sessions are off; they are switched on at the start: --conf sessions true."
        )
    label = arguments.get("label")
    if isinstance(label, UploadFile) and (label.filename or "").lower().endswith(".bin"):
        raise Refused(400, "label: scribbles (.bin) are not used by the models of this app.")


def _known_model(arguments: Mapping[str, Any]) -> None:
    known = app_instance()._infers
    if arguments["model"] not in known:
        raise Refused(404, f"There is no model {arguments['model'][:80]!r}: {', '.join(known)}.")


def _batch_numbers(arguments: Mapping[str, Any]) -> None:
    """Refuse numbers on which the process of a batch would fail, where no client sees it."""
    asked = arguments.get("params") or {}
    for name in ("max_workers", "max_batch_size"):
        value = asked.get(name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and 0 <= value <= _MOST_AT_ONCE):
            raise Refused(
                400, f"{name}: a whole number from 0 to {_MOST_AT_ONCE} is needed; 0: as it fits."
            )


def _known_scoring(arguments: Mapping[str, Any]) -> None:
    known = app_instance()._scoring_methods
    if arguments["method"] not in known:
        names = ", ".join(known) or "none"
        raise Refused(404, f"There is no scoring {arguments['method'][:80]!r}; there are: {names}.")


def _checksum(arguments: Mapping[str, Any]) -> None:
    given = arguments.get("check_sum")
    if given and ":" in given and given.split(":")[0] not in _CHECKSUMS:
        raise Refused(400, f"check_sum: one of {', '.join(_CHECKSUMS)} and ':' must come first.")


def _something_labelled(arguments: Mapping[str, Any]) -> None:
    if not app_instance().datastore().datalist():
        raise Refused(404, "There is no label yet, so there is no dataset to download.")
