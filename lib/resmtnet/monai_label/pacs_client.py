"""The DICOMweb client of the server and of the commands: its account, prefixes and time limits."""

from __future__ import annotations

from typing import Any

from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from monailabel.config import settings
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

CONNECT_S, SILENCE_S = 10.0, 60.0
"""A PACS that does not take a connection, or sends nothing, for so long has failed."""
ATTEMPTS = 3
"""Of a request that fails; dicomweb-client makes 5, with half a minute of waiting between them."""
_WAIT_MS = 500


class _TimeLimits(HTTPAdapter):
    """Gives up waiting: dicomweb-client waits without end, and so does whoever has asked it."""

    def send(self, request: PreparedRequest, *more: Any, **named: Any) -> Response:
        """Send a request; requests.Timeout where the PACS is silent for too long."""
        if named.get("timeout") is None:
            named["timeout"] = CONNECT_S, SILENCE_S
        return super().send(request, *more, **named)


def limit_time(client: DICOMwebClient) -> None:
    """Let all requests of a client end, whatever the PACS does."""
    client.set_http_retry_params(max_attempts=ATTEMPTS, wait_exponential_multiplier=_WAIT_MS)
    for scheme in ("http://", "https://"):
        client._session.mount(scheme, _TimeLimits())


def connect(url: str) -> DICOMwebClient:
    """Return a client with the account and the prefixes that MONAI Label reads.

    Args:
        url: of the DICOMweb service.
    """
    name, secret = settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
    client = DICOMwebClient(
        url.rstrip("/"),
        session=create_session_from_user_pass(name, secret) if name and secret else None,
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX or None,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX or None,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX or None,
    )
    limit_time(client)
    return client
