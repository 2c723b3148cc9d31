"""What 25, 50, 100 and 200 corrected nodules of a site do to the model, by habit of its reader.

    python benchmarks/incremental.py [--model DIR] [--seeds 10] [--first-seed N] [--habit NAME ...]
        [--count N ...] [--json FILE]

The nodules are those that came with the model and that it never trained on (262 patients). Each
seed draws 150 patients as the old reference set, answered against all of LIDC's readers; the others
are the site. Synthetic readers, seeded, made from the real ratings (site_readers.py), read it:
"severe" gives each nodule the highest rating that LIDC's readers gave, "lenient" the lowest,
"oversizer" their median, with sizes 15% larger; "sub-solid" is a median reader of a site at which
40% of the nodules are sub-solid, twice as many as in LIDC (110 patients are its reference set, so
that there are enough of them). Corrected nodules train; the other patients of the site, read by
the same rule, are the held-out nodules.

Beside it: no retraining, and the same output layers trained without replay and without a pull
towards the parent. Full retraining from scratch is compared by full_retraining.py.

No gate decides here; what it publishes of such readers is in gate.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resmtnet.data.consensus import malignant_share
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.model_folder import read_model
from resmtnet.retraining.candidate import FineTuned, recalibrate
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.noninferiority import MEASURES
from resmtnet.retraining.samples import Sample
from resmtnet.training.cached_nodule import CachedNodule
from simulated_site import Pool
from site_readers import HABITS, SUB_SOLID, enriched, samples

COUNTS = (25, 50, 100, 200)
REFERENCE_PATIENTS, FEWER_PATIENTS = 150, 110
LARGEST = max(COUNTS)
TEST_PATIENTS = 25
"""Of the site, at least; all who are not needed for training are tested on."""
PLAIN = FineTuneConfig(replay_share=0.0, l2=0.0)
"""Fine-tuning without replay: nothing holds on to what was learnt."""
WAYS = {
    "fine-tuned": FineTuneConfig(),
    "without replay": PLAIN,
}
FIGURES = ("class_auc", "class_log_loss", "score_mae", "score_bias", "size_error", "size_bias")


@dataclass(frozen=True, eq=False)
class Draw:
    """One seed's site and reference set."""

    train: list[Sample]
    """Corrected nodules in the order in which they come."""
    test: list[Sample]
    reference: list[CachedNodule]


def draw(pool: Pool, habit: str, seed: int) -> Draw:
    rng = np.random.default_rng(seed)
    patients = [str(p) for p in rng.permutation(pool.patients)]
    apart = FEWER_PATIENTS if habit == SUB_SOLID else REFERENCE_PATIENTS
    read = samples(pool.of(patients[apart:]), HABITS[habit], rng)
    order = {p: n for n, p in enumerate(patients)}
    read.sort(key=lambda s: order[s.patient_id])
    if habit == SUB_SOLID:
        read = enriched(read)
    site = list(dict.fromkeys(s.patient_id for s in read))
    train = [s for s in read if s.patient_id not in site[-TEST_PATIENTS:]][:LARGEST]
    trained = {s.patient_id for s in train}
    test = [s for s in read if s.patient_id not in trained]
    return Draw(train, test, pool.of(patients[:apart]))


def figures(nodules: ComparedNodules, said: Predictions) -> dict[str, float]:
    found = {}
    for measure in MEASURES:
        truth, answer = measure.truth(nodules), measure.prediction(said)
        rows = np.isfinite(truth) & np.isfinite(answer.reshape(len(truth), -1)).all(1)
        found[measure.name] = float(measure.statistic(truth[rows], answer[rows]))
    rated = np.isfinite(nodules.score)
    found["score_bias"] = float((said.score - nodules.score)[rated].mean())
    return found


def on(
    one: Draw, heads: LinearHeads | FineTuned, calibration: Calibration
) -> dict[str, dict[str, float]]:
    """Figures on the held-out nodules, read by the site's rule, and on the reference set."""
    test = [s.held for s in one.test]
    shares = [malignant_share(s.consensus.votes) for s in one.test]
    found = {}
    for name, held, nodules in (
        ("site", test, ComparedNodules.of(test, shares)),
        ("reference", one.reference, ComparedNodules.of(one.reference)),
    ):
        found[name] = figures(nodules, Predictions.of(nodules, heads.answer_all(held), calibration))
    return found


def rows_of(
    pool: Pool,
    habit: str,
    seed: int,
    counts: Sequence[int],
) -> list[dict[str, Any]]:
    one, model = draw(pool, habit, seed), pool.model
    base = {"habit": habit, "seed": seed}
    said = on(one, LinearHeads.of(model.networks), model.calibration)
    rows = [{**base, "how": "no retraining", "nodules": 0, **said}]
    for count in counts:
        if count > len(one.train):
            continue
        for how, config in WAYS.items():
            started = time.process_time()
            candidate = recalibrate(fine_tune(model, one.train[:count], config))
            row = {**base, "how": how, "nodules": count, "cpu_s": time.process_time() - started}
            row |= on(one, candidate, candidate.calibration)
            rows.append(row)
    return rows


def shown(rows: Sequence[Mapping[str, Any]], where: str) -> None:
    """Print the mean over seeds of each figure."""
    keys = list(dict.fromkeys((r["habit"], r["how"], r["nodules"]) for r in rows))
    print(f"\n{where}: mean of the seeds\n{'':36s}" + "".join(f"{n:>16s}" for n in FIGURES))
    for key in keys:
        same = [r for r in rows if (r["habit"], r["how"], r["nodules"]) == key]
        values = [[r[where][name] for r in same] for name in FIGURES]
        cells = "".join(f"{statistics.fmean(v):10.4f}±{_error(v):.3f}" for v in values)
        print(f"{key[0]:10s}{key[1]:16s}{key[2]:6d}    {cells}")


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--habit", action="append", choices=list(HABITS))
    parser.add_argument("--count", action="append", type=int, choices=COUNTS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shipped = read_model(arguments.model)
        pool = Pool.of_model(shipped, Path(folder))
        rows: list[dict[str, Any]] = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            for habit in arguments.habit or HABITS:
                rows += rows_of(pool, habit, seed, arguments.count or COUNTS)
            print(f"seed {seed} done", flush=True)
    for where in ("site", "reference"):
        shown(rows, where)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
