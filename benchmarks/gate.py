"""Whether the gate publishes a site's habits and keeps its mistakes out: seeded, real nodules.

    python benchmarks/gate.py --out FILE [--model DIR] [--runs 100] [--first-seed N]
        [--scenario NAME ...] [--patients N ...] [--development] [--checks-only]
        [--chains N] [--minutes M] [--l2 PULL]
    python benchmarks/gate.py --report FILE [FILE ...] [--limit L ...]

The nodules are those that came with the model and that it never trained on: its reference and its
calibration set; of a research model (research_model.py) four folds. Their patients are divided once
into two halves. The site is drawn from one, the other is the reference set. With --development both
change places: on those draws limits and margins are chosen, so that no patient of a reported site
took part in choosing them.

Each run draws the site's patients (15, 25, 50 and all by default). A rule (site_readers.py) makes
their readings from what LIDC's readers said. The run does what a training does: check the readings,
train, judge. FILE gets one line of JSON a run: the outcome and, for what was published, the figures
on the nodules of the half's other patients, read by the same rule. Runs that FILE has are not done
again, so that the work can be done in parts: --minutes ends one. --report prints the tables; with
--limit, how many runs would be accepted at each limit of swapped readings.

With --checks-only nothing is trained: readings that pass the checks are "accepted". What is wrong
is refused there; with --checks-only left out, those accepted are then done in full.

--l2 is FineTuneConfig's, to see what a weaker pull towards the shipped weights would do; such runs
go into a file of their own.

The calibration set being drawn from, training does without it (warm start).

With --chains N, readings arrive in 21 parts: after each part the served version is trained further
on all readings so far, and published if the gate lets it. Told are the losses of the last version
against the shipped one, on the reference set and on patients who took part in no gate.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gate_report import REFUSED, limits, report
from resmtnet.inference.model_folder import read_model
from resmtnet.retraining.compared_nodules import ComparedNodules
from resmtnet.retraining.finetune import FineTuneConfig
from resmtnet.retraining.gate import knowledge
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.noninferiority import KNOWLEDGE, losses
from simulated_site import DEFAULT, Half, Pool, as_model, run, train
from site_readers import RIGHT, SCENARIOS

ALL = 100_000
PATIENTS = (15, 25, 50, ALL)
UNTOUCHED_PATIENTS = 50
PARTS = 21
BLOCK = 10
"""Seeds of every scenario before the next ones: a run cut short has them evenly."""


def chain(half: Half, name: str, seed: int, margins: Margins) -> dict[str, Any]:
    """Readings of one site that arrive in 21 parts, the first with half of its patients."""
    rng = np.random.default_rng(seed)
    order = [str(p) for p in rng.permutation(half.patients)]
    untouched, site = order[:UNTOUCHED_PATIENTS], order[UNTOUCHED_PATIENTS:]
    read = half.read(site, name, rng)
    parent, outcomes, refused = half.pool.model, Counter[str](), Counter[str]()
    for end in np.linspace(len(site) / 2, len(site), PARTS).round().astype(int):
        so_far = set(site[:end])
        arrived = [s for s in read if s.patient_id in so_far]
        done = train(half, parent, arrived, margins)
        outcomes[done.outcome] += 1
        refused.update(done.why)
        if done.candidate is not None:
            parent = as_model(done.candidate)
    last: dict[str, Any] = {
        "outcome": "chain",
        "outcomes": dict(outcomes),
        "why": dict(refused),
    }
    held = {"reference": half.reference.held, "untouched": half.pool.of(untouched)}
    for where, nodules_held in held.items():
        nodules = ComparedNodules.of(nodules_held)
        now, then = (knowledge(m, nodules_held, nodules) for m in (parent, half.pool.model))
        lost = losses(nodules, now, then, KNOWLEDGE, config=margins.bootstrap)
        last[where] = {loss.measure.name: round(loss.value, 4) for loss in lost}
    return last


class Results:
    """One line of JSON a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = read_rows(path) if path.is_file() else []
        self.outcomes = {key(row): row["outcome"] for row in self.rows}

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self.outcomes[key(row)] = row["outcome"]
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def key(row: dict[str, Any]) -> tuple[str, int, int, bool]:
    return row["scenario"], row["patients"], row["seed"], row["checks_only"]


def planned(arguments: argparse.Namespace) -> Iterator[tuple[str, int, int]]:
    """Scenario, patients and seed of each run, in blocks of seeds."""
    names = arguments.scenario or list(SCENARIOS)
    end = arguments.first_seed + arguments.runs
    for start in range(arguments.first_seed, end, BLOCK):
        seeds = range(start, min(start + BLOCK, end))
        for count, name in itertools.product(arguments.patients or PATIENTS, names):
            yield from ((name, count, seed) for seed in seeds)


def work(arguments: argparse.Namespace, half: Half, results: Results, until_s: float) -> None:
    margins, checks_only = Margins(), arguments.checks_only
    config = FineTuneConfig(l2=arguments.l2)
    about = {"model": half.pool.model.info.version, "development": arguments.development}
    for name, count, seed in planned(arguments):
        if time.monotonic() > until_s:
            return
        row = {"scenario": name, "patients": count, "seed": seed, "checks_only": checks_only}
        checked = results.outcomes.get((name, count, seed, True))
        if key(row) in results.outcomes or checked in REFUSED:
            continue
        started = time.process_time()
        row |= run(half, name, seed, count, margins, config=config, checks_only=checks_only)
        results.add({**about, **row, "cpu_s": round(time.process_time() - started, 3)})
    for seed, name in itertools.product(range(arguments.chains), arguments.scenario or (RIGHT,)):
        row = {"scenario": f"{name}, chain", "patients": 0, "seed": seed, "checks_only": False}
        if key(row) not in results.outcomes and time.monotonic() < until_s:
            results.add({**about, **row, **chain(half, name, seed, margins)})


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, nargs="+")
    parser.add_argument("--limit", type=float, action="append")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--patients", type=int, action="append")
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--checks-only", action="store_true")
    parser.add_argument("--chains", type=int, default=0)
    parser.add_argument("--l2", type=float, default=DEFAULT.l2)
    parser.add_argument("--minutes", type=float, default=1e6)
    arguments = parser.parse_args(given)
    if arguments.report:
        rows = [row for path in arguments.report for row in read_rows(path)]
        print(limits(rows, arguments.limit) if arguments.limit else report(rows))
        return
    if arguments.out is None:
        parser.error("--out FILE is needed: the results go there")
    until_s = time.monotonic() + 60 * arguments.minutes
    torch.set_num_threads(1)  # the matrices are small
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool.of_model(read_model(arguments.model), Path(folder))
        half = Half(pool, development=arguments.development)
        print(
            f"model {pool.model.info.version}; {len(pool.held)} nodules of {len(pool.patients)} "
            f"patients, {len(pool.patients) - len(half.patients)} of them the reference set",
            flush=True,
        )
        results = Results(arguments.out)
        work(arguments, half, results, until_s)
        print(report(results.rows))


if __name__ == "__main__":
    main()
