"""Scores the CTs of a cohort, and continues where a stopped run ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resmtnet.cohort.engines import Engine, InThisProcess
from resmtnet.cohort.ledger import FAILED, Ledger
from resmtnet.cohort.pacs_series import answers, is_url, split_url
from resmtnet.cohort.rows import write_parquet
from resmtnet.cohort.scorer import Load, Task
from resmtnet.cohort.studies import Study
from resmtnet.cohort.summary import Tally, summary_page
from resmtnet.errors import PacsError
from resmtnet.files import atomic_file
from resmtnet.types import Json

IN_A_ROW = 10
"""Studies that a PACS does not give one after the other, before it is asked whether it is there."""
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
    engine: Engine | None = None,
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
        engine: works the studies off; None: in this process, one after the other.
        tell: called after each study.

    Raises:
        PacsError: the PACS does not answer any more.
        ResMTNetError: the folder cannot be written. What is finished is kept in any case.
    """
    model, ledger = load(), Ledger(out)
    of = {"version": model.info.version, "sha256": model.info.sha256}

    def ask(study: Study) -> Json:
        options = {"max_candidates": max_candidates, "points": study.points_lps_mm}
        return {"options": json.loads(json.dumps(options)), "model": of}

    tasks = [Task(s, max_candidates, ledger.finished_key(s, ask(s))) for s in studies]
    left = [task for task in tasks if not task.finished_key or not task.is_finished()]
    started, scored, failures, silent = time.monotonic(), 0, 0, 0
    before = len(studies) - len(left)
    if before:
        tell(before, len(studies), f"{before} are finished already")
    working = (engine or InThisProcess(ledger))(left, model, load)
    for done, (task, record) in enumerate(working, start=1):
        if record is not None:
            ledger.keep(task.study, record | ask(task.study))
            scored += 1
            failures += record["status"] == FAILED
            silent = silent + 1 if _is_silence(record) else 0
            if silent and silent % IN_A_ROW == 0:
                _check_pacs(task.study, record["reason"])
        seconds = time.monotonic() - started
        tell(before + done, len(studies), _rate(scored, failures, len(left) - done, seconds))
    tally = Tally()
    rows = write_parquet(out / ROWS, _counted(ledger.records(studies), tally))
    with atomic_file(out / SUMMARY) as draft:
        draft.write_text(summary_page(tally, model.info), encoding="utf-8")
    return Outcome(len(studies), scored, len(tally.failed), rows)


def _counted(records: Iterator[Json], tally: Tally) -> Iterator[Json]:
    for record in records:
        tally.add(record)
        yield record


def _is_silence(record: Json) -> bool:
    return record["status"] == FAILED and str(record["reason"]).startswith(PacsError.__name__)


def _check_pacs(study: Study, reason: str) -> None:
    """Stop where a PACS is down: else all the studies that are left would fail in minutes.

    Raises:
        PacsError: it does not answer a search.
    """
    if is_url(study.place) and not answers(split_url(study.place)[0]):
        raise PacsError(
            f"{IN_A_ROW} studies in a row could not be fetched, and the PACS does not answer; "
            f"what is finished is kept: start the same command again when it does. Last: {reason}"
        )


def _rate(scored: int, failures: int, left: int, seconds: float) -> str:
    """Return the rate of the studies that were scored now, and the time that the others need.

    >>> _rate(10, 0, 30, 60.0)
    '10.0 studies/min, 3 min left'
    >>> _rate(10, 2, 3000, 60.0)
    '10.0 studies/min, 5 h 0 min left, 2 failed'
    """
    if not scored or seconds <= 0:
        return ""
    hours, minutes = divmod(round(left * seconds / scored / 60), 60)
    told = f"{60 * scored / seconds:.1f} studies/min, "
    told += f"{hours} h {minutes} min left" if hours else f"{minutes} min left"
    return told + (f", {failures} failed" if failures else "")
