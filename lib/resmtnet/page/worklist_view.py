"""The worklist: all studies, what was read of them, and which is next."""

from __future__ import annotations

from nicegui import ui

from resmtnet.page.address import case_address
from resmtnet.page.services import Services


def worklist_view(services: Services) -> None:
    """Show the studies."""
    ui.label("Studies").classes("view-title")
    for image in services.list_images():
        ui.link(image, case_address(image))
