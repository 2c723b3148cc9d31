"""The right side of a case: the list of nodules, and all that is known of the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nicegui import ui

from resmtnet.findings import Finding
from resmtnet.page import case_words as words
from resmtnet.page.case import CaseNodule
from resmtnet.page.case_data import CaseData
from resmtnet.page.frame import notice
from resmtnet.page.prior_words import in_short


def nodule_list(
    nodules: Sequence[CaseNodule],
    chosen: CaseNodule | None,
    choose: Callable[[CaseNodule], object],
    is_hidden: Callable[[CaseNodule], bool],
) -> None:
    """Show the nodules as a list in which one is chosen.

    Args:
        nodules: in the order shown.
        chosen: which one is marked.
        choose: called with the one that is clicked.
        is_hidden: whether nothing of what the model and others say of a nodule is shown.
    """
    with ui.element("ol").classes("nodules").props('aria-label="Nodules"'):
        for nodule in nodules:
            with ui.element("li"):
                _row(nodule, nodule is chosen, choose, is_hidden(nodule))


def search_notice(case: CaseData, search: Callable[[], object]) -> None:
    """Say that the search goes on, has failed, or what to do where there is no nodule yet.

    Args:
        case: open.
        search: starts a search of the whole CT.
    """
    if case.searching:
        notice("loading", "Searching the whole CT", "Candidates appear here when it is done.")
    elif case.failed:
        notice("error", "The search has failed", case.failed)
    elif not case.nodules:
        told = (
            "Answers are hidden. Add each nodule that you see: press a, and click it."
            if case.hidden
            else "The search has found none. If you see one, press a and click it."
            if case.searched
            else "Press a and click a nodule, or search the whole CT."
        )
        notice("empty", "No nodules yet", told)
        if not case.hidden and not case.searched:
            ui.button("Search the whole CT", on_click=search).props("outline no-caps")


def _row(
    nodule: CaseNodule, is_chosen: bool, choose: Callable[[CaseNodule], object], hidden: bool
) -> None:
    row = ui.element("button").classes("nodule").props('type="button"')
    if is_chosen:
        row.classes("is-chosen").props('aria-current="true"')
    if nodule.is_candidate and not hidden:
        row.classes("is-candidate")
    row.on("click", lambda: choose(nodule))
    with row:
        ui.label(nodule.name).classes("nodule-name")
        with ui.element("span").classes("nodule-what"):
            finding = None if hidden else nodule.finding
            if finding is not None:
                ui.label(words.class_words(finding)).classes(
                    f"nodule-class is-{finding.class_name}"
                )
                ui.label(words.size_words(finding)).classes("nodule-size")
                change = in_short(finding.prior)
                if change:
                    ui.label(change).classes("nodule-change")
            else:
                ui.label("Answer hidden" if hidden else "No answer").classes("nodule-class")
            said = nodule.said
            status = words.status_words(nodule)
            if hidden:
                status = status if said is not None else "yours to read"
            ui.label(status).classes("nodule-status" + (" is-read" if said else ""))
        if finding is not None:
            with ui.element("span").classes("nodule-score"):
                ui.label(f"{finding.malignancy.score:.1f}")
                ui.label("of 5").classes("quiet")


def nodule_details(nodule: CaseNodule) -> None:
    """Show every figure of a nodule, and what readers say of it."""
    finding = nodule.finding
    if finding is None:
        ui.label("The served version was not asked about this nodule.").classes("quiet")
    else:
        if nodule.is_candidate:
            ui.label("Found by the search, confirmed by nobody: may be no nodule.").classes(
                "candidate-note"
            )
        _warnings(finding.warnings)
        _malignancy(nodule)
        _tiles(finding)
        _guideline(finding)
        _characteristics(finding)
        ui.label(words.guideline_note(finding)).classes("quiet")
    _readings(nodule)


def _tiles(finding: Finding) -> None:
    """Show sizes and probabilities side by side, each with its 90% interval below it."""
    tiles = [*words.sizes(finding)]
    if finding.nodule_probability is not None:
        tiles.append(("Is a nodule", words.percent(finding.nodule_probability), ""))
    risk = (finding.risk or {}).get("probability")
    if isinstance(risk, float):
        tiles.append(("Brock risk", words.percent(risk), ""))
    with ui.element("dl").classes("tiles"):
        for title, value, between in tiles:
            with ui.element("div").classes("tile"):
                with ui.element("dt"):
                    ui.label(title)
                with ui.element("dd"):
                    ui.label(value).classes("tile-value")
                    ui.label(between).classes("tile-interval")


def _guideline(finding: Finding) -> None:
    """Show the category as a badge, and what it recommends."""
    with ui.element("div").classes("guideline"):
        for system, category, management in words.guidelines(finding):
            ui.label(f"{system} {category}").classes("badge")
            ui.label(management).classes("guideline-what")


def _characteristics(finding: Finding) -> None:
    with ui.element("ul").classes("traits").props('aria-label="Characteristics"'):
        for title, value in words.characteristics(finding):
            with ui.element("li"):
                ui.label(title).classes("quiet")
                ui.label(value)


def _malignancy(nodule: CaseNodule) -> None:
    finding = nodule.finding
    assert finding is not None
    low, high = finding.malignancy.interval_90
    with ui.element("div").classes("score"):
        with ui.element("div").classes("score-words"):
            ui.label("Malignancy").classes("score-title")
            ui.label(f"{finding.malignancy.score:.1f}").classes("score-value")
            ui.label(f"90%: {words.interval((low, high), 1)}").classes("quiet")
        with ui.element("div").classes("scale").props('aria-hidden="true"'):
            left, right = (100 * (bound - 1) / 4 for bound in (low, high))
            ui.element("i").classes("scale-interval").style(
                f"left:{left:.1f}%;width:{max(right - left, 1):.1f}%"
            )
            at = 100 * (finding.malignancy.score - 1) / 4
            ui.element("b").classes("scale-point").style(f"left:{at:.1f}%")
        with ui.element("div").classes("scale-ends quiet").props('aria-hidden="true"'):
            ui.label("1 highly unlikely")
            ui.label("5 highly suspicious")


def _warnings(warnings: Sequence[str]) -> None:
    for told in warnings:
        with ui.element("div").classes("warning").props('role="note"'):
            ui.icon("warning_amber").props('aria-hidden="true"')
            ui.label(told)


def _readings(nodule: CaseNodule) -> None:
    readings = [one for one in (nodule.said, *nodule.others) if one is not None]
    if not readings:
        return
    ui.label("Readings").classes("section-title")
    with ui.element("ul").classes("readings"):
        for reading in readings:
            with ui.element("li"):
                ui.label("You" if reading is nodule.said else reading.reader).classes("who")
                ui.label(words.reading_words(reading))
                ui.label(f"{reading.made_at.astimezone():%d %b %H:%M}").classes("quiet")
