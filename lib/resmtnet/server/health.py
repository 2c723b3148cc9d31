"""Whether the server lives (/health), and whether it can do its work (/ready)."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.utils.app import apps
from starlette.responses import JSONResponse, Response

LEAST_FREE_BYTES = 200_000_000
"""Less free space than this, and corrections could soon not be kept."""


def health_page() -> Response:
    """Answer that the process lives; it looks at nothing."""
    return JSONResponse({"status": "ok"})


def ready_page() -> Response:
    """Answer 200 if a click can be answered and a correction be kept, else 503 with what cannot."""
    app = next(iter(apps.values()), None)
    checks = {"app": "not loaded"} if app is None else check_app(app)
    ready = all(told == "ok" for told in checks.values())
    content = {"status": "ready" if ready else "not ready", "checks": checks}
    return JSONResponse(content, 200 if ready else 503)


def check_app(app: Any) -> dict[str, str]:
    """Return "ok", or what is wrong, by what was looked at; no paths and no names."""
    checks: Mapping[str, Callable[[Any], str]] = {
        "model": _model,
        "studies": _studies,
        "readings": _readings,
        "disk": _disk,
    }
    found = {}
    for name, look in checks.items():
        try:
            found[name] = look(app)
        except Exception as error:  # told as what it is
            found[name] = f"failed: {type(error).__name__}"
    return found


def _model(app: Any) -> str:
    warnings = app.shared.now.warnings
    return "the served version is damaged; another one answers" if warnings else "ok"


def _studies(app: Any) -> str:
    studies = str(app.studies)
    if studies.startswith(("http://", "https://")):
        return "ok"  # whether the PACS answers is told by the requests to it
    return "ok" if os.access(studies, os.R_OK | os.X_OK) else "the folder cannot be read"


def _readings(app: Any) -> str:
    app.inbox.store.count()
    database = Path(app.inbox.database)
    if not os.access(database, os.W_OK):
        return "the database is read-only: corrections cannot be kept"
    connection = sqlite3.connect(database, timeout=1.0)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "ok" if "locked" in str(error) else "the database cannot be written"
    finally:
        connection.close()
    return "ok"


def _disk(app: Any) -> str:
    free = shutil.disk_usage(Path(app.inbox.database).parent).free
    return "ok" if free >= LEAST_FREE_BYTES else f"{free // 1_000_000} MB are free"
