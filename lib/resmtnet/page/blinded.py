"""Blinded reading: what the model and others say is hidden until the reader has said theirs."""

from __future__ import annotations

from resmtnet.page.services import Services


def is_hidden(services: Services, image: str) -> bool:
    """Whether this visitor may not see yet what the model and other readers say of an image."""
    return services.visitor.blinded and not any(
        reading.reader == services.visitor.reader
        for reading in services.inbox.store.readings(image)
    )
