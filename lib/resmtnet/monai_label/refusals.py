"""Turns errors into HTTP replies with the reason in one line, never a traceback.

MONAI Label does not handle its own MONAILabelException: the client gets a bare "Internal Server
Error". An HTTPException reaches the client as {"detail": "..."}, with its status.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException

from resmtnet.errors import InputError, ModelError

logger = logging.getLogger(__name__)


class Refusal(HTTPException):
    """A request that cannot be answered, with the HTTP status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status_code=status, detail=" ".join(reason.split()))


@contextmanager
def as_refusals() -> Iterator[None]:
    """Turn the exceptions of the package into refusals, and log unexpected ones."""
    try:
        yield
    except HTTPException:
        raise
    except InputError as error:
        raise Refusal(400, str(error)) from error
    except ModelError as error:
        raise Refusal(503, str(error)) from error
    except Exception as error:
        logger.exception("A request failed")
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Refusal(500, f"Failed: {reason}. See the server log.") from error
