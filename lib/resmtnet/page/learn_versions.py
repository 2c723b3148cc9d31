"""The versions of the model on the page: figures, where each comes from, and going back."""

from __future__ import annotations

from nicegui import run, ui

from resmtnet.page.learn import VersionRow, versions
from resmtnet.page.parts import heading, in_words, plain_table
from resmtnet.page.services import Services
from resmtnet.retraining.registry_files import SHIPPED


class VersionsSection:
    """The section in one browser tab."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._section = ui.element("section").classes("learn-section learn-versions")

    async def draw(self, running: bool) -> None:
        """Draw the versions.

        Args:
            running: a training runs, which compares with the version that is served.
        """
        found = await run.io_bound(versions, self._services.versions) or []
        warnings = self._services.now().warnings
        self._section.clear()
        with self._section:
            heading("Versions of the model")
            for warning in warnings:
                ui.label(warning).classes("warning")
            for row in found:
                self._version(row, running)

    def _version(self, row: VersionRow, running: bool) -> None:
        with ui.element("article").classes("version" + (" version-served" if row.served else "")):
            with ui.element("div").classes("version-head"):
                heading(row.version or row.name, 3)
                if row.served:
                    ui.label("answers now").classes("status status-read")
                ui.label(_in_short(row)).classes("quiet")
                ui.element("div").classes("spring")
                if row.can_be_served:
                    serve = ui.button(
                        "Serve this version", on_click=lambda: self._ask(row), icon="history"
                    )
                    serve.props("outline no-caps dense").classes("version-serve")
                    serve.set_enabled(self._services.visitor.may("admin") and not running)
            if row.damage:
                ui.label(f"It cannot be served: {row.damage}").classes("warning")
            if row.reason:
                ui.label(row.reason)
            with ui.expansion("Where it comes from").classes("learn-table"):
                plain_table(("What", "Value"), _provenance(row), f"Where {row.version} comes from")

    def _ask(self, row: VersionRow) -> None:
        with ui.dialog() as dialog, ui.card():
            ui.label(f"Serve {row.version} again?").classes("section-title")
            ui.label(
                "It answers from the next click on. Later versions are kept and can be chosen "
                "again; readings stay as they are."
            )
            with ui.row():
                ui.button("Serve it", on_click=lambda: dialog.submit(True)).props(
                    "unelevated no-caps"
                ).classes("version-confirm")
                ui.button("Leave it", on_click=lambda: dialog.submit(False)).props("flat no-caps")

        async def decide() -> None:
            if await dialog:
                await self._roll_back(row)
            dialog.delete()

        ui.timer(0.01, decide, once=True)

    async def _roll_back(self, row: VersionRow) -> None:
        try:
            await run.io_bound(self._services.versions.rollback, row.name)
        except Exception as error:
            ui.notify(in_words(error), type="negative", timeout=0, close_button="Close")
            return
        ui.notify(f"{row.version} answers from now on.", type="positive")
        await self.draw(running=False)


def _in_short(row: VersionRow) -> str:
    parts = [] if row.auc is None else [f"AUC {row.auc:.3f} on the reference set"]
    if row.readings is not None:
        parts.append(f"{row.readings} readings")
    if row.made_at:
        parts.append(row.made_at)
    return ", ".join(parts)


def _provenance(row: VersionRow) -> list[tuple[str, str]]:
    """Return where a version comes from, as names and texts."""
    said = [
        ("Folder", row.name),
        ("Trained from", row.parent),
        ("Shipped model of its time", row.shipped),
        ("Made", row.made_at),
        ("Readings", "" if row.readings is None else str(row.readings)),
        ("SHA-256", row.sha256),
        ("Signed by this site", "" if row.name == SHIPPED or row.damage else "yes"),
        *((f"Setting {name}", value) for name, value in row.settings),
    ]
    return [(name, value) for name, value in said if value]
