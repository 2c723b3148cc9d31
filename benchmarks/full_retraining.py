"""What fine-tuning leaves of the gain of full retraining from scratch, by habit of a site's reader.

    python benchmarks/full_retraining.py --archive STACKS --write FOLDER [--model DIR] [--seed N]
    resmtnet train --data FOLDER/severe --config CONFIG --out FULL/severe       (each habit)
    python benchmarks/full_retraining.py --archive STACKS --full FULL --model BASE [--json FILE]

Site, readers and corrections are those of incremental.py, of one seed. The first call writes, for
each habit, an archive of the nodules that the model was trained on and of the corrected ones, up to
200. A model is trained on each from nothing. The last call compares, on the held-out nodules of the
site and on the old reference set: BASE as it is, fine-tuned, fine-tuned without replay, and the
model of FULL/<habit>. BASE is trained as those are, on the nodules without the corrected ones.

The share is that of the full retraining's gain which fine-tuning has, with 95% intervals by
patient; times are CPU seconds of fine-tuning (all of the task's work but looking at the images) and
seconds of the training (its epochs alone, without calibration).
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from incremental import PLAIN, draw
from resmtnet.data import archive
from resmtnet.data.archive import Archive, Crop
from resmtnet.data.consensus import malignant_share
from resmtnet.evaluation.bootstrap import BootstrapConfig, Replicates, Resamples
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.ensemble import Ensemble
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.retraining.candidate import recalibrate
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.noninferiority import (
    AUC,
    LOG_LOSS,
    SCORE_MAE,
    SIZE_ERROR,
    ComparedMeasure,
)
from resmtnet.retraining.samples import Sample
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.cached_store import load_cached, save_cached
from resmtnet.training.run import observe_all
from simulated_site import Pool
from site_readers import HABITS

NONE, FINE_TUNED, PLAINLY, FULL = "no retraining", "fine-tuned", "without replay", "full"
MEASURES = (AUC, LOG_LOSS, SCORE_MAE, SIZE_ERROR)
BOOTSTRAP = BootstrapConfig()

Way = tuple[Callable[[Sequence[CachedNodule]], list[CachedNodule]], Calibration]
"""What answers nodules of the pool, and its calibration."""


def write_corrections(pool: Pool, seed: int, source: Archive, folder: Path) -> None:
    """Write the archives to train on from scratch.

    Corrected nodules are of fold -1, so that every configuration trains on them; the pool's other
    nodules are left out, but those of the calibration folds.
    """
    folds = pool.model.config.calibration_folds
    pooled = set(pool.patients)
    by_id = {n.id: n for n in source.nodules}
    for habit in HABITS:
        corrected = {s.consensus.nodule: s for s in draw(pool, habit, seed).train}
        taken = {s.patient_id for s in corrected.values()}

        def crops(
            corrected: Mapping[str, Sample] = corrected, taken: set[str] = taken
        ) -> Iterator[Crop]:
            for nodule in source.nodules:
                calibrates = nodule.fold in folds and nodule.patient_id not in taken
                if nodule.split == "train" and (nodule.patient_id not in pooled or calibrates):
                    yield nodule, source.voxels_hu(nodule), source.mask(nodule)
            for name, sample in corrected.items():
                yield _corrected(source, by_id[name], sample)

        archive.write(folder / habit, crops(), {**source.provenance, "corrected": habit})
        print(f"{habit}: {len(corrected)} corrected nodules in {folder / habit}")


def _corrected(source: Archive, nodule: archive.Nodule, sample: Sample) -> Crop:
    said = sample.consensus.record
    read = replace(
        nodule,
        split="train",
        fold=-1,
        ratings=said.ratings,
        volume_mm3=said.volume_mm3,
        long_axis_mm=said.long_axis_mm,
        reader_volumes_mm3=said.reader_volumes_mm3,
        reader_long_axes_mm=said.reader_long_axes_mm,
        reader_short_axes_mm=said.reader_short_axes_mm,
    )
    return read, source.voxels_hu(nodule), source.mask(nodule)


def compared(pool: Pool, habit: str, seed: int, full: Path, archived: Archive) -> dict[str, Any]:
    """Return figures, shares and times of one habit."""
    one, base = draw(pool, habit, seed), pool.model
    ways: dict[str, Way] = {NONE: (LinearHeads.of(base.networks).answer_all, base.calibration)}
    seconds: dict[str, float] = {}
    for name, config in ((FINE_TUNED, FineTuneConfig()), (PLAINLY, PLAIN)):
        started = time.process_time()
        candidate = recalibrate(fine_tune(base, one.train, config))
        seconds[name] = time.process_time() - started
        ways[name] = (candidate.answer_all, candidate.calibration)
    retrained = read_model(full / habit / "model")
    ways[FULL] = (own_eyes(retrained, full / habit, archived, pool), retrained.calibration)
    seconds[FULL] = training_s(full / habit)
    held = [s.held for s in one.test]
    shares = [malignant_share(s.consensus.votes) for s in one.test]
    return {
        "habit": habit,
        "corrected": len(one.train),
        "seconds": seconds,
        "site": figures(ComparedNodules.of(held, shares), held, ways),
        "reference": figures(ComparedNodules.of(one.reference), one.reference, ways),
    }


def own_eyes(
    model: Model, folder: Path, archived: Archive, pool: Pool
) -> Callable[[Sequence[CachedNodule]], list[CachedNodule]]:
    """Return how a model with a trunk of its own sees nodules of the pool; kept in its folder."""
    kept = folder / "held.safetensors"
    if not kept.is_file():
        inference = Ensemble(
            list(model.networks), model.config.patch, head_views=model.config.head_views
        )
        index = [n for n, nodule in enumerate(archived.nodules) if nodule.id in pool.places]
        save_cached(kept, observe_all(inference, archived, index))
    seen = {held.case.id: held for held in load_cached(kept)}

    def answer(held: Sequence[CachedNodule]) -> list[CachedNodule]:
        ids = [h.case.id.rpartition("/")[2] for h in held]
        return [
            replace(seen[i], case=h.case, truth=h.truth) for i, h in zip(ids, held, strict=True)
        ]

    return answer


def training_s(folder: Path) -> float:
    """Return the seconds of all epochs of a training; those of members are added."""
    found = 0.0
    for path in folder.rglob("history.csv"):
        with path.open(newline="") as file:
            found += sum(float(row["seconds"]) for row in csv.DictReader(file))
    return found


def figures(
    nodules: ComparedNodules, held: Sequence[CachedNodule], ways: Mapping[str, Way]
) -> dict[str, Any]:
    """Return each figure of each way, its gain over no retraining, and the share of full's gain."""
    said = {name: Predictions.of(nodules, ask(held), own) for name, (ask, own) in ways.items()}
    found: dict[str, Any] = {"nodules": len(held), "patients": len(set(nodules.patients))}
    for measure in MEASURES:
        truth = measure.truth(nodules)
        answers = {name: measure.prediction(one) for name, one in said.items()}
        rows = np.isfinite(truth) & np.all([np.isfinite(a) for a in answers.values()], 0)
        resamples = Resamples([nodules.patients[n] for n in np.flatnonzero(rows)], BOOTSTRAP)
        each = {
            name: resamples.replicate(measure.statistic, truth[rows], answer[rows])
            for name, answer in answers.items()
        }
        found[measure.name] = {
            name: {
                "value": round(one.value, 4),
                "gain": _rounded(_gain(measure, each[NONE], one)),
                "share_of_full": _rounded(_share(measure, each, name)),
            }
            for name, one in each.items()
        }
    return found


