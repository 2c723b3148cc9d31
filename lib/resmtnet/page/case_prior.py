"""The comparison with an earlier CT at a case: what it says, and how a reader asks for it."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from resmtnet.page import prior_words as words
from resmtnet.page.case import CaseNodule
from resmtnet.page.case_data import CaseData
from resmtnet.page.earlier import EarlierStudies, OtherStudy, prior_asked
from resmtnet.page.frame import notice
from resmtnet.page.parts import figure
from resmtnet.types import Json

UNKNOWN_PATIENT = (
    "Their files do not say of whom they are (NIfTI names no patient): only you can know that both "
    "CTs are of one patient."
)
NOTHING = (
    "There is no other study here that could be an earlier CT of this patient. Add it to the "
    "studies, then it is offered here."
)
TAKES = (
    "Both CTs are registered, and each nodule is looked for in the earlier one: about ten seconds."
)


def prior_details(nodule: CaseNodule, show: Callable[[], object], is_shown: bool) -> None:
    """Show what the earlier CT says of a nodule; nothing where nobody has compared.

    Args:
        nodule: chosen.
        show: shows the place in the earlier CT, or the case again.
        is_shown: whether the picture is of the earlier CT now.
    """
    prior = nodule.finding.prior if nodule.finding else None
    if prior is None:
        return
    with ui.element("section").classes("prior").props('aria-label="Earlier CT"'):
        with ui.element("div").classes("prior-head"):
            ui.label(words.verdict(prior)).classes(f"prior-verdict is-{words.kind(prior)}")
            ui.label(f"since {words.since(prior)}").classes("quiet prior-since")
            if prior["place_lps_mm"] and prior["image_id"]:
                told = "This CT (h)" if is_shown else "Earlier CT (h)"
                ui.button(told, on_click=show).props("flat no-caps dense").classes("prior-show")
        with ui.element("dl").classes("figures"):
            for title, value, change in words.changes(prior):
                figure(title, value, change)
        for note in prior["notes"]:
            ui.label(str(note)[:1].upper() + str(note)[1:]).classes("quiet")


def earlier_notice(case: CaseData) -> None:
    """Say that a comparison goes on, or that there is an earlier CT to compare with."""
    if case.comparing:
        told = f"With {case.comparing}. It takes about ten seconds; you can read meanwhile."
        notice("loading", "Comparing", told)
        return
    is_compared = any(one.finding is not None and one.finding.prior for one in case.nodules)
    if case.earlier.of_patient and case.can_compare() and not is_compared:
        others = len(case.earlier.of_patient) - 1
        more = f", and {others} more" if others else ""
        ui.label(f"Earlier CT of this patient: {case.earlier.of_patient[0].told}{more}").classes(
            "earlier-note"
        )


async def ask_which(studies: EarlierStudies) -> Json | None:
    """Ask the reader with which study a case is to be compared.

    Returns:
        The field `prior` of a request; None where the reader leaves it.
    """
    with ui.dialog() as dialog, ui.card().classes("help-card compare-card"):
        ui.label("Compare with an earlier CT").classes("section-title")
        if not studies.of_patient and not studies.of_unknown:
            ui.label(NOTHING)
            ui.button("Close", on_click=lambda: dialog.submit(None)).props("flat no-caps")
        else:
            _Choice(studies, dialog.submit)
    asked: Json | None = await dialog
    dialog.delete()
    return asked


class _Choice:
    """The fields of the dialog."""

    def __init__(self, studies: EarlierStudies, submit: Callable[[Json | None], object]) -> None:
        self._studies, self._submit = studies, submit
        self._known = {one.image: one for one in studies.of_patient}
        self._every = self._known | {one.image: one for one in studies.of_unknown}
        first = next(iter(self._known), None)
        self._which = ui.select(
            {image: one.told for image, one in self._every.items()},
            label="Earlier CT",
            value=first,
            with_input=len(self._every) > 10,
            on_change=self._changed,
        )
        self._which.props("outlined dense options-dense").classes("compare-which")
        self._unknown = ui.element("div").classes("compare-unknown")
        with self._unknown:
            ui.label(UNKNOWN_PATIENT).classes("quiet")
            self._one_patient = ui.checkbox(
                "Both CTs are of one patient", on_change=self._changed
            ).props("dense")
        self._dates = ui.element("div").classes("compare-dates")
        with self._dates:
            self._then = _date("Date of the earlier CT")
            self._now = _date("Date of this CT")
        ui.label(TAKES).classes("quiet")
        with ui.element("div").classes("form-buttons"):
            self._go = ui.button("Compare", on_click=self._done).props("unelevated no-caps")
            ui.button("Cancel", on_click=lambda: submit(None)).props("flat no-caps")
        self._changed()

    @property
    def _chosen(self) -> OtherStudy | None:
        return self._every.get(str(self._which.value))

    def _changed(self) -> None:
        chosen = self._chosen
        known = chosen is not None and chosen.image in self._known
        self._unknown.set_visibility(bool(self._every) and not known)
        undated = chosen is not None and (chosen.day is None or self._studies.day is None)
        self._dates.set_visibility(undated)
        self._then.set_visibility(chosen is not None and chosen.day is None)
        self._now.set_visibility(self._studies.day is None)
        self._go.set_enabled(chosen is not None and (known or bool(self._one_patient.value)))

    def _done(self) -> None:
        chosen = self._chosen
        if chosen is not None:
            told = bool(self._one_patient.value) and chosen.image not in self._known
            then = "" if chosen.day else str(self._then.value or "")
            now = "" if self._studies.day else str(self._now.value or "")
            self._submit(prior_asked(chosen, one_patient=told, date_then=then, date_now=now))


def _date(label: str) -> ui.input:
    field = ui.input(label, placeholder="2026-01-31")
    field.props('outlined dense maxlength=10 hint="For the doubling time; may stay empty"')
    return field
