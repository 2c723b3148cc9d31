"""Writes metrics.json, report.html, tables.md and the learning curves of a simulation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from resmtnet.active.simulation.rounds import METRICS
from resmtnet.active.simulation.strategies import BASELINES, DEFAULT
from resmtnet.active.simulation.summary import verdict
from resmtnet.evaluation.canvas import GUIDE, png
from resmtnet.evaluation.page import page, picture, table
from resmtnet.types import Json

TITLES = {"auc": "AUC", "score_mae": "score MAE", "diameter_mae_mm": "diameter MAE, mm"}
COLOURS = (
    "#1f5fa8", "#b35900", "#3a7d44", "#8e3b8a", "#b8860b", "#007c89", "#c0392b", "#5b5b9e",
    "#7f8c1f", "#a0522d",
)  # fmt: skip
READING = (
    "All strategies start from the same labels, drawn at random. After each step the heads are "
    "fitted again on all labels, and tested on patients that are never labelled. Differences are "
    "means over all budgets between the first and the whole pool, paired by game; in brackets the "
    "bootstrap interval over games. Games share patients, so the intervals do not cover the "
    "variation between patients."
)


def write_report(out: Path, document: Json) -> list[Path]:
    """Write metrics.json, report.html, tables.md, curves.png and strata.png to a folder.

    Returns:
        The files.
    """
    out.mkdir(parents=True, exist_ok=True)
    metrics = out / "metrics.json"
    metrics.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    strata = _strata(document)
    main = draw(document, ["all"])
    hard = draw(document, [name for name in strata if name != "all"], METRICS[1:])
    pictures = {"curves.png": main, "strata.png": hard}
    for name, image in pictures.items():
        (out / name).write_bytes(image)
    body = [
        f"<p>{escape(_subject(document))}</p><p>{escape(READING)}</p>",
        f"<p>{escape(goal_text(document))}</p>",
        picture("All test nodules, by number of labels. Band: stratified random.", main).replace(
            "440", "1100"
        ),
        picture("Difficult strata, by number of labels.", hard).replace("440", "1100"),
        "<h2>Labels for 95% of the gain of the whole pool</h2>",
        _needed_table(document),
    ]
    for other in BASELINES:
        if other in document["strategies"]:
            body += [f"<h2>Difference to {other}</h2>", _difference_table(document, other)]
    report = out / "report.html"
    report.write_text(page("Active learning, simulated", body), encoding="utf-8")
    tables = out / "tables.md"
    tables.write_text(markdown(document), encoding="utf-8")
    return [metrics, report, tables, *(out / name for name in pictures)]


def draw(document: Json, strata: Sequence[str], metrics: Sequence[str] = METRICS) -> bytes:
    """Draw the mean curves of all strategies, one row of plots for each stratum."""
    rows = max(len(strata), 1)
    figure = Figure(figsize=(4.6 * len(metrics), 3.6 * rows), layout="constrained")
    grid = figure.subplots(rows, len(metrics), squeeze=False)
    labels = document["budgets"]
    for row, stratum in zip(grid, strata, strict=False):
        for axes, metric in zip(row, metrics, strict=True):
            name = f"{stratum}: {metric}"
            for n, (strategy, found) in enumerate(document["strategies"].items()):
                curve = found["curves"][name]
                base = strategy in BASELINES
                colour = GUIDE if base else COLOURS[n % len(COLOURS)]
                style = {"stratified": "-", "random": ":"}.get(strategy, "-")
                width = 2.2 if strategy in ("stratified", DEFAULT) else 1.0
                mean = [float("nan") if v is None else v for v in curve["mean"][:-1]]
                axes.plot(labels, mean, style, color=colour, lw=width, label=strategy)
                if strategy == "stratified" and None not in curve["low"] + curve["high"]:
                    low, high = curve["low"][:-1], curve["high"][:-1]
                    axes.fill_between(labels, low, high, color=GUIDE, alpha=0.15, lw=0)
            axes.set(xlabel="labelled nodules", title=f"{stratum}: {TITLES[metric]}")
            axes.spines[["top", "right"]].set_visible(False)
    grid[0][-1].legend(frameon=False, fontsize=7)
    return png(figure)


def goal_text(document: Json) -> str:
    """Return a sentence that says whether the goal is reached."""
    goal = document["goal"]
    best, shares = goal["best_strategy"], goal["share_of_stratified"]
    if best is None:
        return "The goal is not judged: it needs stratified random and another strategy."
    told = [name for name in dict.fromkeys((best, DEFAULT)) if name in shares]
    reached = ", ".join(goal["reached_by"])
    return (
        f"Goal: {goal['share_of_gain']:.0%} of the gain in score MAE with at most "
        f"{goal['allowed_share_of_stratified']:.0%} of the labels of stratified random, and "
        f"significantly fewer. {f'Reached by {reached}' if reached else 'Not reached'}; "
        + ", ".join(f"{name} needs {_multiple(shares[name])}" for name in told)
        + " of the labels that stratified random needs."
    )


def markdown(document: Json) -> str:
    """Return the main tables as Markdown."""
    figures = [f"{s}: {m}" for s in _strata(document) for m in METRICS if s == "all" or m != "auc"]
    needed = [
        [name, *(_needed_cell(found["labels_needed"][f"all: {metric}"]) for metric in METRICS)]
        for name, found in document["strategies"].items()
    ]
    parts = [_markdown_table(["labels for 95% of the gain", *TITLES.values()], needed)]
    for other in BASELINES:
        rows = [
            [name, *(_markdown_cell(f, found["compared_with"][other][f]) for f in figures)]
            for name, found in document["strategies"].items()
            if other in found["compared_with"]
        ]
        if rows:
            parts.append(_markdown_table([f"less {other}", *figures], rows))
    return "\n".join([_subject(document), "", goal_text(document), "", *parts])


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown_cell(figure: str, difference: Json) -> str:
    text = f"{_signed(difference['mean'])} [{_signed(difference['low'])}, "
    text += f"{_signed(difference['high'])}]"
    return {"better": f"**{text}**", "worse": f"*{text}*"}.get(verdict(figure, difference), text)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _subject(document: Json) -> str:
    pools = "; ".join(
        f"{pool['nodules']} nodules of {pool['patients']} patients that "
        f"{pool['model']} was not trained on"
        for pool in document["pools"]
    )
    seeds = document["seeds"]
    return f"{pools}. {len(seeds)} seeds ({seeds[0]} to {seeds[-1]}) for each."


def _strata(document: Json) -> list[str]:
    first = next(iter(document["strategies"].values()))
    return list(dict.fromkeys(name.partition(": ")[0] for name in first["curves"]))


def _needed_table(document: Json) -> str:
    rows = [
        [name, *(_needed_cell(found["labels_needed"][f"all: {metric}"]) for metric in METRICS)]
        for name, found in document["strategies"].items()
    ]
    return table(["strategy", *TITLES.values()], rows)


def _needed_cell(entry: Json) -> str:
    text = f"{_number(entry['labels'], 0)} {_range(entry, 0)}"
    share = entry.get("share_of_stratified")
    if share is None or share["value"] is None:
        return text
    return f"{text}, {_multiple(share)}"


def _multiple(share: Json) -> str:
    value, low, high = (_number(share[end], 2) for end in ("value", "low", "high"))
    return f"x {value} [{low}, {high}]"


def _difference_table(document: Json, other: str) -> str:
    figures = [f"{s}: {m}" for s in _strata(document) for m in METRICS if s == "all" or m != "auc"]
    rows = []
    for name, found in document["strategies"].items():
        compared = found["compared_with"].get(other)
        if compared is None:
            continue
        cells = [
            f"{_number(compared[f]['mean'], 3)} {_range(compared[f], 3)} {verdict(f, compared[f])}"
            for f in figures
        ]
        rows.append([name, *cells])
    return table(["strategy", *figures], rows)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _range(entry: Json, digits: int) -> str:
    return f"[{_number(entry['low'], digits)}, {_number(entry['high'], digits)}]"