def _gain(measure: ComparedMeasure, before: Replicates, after: Replicates) -> Replicates:
    """Return how much smaller the loss became."""
    value, draws = (
        measure.loss(np.asarray(b)) - measure.loss(np.asarray(a))
        for b, a in ((before.value, after.value), (before.draws, after.draws))
    )
    return Replicates(float(value), draws)


def _share(measure: ComparedMeasure, each: Mapping[str, Replicates], name: str) -> Replicates:
    own, full = (_gain(measure, each[NONE], each[n]) for n in (name, FULL))
    with np.errstate(divide="ignore", invalid="ignore"):
        return Replicates(float(np.divide(own.value, full.value)), own.draws / full.draws)


def _rounded(one: Replicates) -> list[float | None]:
    told = one.estimate(BOOTSTRAP.confidence)
    return [None if v is None else round(v, 4) for v in (told.value, told.low, told.high)]


def shown(found: Sequence[Mapping[str, Any]]) -> None:
    """Print Markdown tables."""
    for where in ("site", "reference"):
        print(
            f"\n{where}\n\n| habit | figure | {NONE} | {FINE_TUNED} | {PLAINLY} | {FULL} | share |"
        )
        print("|---" * 7 + "|")
        for one in found:
            for measure in MEASURES:
                by_way = one[where][measure.name]
                cells = [
                    f"{by_way[name]['value']:.3f}" for name in (NONE, FINE_TUNED, PLAINLY, FULL)
                ]
                share, low, high = by_way[FINE_TUNED]["share_of_full"]
                cells.append("-" if low is None else f"{share:.2f} [{low:.2f}, {high:.2f}]")
                print(f"| {one['habit']} | {measure.name} | " + " | ".join(cells) + " |")
    for one in found:
        own, full = (one["seconds"][name] for name in (FINE_TUNED, FULL))
        print(f"{one['habit']}: {own:.1f} s of {full:.0f} s ({own / full:.2%})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--full", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    archived = Archive.open(arguments.archive)
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool.of_model(read_model(arguments.model), Path(folder))
        if arguments.write:
            write_corrections(pool, arguments.seed, archived, arguments.write)
        if arguments.full:
            habits = [habit for habit in HABITS if (arguments.full / habit / "model").is_dir()]
            found = [compared(pool, h, arguments.seed, arguments.full, archived) for h in habits]
            shown(found)
            if arguments.json:
                arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
