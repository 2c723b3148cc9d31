"""The summary page of a cohort: counts, distributions, the most suspicious nodules, failures."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape

from resmtnet.cohort.ledger import FAILED, NO_NODULE
from resmtnet.cohort.rows import SCHEMA
from resmtnet.evaluation.page import page, table
from resmtnet.findings import ModelInfo
from resmtnet.types import Json

MOST_SUSPICIOUS = 25
"""Nodules that are listed on the page; all of them are in the Parquet file."""
MOST_FAILED = 100
"""Failed studies that are listed on the page."""
SCORES = (("1 to 2", 2.0), ("2 to 3", 3.0), ("3 to 4", 4.0), ("4 to 5", float("inf")))
AXES_MM = (
    ("below 6 mm", 6.0),
    ("6 to 8 mm", 8.0),
    ("8 to 15 mm", 15.0),
    ("15 to 30 mm", 30.0),
    ("30 mm and more", float("inf")),
)
"""Name of each group, and its upper end, which belongs to the next one."""
CLASSES = ("malignant", "indeterminate", "benign")
_BAR_PX = 320


@dataclass
class Tally:
    """What the page tells of the records, without keeping them."""

    studies: int = 0
    no_nodule: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    scores: Counter[str] = field(default_factory=Counter)
    axes: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Study and reason."""
    suspicious: list[tuple[float, str, int, Json]] = field(default_factory=list)
    """A heap of score, study, number and nodule."""

    def add(self, record: Json) -> None:
        """Count one study."""
        self.studies += 1
        self.no_nodule += record["status"] == NO_NODULE
        if record["status"] == FAILED:
            self.failed.append((record["study_id"], record["reason"]))
        nodules = record["findings"]["nodules"] if record["findings"] else []
        for number, nodule in enumerate(nodules):
            self._add_nodule(record["study_id"], number, nodule)

    def _add_nodule(self, study_id: str, number: int, nodule: Json) -> None:
        score, axis_mm = nodule["malignancy"]["score"], nodule["size"]["long_axis_mm"]
        self.classes[nodule["class"]["name"]] += 1
        self.scores[group_of(score, SCORES)] += 1
        self.axes["not measured" if axis_mm is None else group_of(axis_mm, AXES_MM)] += 1
        entry = (score, study_id, number, nodule)
        if len(self.suspicious) < MOST_SUSPICIOUS:
            heapq.heappush(self.suspicious, entry)
        else:
            heapq.heappushpop(self.suspicious, entry)


def group_of(value: float, groups: Iterable[tuple[str, float]]) -> str:
    """Return the name of the first group whose upper end is above a value.

    >>> group_of(6.0, AXES_MM)
    '6 to 8 mm'
    """
    return next(name for name, end in groups if value < end)


def summary_page(tally: Tally, model: ModelInfo) -> str:
    """Return the page, HTML that needs nothing else."""
    counts = [
        ("studies", tally.studies),
        ("with a nodule", tally.studies - tally.no_nodule - len(tally.failed)),
        ("without a nodule (no negative read)", tally.no_nodule),
        ("failed", len(tally.failed)),
        ("nodules", tally.classes.total()),
        ("model", f"{model.name} {model.version}, {model.sha256[:12]}"),
        ("rows", f"nodules.parquet, schema {SCHEMA}"),
    ]
    axes = [*(name for name, _ in AXES_MM), "not measured"]
    body = [
        "<h2>Counts</h2>",
        table(("what", "number"), counts),
        "<h2>Nodules</h2><p>What the model says of them; nobody has confirmed it.</p>",
        _bars("Class", CLASSES, tally.classes),
        _bars("Malignancy score", [name for name, _ in SCORES], tally.scores),
        _bars("Long axis", axes, tally.axes),
    ]
    if tally.suspicious:
        body += ["<h2>Highest malignancy scores</h2>", _suspicious(tally)]
    if tally.failed:
        body += ["<h2>Studies that failed</h2>", _failures(tally)]
    return page("Cohort scored by Res-MTNet", body)


def _suspicious(tally: Tally) -> str:
    head = ("study", "nodule", "class", "score (90%)", "long axis", "volume", "texture", "LPS mm")
    first = sorted(tally.suspicious, key=lambda entry: (-entry[0], *entry[1:3]))
    return table(head, [_line(study, nodule) for _, study, _, nodule in first])


def _line(study: str, nodule: Json) -> tuple[str, ...]:
    low, high = nodule["malignancy"]["interval_90"]
    size, texture = nodule["size"], nodule["characteristics"].get("texture") or {}
    axis, volume = size["long_axis_mm"], size["volume_mm3"]
    return (
        study,
        nodule["id"],
        nodule["class"]["name"],
        f"{nodule['malignancy']['score']:.1f} ({low:.1f} to {high:.1f})",
        "not measured" if axis is None else f"{axis:.1f} mm",
        "not measured" if volume is None else f"{volume:.0f} mm³",
        texture.get("name") or "not told",
        ", ".join(f"{x:.0f}" for x in nodule["centre_lps_mm"]),
    )


def _failures(tally: Tally) -> str:
    shown = table(("study", "reason"), tally.failed[:MOST_FAILED])
    more = len(tally.failed) - MOST_FAILED
    return shown + (f"<p>{more} more are in nodules.parquet.</p>" if more > 0 else "")


def _bars(title: str, names: Iterable[str], counts: Counter[str]) -> str:
    greatest = max(counts.values(), default=1)
    lines = "".join(
        f'<tr><td>{escape(name)}</td><td><div style="background:#4a76a8;height:1em;'
        f'width:{_BAR_PX * counts[name] / greatest:.0f}px"></div></td><td>{counts[name]}</td></tr>'
        for name in names
        if counts[name] or name != "not measured"
    )
    return f"<h3>{escape(title)}</h3><table>{lines}</table>"
