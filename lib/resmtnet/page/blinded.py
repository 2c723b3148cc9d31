"""Blinded reading, for a view that only asks whether something is hidden; see `blinding`."""

from __future__ import annotations

from resmtnet.page.services import Services


def is_hidden(services: Services, image: str) -> bool:
    """Whether this visitor may not see everything of an image yet."""
    return not services.blinding.sight(image, services.visitor.reader).whole
