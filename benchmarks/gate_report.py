"""Tables of what gate.py found."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
PUBLISHED = ("weights", "habit alone")
ALL_FROM = 1000
"""A number of patients that means all."""


def report(rows: Sequence[Row]) -> str:
    """Outcomes by scenario and number of patients, then what the published versions do."""
    lines = [
        "| readings | patients | runs | published | of them weights | accepted only | why not |"
    ]
    lines.append("|" + "---|" * 7)
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if "chain" not in row["scenario"]:
            groups.setdefault((row["scenario"], row["patients"]), []).append(row)
    for (name, count), found in groups.items():
        lines.append(_outcomes(name, count, found))
    lines += ["", *_gains(groups), "", *_chains(rows)]
    return "\n".join(lines)


def _by_seed(found: Sequence[Row]) -> list[Row]:
    """The last word on each seed: a run in full stands above its checks."""
    best: dict[int, Row] = {}
    for row in sorted(found, key=lambda row: not row["checks_only"]):
        best[row["seed"]] = row
    full = {row["seed"]: row for row in found if not row["checks_only"]}
    return list({**best, **full}.values())


def _patients(count: int) -> str:
    return "all" if count >= ALL_FROM else str(count)


def _outcomes(name: str, count: int, found: Sequence[Row]) -> str:
    last = _by_seed(found)
    outcomes = Counter(row["outcome"] for row in last)
    published = sum(outcomes[name] for name in PUBLISHED)
    whys = Counter(
        w.split(" (")[0] for row in last if row["outcome"] != "weights" for w in row["why"]
    )
    why = "; ".join(f"{number} {text}" for text, number in whys.most_common(2))
    return (
        f"| {name} | {_patients(count)} | {len(last)} | {published} | {outcomes['weights']} | "
        f"{outcomes['accepted']} | {why} |"
    )


def _gains(groups: Mapping[tuple[str, int], Sequence[Row]]) -> list[str]:
    """Means of the figures before and after, over the published versions."""
    lines = []
    for (name, count), found in groups.items():
        changed = [row for row in found if row.get("others")]
        if not changed:
            continue
        parts = []
        for figure in changed[0]["others"]["before"]:
            before, after = (
                statistics.fmean(row["others"][when][figure] for row in changed)
                for when in ("before", "after")
            )
            parts.append(f"{figure} {before:.3f} -> {after:.3f}")
        usual = statistics.fmean(row["others"]["usual_score_mae"] for row in changed)
        parts.append(f"score MAE without a habit {usual:.3f}")
        nodules = statistics.fmean(row["nodules"] for row in changed)
        lines.append(
            f"{name}, {_patients(count)} patients, {nodules:.0f} nodules, {len(changed)} versions: "
            + ", ".join(parts)
        )
    return lines


def _chains(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row['scenario']}, seed {row['seed']}: {row['outcomes']}; reference {row['reference']}; "
        f"untouched {row['untouched']}"
        for row in rows
        if "chain" in row["scenario"]
    ]
