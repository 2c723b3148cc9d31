"""A log of what was done to the data of a site: logins, readings, trainings, versions."""

from __future__ import annotations

import json
import logging
import os
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path

FILE = "audit.jsonl"
"""One JSON object in a line, beside the database of readings; nothing in it is ever changed."""

CALLER: ContextVar[dict[str, str]] = ContextVar("resmtnet_caller", default={})  # noqa: B039
"""Of the request that is being answered: its id, the role and the address of the client."""

_NAME = "resmtnet.audit"


def audit(event: str, **facts: object) -> None:
    """Note that something was done; where no log was opened, nothing happens.

    Args:
        event: such as "reading".
        facts: of it, as JSON can hold them; no image, no name of a patient.
    """
    logging.getLogger(_NAME).info(event, extra={"facts": {**CALLER.get(), **facts}})


def keep_audit_log(folder: Path) -> Path:
    """Write what is noted from now on to a file, readable by this user alone.

    Args:
        folder: of the database of readings; made where it is missing.

    Returns:
        The file.
    """
    path = folder / FILE
    logger = logging.getLogger(_NAME)
    for handler in [h for h in logger.handlers if isinstance(h, _Lines)]:
        if handler.path == path:
            return path
        logger.removeHandler(handler)
    logger.addHandler(_Lines(path))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return path


class _Lines(logging.Handler):
    """Appends one line for each event; several processes may write the same file."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Append an event; a file that cannot be written is told in the server's log."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(
            timespec="milliseconds"
        )
        facts = getattr(record, "facts", {})
        line = json.dumps({"time": time, "event": record.getMessage(), **facts}, default=str)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, line.encode() + b"\n")
            finally:
                os.close(handle)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            logging.getLogger(__name__ + "_file").error(
                "The audit log cannot be written (%s): %s", reason, record.getMessage()
            )
