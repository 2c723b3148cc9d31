"""A case: its CT, its nodules, and what a reader says of them."""

from __future__ import annotations

from nicegui import ui

from resmtnet.page.services import Services


def case_view(services: Services, study_id: str) -> None:
    """Show a case.

    Args:
        services: see there.
        study_id: id of the image.
    """
    ui.label(study_id).classes("view-title")
