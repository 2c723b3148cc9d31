"""What a client is told when its request cannot be answered: one line, never a traceback.

MONAI Label has no handler for its own MONAILabelException: it becomes a bare "Internal Server
Error". An HTTPException reaches the client as {"detail": "..."}, with a status of its own.
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
    """Turns the exceptions of the package into refusals, and logs the unexpected ones."""
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
        raise Refusal(500, f"Failed: {reason}. The log of the server says where.") from error
