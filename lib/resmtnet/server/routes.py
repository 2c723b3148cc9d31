"""Our routes: readings, one at a time or all, and the versions of the model."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance

from resmtnet.errors import InputError, ModelError, PacsError, ReadingError, StoreError
from resmtnet.readings.dicom.report_of_image import report_of
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.record import REPEAT
from resmtnet.readings.reply import summary
from resmtnet.types import Json

LARGEST_BYTES = 1_000_000
"""Of one reading."""

router = APIRouter(prefix="/resmtnet", tags=["Res-MTNet"])

_MAY_READ = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
_MAY_WRITE = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))


def inbox() -> Inbox:
    """The readings of the app that this process serves."""
    found: Inbox = app_instance().inbox
    return found


@router.post("/readings", status_code=201, dependencies=[_MAY_WRITE])
async def add_reading(request: Request) -> Json:
    """Keep a reading, schema resmtnet.reading/1; 422 names the field that is wrong."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BYTES:
            raise HTTPException(413, f"A reading has at most {LARGEST_BYTES:,} bytes.")
    return await to_thread.run_sync(_add, bytes(body))


def _add(body: bytes) -> Json:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ReadingError("body", f"is not valid JSON: {error}") from error
    kept = inbox().add_document(document)
    told = {"understood": summary(kept), "warnings": inbox().notices([kept])}
    return {"reading": kept.to_json(), **told}


@router.get("/readings", dependencies=[_MAY_READ])
def list_readings(
    image: str | None = None,
    nodule: str | None = None,
    reader: str | None = None,
    every: Annotated[bool, Query(description="Every single reading, as it was sent.")] = False,
) -> Json:
    """What each reader says of each nodule, after all corrections, in order of arrival.

    A reader who was offered a study to read it again is not told their own earlier readings of it.
    """
    store, is_repeat = inbox().store, inbox().is_repeat
    found = [
        one.to_json()
        for one in store.readings(image, nodule, every=every)
        if reader is None
        or (one.reader == reader and (one.purpose == REPEAT or not is_repeat(one.image, reader)))
    ]
    return {"readings": found, "revision": store.revision()}


@router.get("/readings/{reading_id}", dependencies=[_MAY_READ])
def get_reading(reading_id: str) -> Json:
    """One reading as it was sent."""
    reading = inbox().store.get(reading_id)
    if reading is None:
        why = f"There is no reading {reading_id!r}; /resmtnet/readings?every=true lists them."
        raise HTTPException(404, why)
    return reading.to_json()


@router.get("/versions", dependencies=[_MAY_READ])
def list_versions() -> Json:
    """The versions of the model that can be served, which one is, and what is wrong with it."""
    versions: Any = app_instance().shared.versions
    listed = [version.to_json() for version in versions.list()]
    for entry in listed:
        del entry["folder"]  # a path of the server
    return {"versions": listed, "warning": versions.served().warning}


def _pacs() -> Any:
    """The results of the app that this process serves in its PACS."""
    found = getattr(app_instance(), "pacs", None)
    if found is None:
        raise HTTPException(404, "The studies of this server are in a folder, not in a PACS.")
    return found


@router.get("/pacs", dependencies=[_MAY_READ])
def list_results(image: str) -> Json:
    """What was stored of an image in the PACS, and what of readers was read from there."""
    results = _pacs().results.log.of(image)
    return {
        "stored": [asdict(one) for one in results.stored],
        "read": [asdict(one) for one in results.read],
        "last_error": _pacs().last_error,
    }


@router.post("/pacs/read", dependencies=[_MAY_WRITE])
def read_results(
    image: str | None = None,
    reader: Annotated[
        str | None,
        Query(
            max_length=200, description="Who has stored the objects that name nobody, as OHIF's."
        ),
    ] = None,
) -> Json:
    """Read what readers have stored in the PACS since the last look."""
    return {"read": _pacs().inbox.read(image, (reader or "").strip() or None)}


@router.post("/pacs/retract", dependencies=[_MAY_WRITE])
def retract_results(image: str) -> Json:
    """Withdraw what was stored of an image: deleted, or else rejected by a note."""
    withdrawn = _pacs().results.retract(image)
    return {"retracted": [asdict(one) for one in withdrawn]}


@router.get("/report", dependencies=[_MAY_READ])
def report(image: str) -> Response:
    """A short text of the confirmed nodules of an image, to copy into a report."""
    pacs = getattr(app_instance(), "pacs", None)
    results = None if pacs is None else pacs.results.log.of(image)
    text = report_of(inbox(), image, results)
    return Response(text, media_type="text/plain; charset=utf-8")


def add_refusals(app: FastAPI) -> None:
    """Answer the errors of the package in the form that docs/readings.md promises."""

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, ReadingError):
            reason = str(error).removeprefix(f"{error.field} ")
            return JSONResponse({"detail": [{"field": error.field, "message": reason}]}, 422)
        status = 503 if isinstance(error, (StoreError, ModelError)) else 400
        status = 502 if isinstance(error, PacsError) else status
        return JSONResponse({"detail": " ".join(str(error).split())}, status)

    async def refuse_query(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        if not request.url.path.startswith(router.prefix):
            return await request_validation_exception_handler(request, error)
        wrong = [{"field": str(e["loc"][-1]), "message": e["msg"]} for e in error.errors()]
        return JSONResponse({"detail": wrong}, 422)

    app.add_exception_handler(RequestValidationError, refuse_query)
    for kind in (InputError, ModelError, PacsError):
        app.add_exception_handler(kind, refuse)
