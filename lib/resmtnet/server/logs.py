"""The server's log: one JSON object a line, with the id of the request and no data of patients."""

from __future__ import annotations

import json
import logging
import re
import traceback
from datetime import datetime, timezone
from pathlib import Path

from resmtnet.audit import CALLER
from resmtnet.errors import ConfigError, ModelError, PacsError, StoreError

logger = logging.getLogger(__name__)

QUIET = ("monailabel", "uvicorn.access", "httpx", "pynetdicom", "pydicom", "dicomweb_client")
"""They tell whole requests and paths of images; only their warnings are kept, without details."""

_JSON = "json"
_PATH = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[\\/][^\s'\",;]+")
_TOLD = (ConfigError, ModelError, PacsError, StoreError)
"""Errors whose text says nothing of an image."""
_UID = re.compile(r"\b\d+(?:\.\d+){4,}\b")


class RequestIds(logging.Filter):
    """Adds the id of the request that is being answered to each line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Complete a record."""
        record.request_id = CALLER.get().get("request_id", "-")
        return True


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        told: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "request_id": getattr(record, "request_id", "-"),
            "message": without_patient(record),
        }
        told |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[1] is not None:
            told["error"] = _error(record.exc_info[1])
        return json.dumps(told, default=str)


class TextLines(logging.Formatter):
    """The same for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of an error."""
        moment = datetime.fromtimestamp(record.created).strftime("%Y-%m-%d %H:%M:%S")
        facts = " ".join(f"{name}={value}" for name, value in getattr(record, "facts", {}).items())
        request = getattr(record, "request_id", "-")
        text = f"{moment} {record.levelname:7} [{request}] {without_patient(record)} {facts}"
        if record.exc_info and record.exc_info[1] is not None:
            text = "\n    ".join([text, *_error(record.exc_info[1])])
        return text.rstrip()


def log_as_configured(form: str) -> None:
    """Give all handlers of this process our lines, and silence what tells whole requests.

    Args:
        form: "text" or "json".
    """
    formatter = JsonLines() if form == _JSON else TextLines()
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for handler in {handler for one in loggers for handler in one.handlers}:
        if getattr(handler, "baseFilename", None) or type(handler) is logging.StreamHandler:
            handler.setFormatter(formatter)
            if not any(isinstance(f, RequestIds) for f in handler.filters):
                handler.addFilter(RequestIds())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def without_patient(record: logging.LogRecord) -> str:
    """Return the message of a record without what can name a patient: paths, UIDs, texts of errors.

    The text of an error about a file has its name; of the others the first line is kept.

    >>> told = logging.LogRecord("a", 20, "", 1, "cannot read /studies/Smith.nii.gz", None, None)
    >>> without_patient(told)
    'cannot read [path]'
    """
    given = record.args
    if isinstance(given, tuple):
        given = tuple(map(_shown, given))
    try:
        text = str(record.msg) % given if given else str(record.msg)
    except (TypeError, ValueError):  # told by the part of logging that prints such mistakes
        text = str(record.msg)
    return _UID.sub("[uid]", _PATH.sub("[path]", text.split("\n")[0]))


def _shown(value: object) -> object:
    """Return what is told of an argument of a message."""
    if isinstance(value, Path):
        return "[path]"
    if isinstance(value, OSError):
        return value.strerror or type(value).__name__
    if isinstance(value, BaseException):
        return str(value) if isinstance(value, _TOLD) else type(value).__name__
    return value


def _error(error: BaseException) -> list[str]:
    """Return the kind of an error and where it was raised; its text can hold names of files."""
    frames = traceback.extract_tb(error.__traceback__)
    return [type(error).__name__, *(f"{_short(f.filename)}:{f.lineno} {f.name}" for f in frames)]


def _short(path: str) -> str:
    return "/".join(path.replace("\\", "/").split("/")[-2:])
