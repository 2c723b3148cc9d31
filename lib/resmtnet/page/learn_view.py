"""Learning: what there is to train, the training itself, its verdict and the versions."""

from __future__ import annotations

from nicegui import ui

from resmtnet.page.services import Services


def learn_view(services: Services) -> None:
    """Show the state of learning."""
    ui.label(f"Version {services.now().name} answers").classes("view-title")
