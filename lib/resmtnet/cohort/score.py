"""Scores the CTs of a cohort, and continues where a stopped run ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resmtnet.cohort.engines import Engine, local
from resmtnet.cohort.ledger import Ledger
from resmtnet.cohort.rows import write_parquet
from resmtnet.cohort.scorer import Load, Task
from resmtnet.cohort.studies import Study
from resmtnet.cohort.summary import Tally, summary_page
from resmtnet.files import atomic_file
from resmtnet.types import Json

ROWS, SUMMARY = "nodules.parquet", "summary.html"

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
    load: Load,
    out: Path,
    *,
    max_candidates: int = 10,
    engine: Engine = local,
    tell: Tell = lambda done, of, note: None,
) -> Outcome:
    """Score the studies and write findings/*.json, nodules.parquet and summary.html.

    The JSON of a study is the ledger: a study whose JSON is of the same image, model and options
    is not scored again. One that failed is tried again.

    Args:
        studies: of the cohort.
        load: loads the model; called in this process, and in each worker of a cluster.
        out: folder of the results, written by this process alone.
        max_candidates: greatest number of nodules of a search.
        engine: works the studies off.
        tell: called after each study.
    """
    model, ledger = load(), Ledger(out)
    of = {"version": model.info.version, "sha256": model.info.sha256}

    def ask(study: Study) -> Json:
        options = {"max_candidates": max_candidates, "points": study.points_lps_mm}
        return {"options": json.loads(json.dumps(options)), "model": of}

    tasks = (Task(s, max_candidates, ledger.finished_key(s, ask(s))) for s in studies)
    started, scored = time.monotonic(), 0
    for done, (task, record) in enumerate(engine(tasks, model, load), start=1):
        if record is not None:
            ledger.keep(task.study, record | ask(task.study))
            scored += 1
        tell(done, len(studies), _rate(scored, len(studies) - done, time.monotonic() - started))
    tally = Tally()
    rows = write_parquet(out / ROWS, _counted(ledger.records(studies), tally))
    with atomic_file(out / SUMMARY) as draft:
        draft.write_text(summary_page(tally, model.info), encoding="utf-8")
    return Outcome(len(studies), scored, len(tally.failed), rows)


def _counted(records: Iterator[Json], tally: Tally) -> Iterator[Json]:
    for record in records:
        tally.add(record)
        yield record


def _rate(scored: int, left: int, seconds: float) -> str:
    """Return the rate of the studies that were scored now, and the time that the others need.

    >>> _rate(10, 30, 60.0)
    '10.0 studies/min, 3 min left'
    """
    if not scored or seconds <= 0:
        return ""
    minutes = left * seconds / scored / 60
    return f"{60 * scored / seconds:.1f} studies/min, {minutes:.0f} min left"
