"""Scores the CTs of a cohort one after the other, and continues where a stopped run ended."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resmtnet.cohort.rows import write_parquet
from resmtnet.cohort.studies import Study
from resmtnet.ct import CTVolume
from resmtnet.evaluation.page import page, table
from resmtnet.files import atomic_file
from resmtnet.inference.protocol import NoduleModel
from resmtnet.types import Json

FINDINGS, ROWS, SUMMARY = "findings", "nodules.parquet", "summary.html"
OK, NO_NODULE, FAILED = "ok", "no_nodule", "failed"

Tell = Callable[[int, int, str], object]
"""Called with the studies done, their number, and the rate with the time left."""


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    studies: int
    scored: int
    """In this run; the others were finished before."""
    failed: int
    rows: int


def score_cohort(
    studies: Sequence[Study],
    model: NoduleModel,
    out: Path,
    *,
    max_candidates: int = 10,
    tell: Tell = lambda done, of, note: None,
) -> Outcome:
    """Score the studies and write findings/*.json, nodules.parquet and summary.html.

    The JSON of a study is written whole or not at all, and is the ledger: a study whose JSON is of
    the same image, model and options is not scored again. One that failed is tried again.

    Args:
        studies: of the cohort.
        model: a Characterizer.
        out: folder of the results.
        max_candidates: greatest number of nodules of a search.
        tell: called after each study.
    """
    started, scored = time.monotonic(), 0
    for done, study in enumerate(studies, start=1):
        key = _content_key(study)
        options = {"max_candidates": max_candidates, "points": study.points_lps_mm}
        ask = json.loads(json.dumps({"content_key": key, "options": options}))
        ask["model"] = {"version": model.info.version, "sha256": model.info.sha256}
        if not _is_finished(_file(out, study), ask):
            record = _record(study, model, max_candidates) | ask
            with atomic_file(_file(out, study)) as draft:
                draft.write_text(json.dumps(record, indent=1, allow_nan=False))
            scored += 1
        tell(done, len(studies), _rate(scored, len(studies) - done, time.monotonic() - started))
    rows = write_parquet(out / ROWS, _records(out, studies))
    outcome = Outcome(len(studies), scored, _count(out, studies, FAILED), rows)
    _write_summary(out, studies, outcome, model)
    return outcome


def _record(study: Study, model: NoduleModel, max_candidates: int) -> Json:
    """Return what the ledger keeps of one study; whatever goes wrong with it is its reason."""
    record: Json = {"study_id": study.id, "path": str(study.path), "reason": None, "findings": None}
    try:
        ct = CTVolume.open(study.path)
        if study.points_lps_mm is None:
            findings = model.find(ct, max_candidates=max_candidates)
        else:
            findings = model(ct, study.points_lps_mm)
        document = model.document(ct, findings)
    except Exception as error:  # a study of any kind must not end the run of all others
        return record | {"status": FAILED, "reason": f"{type(error).__name__}: {error}"}
    return record | {"status": OK if findings else NO_NODULE, "findings": document}


def _file(out: Path, study: Study) -> Path:
    """Return where a study's JSON is: ids may hold what no file name can."""
    return out / FINDINGS / f"{hashlib.sha256(study.id.encode()).hexdigest()[:20]}.json"


def _content_key(study: Study) -> str:
    try:
        return study.content_key()
    except OSError:
        return "unreadable"


def _is_finished(file: Path, ask: Json) -> bool:
    try:
        kept = json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return kept.get("status") != FAILED and all(kept.get(name) == ask[name] for name in ask)


def _records(out: Path, studies: Sequence[Study]) -> Iterator[Json]:
    for study in studies:
        yield json.loads(_file(out, study).read_text())


def _count(out: Path, studies: Sequence[Study], status: str) -> int:
    return sum(record["status"] == status for record in _records(out, studies))


def _rate(scored: int, left: int, seconds: float) -> str:
    """Return the rate of the studies that were scored now, and the time that the others need.

    >>> _rate(10, 30, 60.0)
    '10.0 studies/min, 3 min left'
    """
    if not scored or seconds <= 0:
        return ""
    minutes = left * seconds / scored / 60
    return f"{60 * scored / seconds:.1f} studies/min, {minutes:.0f} min left"


def _write_summary(
    out: Path, studies: Sequence[Study], outcome: Outcome, model: NoduleModel
) -> None:
    classes: dict[str, int] = {}
    bad = []
    for record in _records(out, studies):
        for nodule in (record["findings"] or {"nodules": []})["nodules"]:
            name = nodule["class"]["name"]
            classes[name] = classes.get(name, 0) + 1
        if record["status"] == FAILED:
            bad.append((record["study_id"], record["reason"]))
    counts = [
        ("studies", outcome.studies),
        ("without a nodule (no negative read)", _count(out, studies, NO_NODULE)),
        ("failed", outcome.failed),
        *((f"nodules, {name}", number) for name, number in sorted(classes.items())),
        ("model", f"{model.info.name} {model.info.version}"),
    ]
    body = ["<h2>Counts</h2>", table(("what", "number"), counts)]
    if bad:
        body += ["<h2>Studies that failed</h2>", table(("study", "reason"), bad)]
    with atomic_file(out / SUMMARY) as draft:
        draft.write_text(page("Cohort scored by Res-MTNet", body), encoding="utf-8")
