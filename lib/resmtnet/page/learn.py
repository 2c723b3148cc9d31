"""What the page tells of learning: the progress and verdict of a training, and the versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import SHIPPED, Version
from resmtnet.retraining.retrain import reference_auc
from resmtnet.types import Json

RUNNING, STARTING = "running", "starting"
TITLES = {
    "published": "A new version is served",
    "kept": "The version before stays",
    "failed": "The training failed",
    "stopped": "The training was stopped",
}
"""By verdict; see the status of a training (train_stats.json)."""


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    running: bool
    share: float | None = None
    """Of the work that is done, 0 to 1; None: not known."""
    told: str = ""
    took: str = ""
    """Since it began, as 0:01:30."""


@dataclass(frozen=True)
class TableRow:
    """One line behind a verdict."""

    what: str
    on: str
    before: str
    after: str
    change: str
    """How much worse, with its interval; below 0 is better."""
    allowed: str
    nodules: int
    passed: bool


@dataclass(frozen=True)
class LastTraining:
    """What became of the last training."""

    verdict: str
    """published, kept, failed or stopped."""
    title: str
    paragraph: str
    rows: tuple[TableRow, ...]
    skipped: tuple[str, ...]
    """Nodules that neither trained nor judged, each with the reason."""


@dataclass(frozen=True)
class VersionRow:
    """One version of the model, as it is listed."""

    name: str
    version: str
    served: bool
    made_at: str
    """As 2026-01-31 12:00 UTC; "" for the shipped one."""
    parent: str
    shipped: str
    """Version string of the shipped model of its time."""
    readings: int | None
    auc: float | None
    """Of malignant against benign on the reference set, from which no version learnt."""
    reason: str
    """The paragraph with which it was published."""
    sha256: str
    settings: tuple[tuple[str, str], ...]
    """Of its training."""
    damage: str
    """Why it cannot be served; "" if it can."""

    @property
    def can_be_served(self) -> bool:
        """Whether one can go back, or forward, to it."""
        return not self.served and not self.damage


def progress(stats: Mapping[str, Any]) -> Progress:
    """Say how far a training is.

    Args:
        stats: its status.

    >>> progress({"verdict": "running", "stage": "epochs", "epoch": 9, "total_epochs": 30}).told
    'Training: epoch 9 of 30'
    >>> progress({"verdict": "kept"}).running
    False
    """
    if stats.get("verdict") == STARTING:
        return Progress(True, None, "The training starts")
    if stats.get("verdict") != RUNNING:
        return Progress(False)
    took = str(stats.get("current_time") or "")
    done, total = int(stats.get("epoch") or 0), max(1, int(stats.get("total_epochs") or 1))
    stage, nodules = stats.get("stage"), stats.get("nodules")
    if stage == "epochs" and done >= total:
        return Progress(True, 1.0, "Comparing the result with the version that is served", took)
    if stage == "epochs":
        return Progress(True, done / total, f"Training: epoch {done} of {total}", took)
    if stage == "nodules" and nodules:
        return Progress(True, None, f"Looking at the nodules that were read: {nodules} done", took)
    return Progress(True, None, "Collecting the readings", took)


def what_to_do(readiness: Mapping[str, Any]) -> str:
    """Say what a reader does next where there is too little to train.

    Args:
        readiness: of the status of a training.

    >>> rows = [{"what": "patients", "there": 3, "needed": 15, "met": False}]
    >>> what_to_do({"rows": rows}).partition(":")[0]
    'What to do next'
    """
    missing: dict[str, int] = {}
    for row in readiness.get("rows") or ():
        if not row["met"] and row["what"] not in missing:
            missing[row["what"]] = int(row["needed"]) - int(row["there"])
    if "patients" in missing:
        count = missing["patients"]
        told = f"read nodules of {count} more patient{'s' if count != 1 else ''}"
    elif missing:
        told = "; ".join(f"{count} more {what} are needed" for what, count in missing.items())
    else:
        told = "read more studies"
    return (
        f"What to do next: {told}. What you have read is kept and counts then; until then the "
        "version that answers now stays. If all studies here are read, add CTs of other patients."
    )


def last_training(stats: Mapping[str, Any]) -> LastTraining | None:
    """Return what became of the last training; None before the first, and while one runs.

    Args:
        stats: its status.
    """
    verdict = str(stats.get("verdict") or "none")
    if verdict not in TITLES:
        return None
    gate = stats.get("gate") or {}
    return LastTraining(
        verdict,
        TITLES[verdict],
        str(stats.get("reason") or ""),
        tuple(_table_row(row) for row in gate.get("table") or ()),
        tuple(str(line) for line in stats.get("skipped") or ()),
    )


def versions(registry: ModelRegistry) -> list[VersionRow]:
    """Return the versions, the newest first, the shipped one last."""
    return [_version_row(version) for version in reversed(registry.list())]


def _table_row(row: Json) -> TableRow:
    interval = _bounds(row.get("interval") or ())
    worse = _number(row.get("worse_by"))
    allowed = row.get("allowed")
    return TableRow(
        str(row.get("what") or ""),
        str(row.get("on") or ""),
        _number(row.get("before")),
        _number(row.get("after")),
        f"{worse} ({interval})" if worse and interval else worse or interval,
        _bounds(allowed) if isinstance(allowed, Sequence) else _number(allowed),
        int(row.get("nodules") or 0),
        bool(row.get("passed")),
    )


def _bounds(values: Sequence[object]) -> str:
    """Return an interval as text; one that is open at an end says so.

    >>> _bounds([0.5, 1.0]), _bounds([None, 0.2]), _bounds([None, None])
    ('0.500 to 1.000', 'at most 0.200', '')
    """
    low, high = ([_number(value) for value in values] + ["", ""])[:2]
    if low and high:
        return f"{low} to {high}"
    return f"at most {high}" if high else f"at least {low}" if low else ""


def _number(value: object) -> str:
    """Return a number with three decimals; "" where there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    return f"{value + 0.0:.3f}"


def _version_row(version: Version) -> VersionRow:
    info, details = version.info, version.details
    return VersionRow(
        version.name,
        info.version if info else "",
        version.served,
        version.made_at.strftime("%Y-%m-%d %H:%M UTC") if version.made_at else "",
        version.parent or "",
        version.shipped or "",
        version.readings,
        _auc(version.folder, info.sha256) if info else None,
        "The model that came with this program."
        if version.name == SHIPPED
        else str(details.get("reason") or ""),
        info.sha256 if info else "",
        tuple(_flat(details.get("config") or {})),
        version.damage or "",
    )


def _flat(config: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return the settings of a training as names and texts.

    >>> _flat({"fine_tuning": {"epochs": 30}, "least_readings": 10})
    [('fine_tuning.epochs', '30'), ('least_readings', '10')]
    """
    found: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}.")
        elif value is not None:
            found.append((f"{before}{name}", str(value)))
    return found


@lru_cache(maxsize=32)
def _auc(folder: Path, sha256: str) -> float | None:
    """Return the AUC on the reference set, read once for each checksum; None without one."""
    return reference_auc(folder) or None
