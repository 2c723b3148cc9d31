"""The cases just read on the page: what was answered before the last training, and after it."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import run, ui

from resmtnet.page.address import case_address, within
from resmtnet.page.effect import Effect, Said, Stored, effects, summary
from resmtnet.page.parts import heading, in_words
from resmtnet.page.services import Services

HONEST = (
    "These nodules were trained on, or judged the training: they show what the model has learnt "
    "from you, not how good it is on others."
)
_HEAD = ("Study", "Reader", "You said", "Score before", "Score after", "P(malignant) before, after")


class EffectSection:
    """The section in one browser tab."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._section = ui.element("section").classes("learn-section learn-effect")

    async def draw(self) -> None:
        """Draw what has changed; nothing before the first training."""
        found = await run.io_bound(self._found)
        self._section.clear()
        if not found:
            return
        with self._section:
            heading("What it changed for the cases just read")
            ui.label(summary(found)).classes("learn-told")
            ui.label(HONEST).classes("quiet")
            waiting = [one for one in found if one.after is None]
            if waiting:
                ask = ui.button(
                    f"Ask the version that answers now about {len(waiting)} nodules",
                    on_click=lambda: self._ask(waiting),
                )
                ask.props("outline no-caps").classes("learn-ask")
            _table(found)

    def _found(self) -> list[Effect]:
        services = self._services
        sha256 = services.now().model.info.sha256
        readings = services.inbox.store.readings()
        images = {one.image for one in readings}
        hidden = services.blinding.hidden(images, services.visitor.reader)
        now = Stored(sha256, services.answers, services.score_of)
        return effects(readings, now, hidden.__contains__)

    async def _ask(self, waiting: Sequence[Effect]) -> None:
        services = self._services
        try:
            for one in waiting:
                at = [one.centre_lps_mm]
                await run.io_bound(services.click, one.image, at, services.visitor.reader)
        except Exception as error:
            ui.notify(in_words(error), type="negative", timeout=0, close_button="Close")
        await self.draw()


def _table(found: Sequence[Effect]) -> None:
    with (
        ui.element("div").classes("wide").props('tabindex="0" role="region" aria-label="Cases"'),
        ui.element("table").classes("plain-table"),
    ):
        with ui.element("thead"), ui.element("tr"):
            for name in _HEAD:
                with ui.element("th").props('scope="col"'):
                    ui.label(name)
        with ui.element("tbody"):
            for one in found:
                with ui.element("tr"):
                    with ui.element("td"):
                        ui.link(one.image, within(case_address(one.image, one.centre_lps_mm)))
                    for text in _cells(one):
                        with ui.element("td"):
                            ui.label(text)


def _cells(one: Effect) -> tuple[str, ...]:
    said = [one.class_name or "", "" if one.rating is None else f"{one.rating:.0f} of 5"]
    after = one.after
    arrow = {True: " (nearer)", False: " (farther)", None: ""}[one.nearer]
    return (
        one.reader,
        ", ".join(part for part in said if part) or "size only",
        _score(one.before),
        "not asked yet" if after is None else _score(after) + arrow,
        f"{_share(one.before)}, {'' if after is None else _share(after)}".rstrip(", "),
    )


def _score(said: Said) -> str:
    return "" if said.score is None else f"{said.score:.2f}"


def _share(said: Said) -> str:
    return "" if said.probability_malignant is None else f"{said.probability_malignant:.2f}"
