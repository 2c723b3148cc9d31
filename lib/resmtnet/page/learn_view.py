"""Learning: what there is to train, the training itself, its verdict, and the versions."""

from __future__ import annotations

import logging
from typing import Any

from nicegui import run, ui

from resmtnet.errors import ResMTNetError
from resmtnet.page.address import ROOT, WORKLIST, within
from resmtnet.page.frame import notice
from resmtnet.page.learn import LastTraining, last_training, progress, what_to_do
from resmtnet.page.learn_agreement import agreement_section
from resmtnet.page.learn_effect import EffectSection
from resmtnet.page.learn_options import TrainingOptions
from resmtnet.page.learn_versions import VersionsSection
from resmtnet.page.parts import heading, in_words, plain_table
from resmtnet.page.services import Services
from resmtnet.types import Json

logger = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
SWITCHED_OFF = (
    "Training is switched off on this server. Readings are kept; start the server without that "
    "setting to train on them."
)


async def learn_view(services: Services) -> None:
    """Show the state of learning."""
    ui.add_head_html(f'<link rel="stylesheet" href="{ROOT}/static/learn.css">')
    await LearnView(services).show()


class LearnView:
    """The view in one browser tab."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._told: object = None
        self._state: object = None
        self._options = TrainingOptions()

    async def show(self) -> None:
        """Draw the view, and look for what is new from then on."""
        heading("Learn", 1)
        with ui.element("section").classes("learn-section"):
            heading("Training")
            self._training = ui.element("div")
            with self._training:
                notice("loading", "Counting the readings", "A moment, please.")
        self._verdict = ui.element("section").classes("learn-section")
        self._effect = EffectSection(self._services)
        self._versions = VersionsSection(self._services)
        self._agreement = ui.element("section").classes("learn-section")
        ui.timer(0.05, self._look, once=True)
        ui.timer(LOOK_AGAIN_S, self._look)

    async def _look(self) -> None:
        """Draw again what has changed."""
        services = self._services
        if services.training is None:
            self._draw_once("off", lambda: notice("empty", "No training here", SWITCHED_OFF))
            await self._look_at_readings(None)
            return
        try:
            stats = await run.io_bound(services.training.stats)
        except Exception as error:
            logger.warning("The state of learning cannot be shown: %s", error)
            words = in_words(error)
            self._draw_once(words, lambda: notice("error", "This cannot be shown", words))
            return
        if stats is None:  # the server stops
            return
        self._draw_training(stats)
        await self._look_at_readings(stats)

    def _draw_once(self, told: object, draw: Any) -> None:
        if told != self._told:
            self._told = told
            self._training.clear()
            with self._training:
                draw()

    def _draw_training(self, stats: Json) -> None:
        now = progress(stats)
        readiness = stats.get("readiness") or {}
        kind = ("running", now.running, str(readiness), str(stats.get("reason")))
        self._draw_once(kind, lambda: self._training_card(stats))
        if now.running:
            self._bar.value = now.share if now.share is not None else 0
            self._bar.props(f"{'' if now.share is not None else 'indeterminate'}")
            if now.share is not None:
                self._bar.props(remove="indeterminate")
            self._doing.text = f"{now.told}. {now.took} so far." if now.took else f"{now.told}."
        self._draw_verdict(last_training(stats))

    def _training_card(self, stats: Json) -> None:
        readiness = stats.get("readiness") or {}
        may = self._services.visitor.may("trainer")
        if progress(stats).running:
            self._doing = ui.label("").classes("learn-doing").props('role="status"')
            self._bar = ui.linear_progress(0, show_value=False).props(
                'aria-label="Progress of the training" size="10px"'
            )
            ui.label("Answers go on with the version that is served.").classes("quiet")
            stop = ui.button("Stop the training", icon="stop", on_click=self._stop)
            stop.props("outline no-caps").classes("learn-stop").set_enabled(may)
            return
        if readiness.get("told"):
            ui.label(str(readiness["told"])).classes("learn-told")
        rows = [
            (
                f"{row['what'].capitalize()} for {row['for_what']}",
                str(row["there"]),
                str(row["needed"]),
                "yes" if row["met"] else "not yet",
            )
            for row in readiness.get("rows") or ()
        ]
        if rows:
            plain_table(("What", "There", "Needed", "Enough"), rows, "What there is to train")
        ready = readiness.get("stage") not in (None, "nothing")
        train = ui.button("Train", icon="model_training", on_click=self._start)
        train.props("unelevated no-caps").classes("learn-train").set_enabled(ready and may)
        if ready and may and self._services.training is not None:
            self._options.draw(self._services.training.form())
        if not may:
            ui.label("Only a trainer may start a training; log in with such a token.")
        elif not ready:
            ui.label(what_to_do(readiness)).classes("learn-told learn-next")
            ui.link("To the worklist", within(WORKLIST))
        else:
            ui.label(
                "It takes seconds to minutes. The result is served only if it is not worse than "
                "the version that answers now."
            ).classes("quiet")

    async def _start(self) -> None:
        training = self._services.training
        if training is None:
            return
        try:
            await run.io_bound(training.start, self._options.changed)
        except Exception as error:
            ui.notify(in_words(error), type="negative", timeout=0, close_button="Close")
            return
        ui.notify("The training begins.", type="positive")
        await self._look()

    async def _stop(self) -> None:
        training = self._services.training
        if training is None:
            return
        try:
            await run.io_bound(training.stop)
        except Exception as error:
            ui.notify(in_words(error), type="negative", timeout=0, close_button="Close")
        await self._look()

    def _draw_verdict(self, last: LastTraining | None) -> None:
        if last == getattr(self, "_last", None) and last is not None:
            return
        self._last = last
        self._verdict.clear()
        if last is None:
            return
        with self._verdict:
            heading("The last training")
            kind = "published" if last.verdict == "published" else "kept"
            ui.label(last.title).classes(f"verdict verdict-{kind}")
            ui.label(last.paragraph).classes("learn-told")
            if last.rows:
                with ui.expansion("What was compared and checked").classes("learn-table"):
                    _verdict_table(last)
            if last.skipped:
                count = len(last.skipped)
                with ui.expansion(f"{count} nodules were not used").classes("learn-table"):
                    for line in last.skipped:
                        ui.label(line)

    async def _look_at_readings(self, stats: Json | None) -> None:
        """Draw what follows from readings and versions, when either has changed."""
        services = self._services
        try:
            revision = await run.io_bound(services.inbox.store.revision)
            stamp = services.versions.stamp()
        except ResMTNetError as error:
            logger.warning("The readings cannot be read: %s", error)
            return
        running = stats is not None and progress(stats).running
        state = (revision, stamp, running)
        if state == self._state:
            return
        self._state = state
        await self._versions.draw(running)
        await self._effect.draw()
        await agreement_section(self._agreement, services)


def _verdict_table(last: LastTraining) -> None:
    head = ("What", "On", "Result", "Before", "After", "Worse by (interval)", "Allowed", "Nodules")
    rows = [
        (
            row.what,
            row.on,
            "passed" if row.passed else "NOT passed",
            row.before,
            row.after,
            row.change,
            row.allowed,
            str(row.nodules),
        )
        for row in last.rows
    ]
    plain_table(head, rows, "What was compared and checked", numbers=5)
