"""Tables of what gate.py found, as docs/experiments/retraining.md shows them."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from scipy.stats import beta, t

from site_readers import ENTITLED, WRONG

Row = Mapping[str, Any]
Groups = Mapping[tuple[str, int], Sequence[Row]]
PUBLISHED = ("weights", "habit alone")
NOT_DONE = "accepted"
"""The checks passed, and the training was not done."""
REFUSED = ("refused", "too few")
"""Before anything was learnt."""
ALL_FROM = 1000
"""A number of patients that means all."""
BACKWARDS = "log likelihood, if"
"""How the check begins that looks for readings that are swapped now and then."""


def report(rows: Sequence[Row]) -> str:
    """What was published, what was kept, and what the published versions do for other patients."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if "chain" not in row["scenario"]:
            groups.setdefault((row["scenario"], row["patients"]), []).append(row)
    parts = [
        _by_patients("accepted", ENTITLED, groups, _accepted),
        _by_patients("published of the accepted", ENTITLED, groups, _published),
        _by_patients("kept", WRONG, groups, _kept),
        _why_not(groups),
        _gains(groups),
        _chains(rows),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def limits(rows: Sequence[Row], tried: Sequence[float]) -> str:
    """Share of runs whose readings would be accepted, by the limit of swapped readings."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.get("checks", ()):
            if name.startswith(BACKWARDS) and value is not None:
                found.setdefault(row["scenario"], {})[row["seed"]] = value
    lines = _head(["readings", "runs", *(f"{limit:g}" for limit in tried)])
    for scenario, values in found.items():
        below = [sum(v < limit for v in values.values()) for limit in tried]
        lines.append(_line([scenario, str(len(values)), *map(str, below)]))
    return "\n".join(lines)


def of_runs(count: int, runs: int) -> str:
    """A share with its exact 95% interval (Clopper and Pearson).

    >>> of_runs(95, 100)
    '95 of 100 [89, 98]%'
    """
    low = beta.ppf(0.025, count, runs - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, runs - count) if count < runs else 1.0
    return f"{count} of {runs} [{100 * low:.0f}, {100 * high:.0f}]%"


def _head(columns: Sequence[str]) -> list[str]:
    return [_line(columns), "|" + "---|" * len(columns)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _patients(count: int) -> str:
    return "all" if count >= ALL_FROM else str(count)


def _by_seed(found: Sequence[Row]) -> list[Row]:
    """The last word on each seed: a run in full stands above its checks."""
    best: dict[int, Row] = {}
    for row in sorted(found, key=lambda row: not row["checks_only"]):
        best[row["seed"]] = row
    full = {row["seed"]: row for row in found if not row["checks_only"]}
    return list({**best, **full}.values())


def _by_patients(
    what: str, names: Collection[str], groups: Groups, cell: Callable[[Sequence[Row]], str]
) -> list[str]:
    """A row a scenario, a column a number of patients."""
    counts = sorted({count for name, count in groups if name in names})
    if not counts:
        return []
    lines = _head(["readings", *(f"{_patients(count)} patients: {what}" for count in counts)])
    for name in names:
        cells = [cell(_by_seed(groups.get((name, count), ()))) for count in counts]
        lines.append(_line([name, *cells]))
    return lines


def _accepted(last: Sequence[Row]) -> str:
    """Runs whose readings pass the checks."""
    return of_runs(sum(r["outcome"] not in REFUSED for r in last), len(last)) if last else "-"


def _published(last: Sequence[Row]) -> str:
    """Of the accepted runs, where they were done in full."""
    done = [row for row in last if row["outcome"] not in (NOT_DONE, *REFUSED)]
    if not done:
        return "-"
    count = sum(row["outcome"] in PUBLISHED for row in done)
    habit = sum(row["outcome"] == "habit alone" for row in done)
    return of_runs(count, len(done)) + (f", {habit} without new weights" if habit else "")


def _kept(last: Sequence[Row]) -> str:
    """Readings that pass the checks count as published, where the training was not done."""
    if not last:
        return "-"
    wrong = sum(row["outcome"] in (*PUBLISHED, NOT_DONE) for row in last)
    return of_runs(len(last) - wrong, len(last))


def _why_not(groups: Groups) -> list[str]:
    """Why rightful readings were not published, most frequent first."""
    lines = []
    for (name, count), found in groups.items():
        if name not in ENTITLED:
            continue
        missed = [row for row in _by_seed(found) if row["outcome"] not in (*PUBLISHED, NOT_DONE)]
        whys = Counter(w.split(" (")[0] for row in missed for w in row["why"] or [row["outcome"]])
        if missed:
            told = "; ".join(f"{number} {text}" for text, number in whys.most_common(3))
            lines.append(f"- {name}, {_patients(count)} patients, {len(missed)} not: {told}")
    return lines


def _gains(groups: Groups) -> list[str]:
    """Figures before and after on patients who took no part, means over published versions."""
    lines = _head(
        [
            *("readings", "patients (nodules)", "versions", "bias of score", "score MAE"),
            *("excess of score MAE", "bias of size", "size error", "AUC"),
            "texture of sub-solid nodules right",
        ]
    )
    start = len(lines)
    for name in ENTITLED:
        for count in sorted({c for n, c in groups if n == name}):
            found = _by_seed(groups[name, count])
            done = [r for r in found if r.get("others") and r["outcome"] in PUBLISHED]
            if done:
                # against readers in the middle only a habit of the score has an excess
                habit = name in ("severe", "lenient")
                nodules = statistics.fmean(row["nodules"] for row in done)
                about = [name, f"{_patients(count)} ({nodules:.0f})", str(len(done))]
                lines.append(_line([*about, *_changes(done, habit)]))
    return lines if len(lines) > start else []


def _changes(done: Sequence[Row], habit: bool) -> list[str]:
    def of(figure: str, less: str = "", size: bool = False) -> str:
        pairs = []
        for row in done:
            told = row["others"]
            usual = told[less] if less else 0.0
            values = [told[when][figure] - usual for when in ("before", "after")]
            if all(map(math.isfinite, values)):
                pairs.append([abs(v) for v in values] if size else values)
        return _before_and_after(pairs) if pairs else "-"

    return [
        of("score_bias", size=True),
        of("score_mae"),
        of("score_mae", less="usual_score_mae") if habit else "-",
        of("size_bias", size=True),
        of("size_error"),
        of("auc"),
        of("subsolid_texture"),
    ]


def _before_and_after(pairs: Sequence[Sequence[float]]) -> str:
    """Means, and the half width of the change's 95% interval over the draws."""
    before, after = (statistics.fmean(column) for column in zip(*pairs, strict=True))
    told = f"{before:.3f} -> {after:.3f}"
    if len(pairs) < 2:
        return told
    return f"{told} ± {half_width([b - a for a, b in pairs]):.3f}"


def half_width(values: Sequence[float]) -> float:
    """Of the 95% interval of a mean.

    >>> round(half_width([1.0, 2.0, 3.0]), 2)
    2.48
    """
    error = statistics.stdev(values) / math.sqrt(len(values))
    return float(t.ppf(0.975, len(values) - 1) * error)


def _chains(rows: Sequence[Row]) -> list[str]:
    """What a version lost after many publishes: a row a chain, and their mean."""
    chains = [row for row in rows if "chain" in row["scenario"]]
    lines: list[str] = []
    for name in dict.fromkeys(row["scenario"] for row in chains):
        found = [row for row in chains if row["scenario"] == name]
        figures = list(found[0]["untouched"])
        lines += ["", f"{name}: losses of the last version, above 0 is worse", ""]
        lines += _head(["seed", "published", "where", *figures])
        for row in found:
            count = sum(row["outcomes"].get(one, 0) for one in PUBLISHED)
            for where in ("reference", "untouched"):
                cells = [f"{row[where][figure]:+.4f}" for figure in figures]
                of = f"{count} of {sum(row['outcomes'].values())}"
                lines.append(_line([str(row["seed"]), of, where, *cells]))
        for where in ("reference", "untouched") if len(found) > 1 else ():
            cells = []
            for figure in figures:
                values = [row[where][figure] for row in found]
                cells.append(f"{statistics.fmean(values):+.4f} ± {half_width(values):.4f}")
            lines.append(_line(["mean", "", where, *cells]))
    return lines[1:]
