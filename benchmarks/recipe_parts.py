"""What each part of the first cycle of the recipe does: one part left out at a time, on two folds.

    python benchmarks/recipe_parts.py run STACKS --negatives PLACES [...] --out DIR [--epochs 6]
    python benchmarks/recipe_parts.py table DIR

`run` trains one network for each variant on the folds that are neither answered (4 and 5) nor kept
for reference (1 and 2), and keeps what it says of the answered ones; it goes on where it stopped.
`table` calibrates on one answered fold what it tells of the other, and the other way round, and
gives the paired difference to the whole recipe (bootstrap by patient). The trainings are short:
the figures compare variants, they are not the product's.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from resmtnet.config import TrainingConfig, load
from resmtnet.data.archive import Archive
from resmtnet.data.splits import split_by_fold
from resmtnet.evaluation import metrics
from resmtnet.evaluation.bootstrap import BootstrapConfig, Resamples
from resmtnet.evaluation.records import MINIMUM_READERS, Case, Prediction
from resmtnet.inference.model_folder import default_model_dir
from resmtnet.training.cached_nodule import CachedNodule, predict
from resmtnet.training.cached_store import load_cached, save_cached
from resmtnet.training.calibrate import fit_calibration
from resmtnet.training.cross_validation import SILENT
from resmtnet.training.run import inference_of, observe_all, train_members

WHOLE = "whole"
ANSWERED, REFERENCE = (4, 5), (1, 2)
HELD = "held.safetensors"
FIRST_RATE = 2e-3
"""Peak of the learning rate of a training that begins with random weights."""


def variants(base: TrainingConfig) -> dict[str, tuple[str, TrainingConfig]]:
    """Return description and configuration of each variant."""
    return {
        WHOLE: ("the whole recipe", base),
        "one-window": (
            "without the second window",
            replace(base, network=replace(base.network, second_window=())),
        ),
        "not-faded": (
            "without nodules faded to ground glass",
            replace(base, augment=replace(base.augment, faded_share=0.0)),
        ),
        "not-inside": (
            "without levels of the mask drawn within the nodule",
            replace(base, mask_inside_share=0.0),
        ),
        "no-negatives": (
            "without nodule or not, and its negatives",
            replace(base, negative_share=0.0, network=replace(base.network, nodule_task=False)),
        ),
        "drawn-alike": (
            "with sub-solid and large nodules drawn as often as others",
            replace(base, subsolid_factor=1.0, large_factor=1.0),
        ),
    }


app = typer.Typer(help=__doc__)


@app.command()
def run(
    archive: Path,
    out: Annotated[Path, typer.Option()],
    negatives: Annotated[list[Path], typer.Option()],
    epochs: Annotated[int, typer.Option()] = 6,
    variant: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
) -> None:
    """Train what is missing."""
    data = Archive.open(archive)
    places = [Archive.open(path) for path in negatives]
    shipped = load(TrainingConfig, default_model_dir() / "config.json")
    base = replace(
        shipped,
        epochs=epochs,
        learning_rate=FIRST_RATE,
        members=1,
        head_views=1,
        calibration_folds=ANSWERED,
        reference_folds=REFERENCE,
    )
    for name, (_, config) in variants(base).items():
        folder = out / name
        if (folder / HELD).is_file() or (variant and name not in variant):
            continue
        started = time.monotonic()
        split = split_by_fold(data.nodules, config)
        taught = places if config.negative_share else []
        weights = train_members(data, split, config, folder, "cpu", SILENT, taught)
        held = observe_all(inference_of(weights, config, "cpu"), data, split.calibration)
        save_cached(folder / HELD, held)
        typer.echo(f"{name}: {len(held)} nodules, {time.monotonic() - started:.0f} s")


def answers(held: list[CachedNodule]) -> list[tuple[Case, Prediction]]:
    """Return the answers, each calibrated on the other fold."""
    found = []
    for fold in ANSWERED:
        own = [one for one in held if one.case.fold == fold]
        other = [one for one in held if one.case.fold != fold]
        seen = np.array([one.observation.embeddings.ravel() for one in other], np.float64)
        calibration = fit_calibration(other, seen, {})
        found += [(one.case, predict(one, calibration)) for one in own]
    return found


Rows = list[tuple[Case, Prediction]]
NAN = float("nan")


def diameter_mm(said: Prediction) -> float:
    return NAN if said.equivalent_diameter_mm is None else said.equivalent_diameter_mm


def figure(rows: Rows, name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return patients, truth and answers of the nodules that count for a figure."""
    if name == "AUC":
        chosen = [(c, p) for c, p in rows if c.in_protocol]
        truth = [float(bool(c.malignant)) for c, _ in chosen]
        said = [p.probability_malignant for _, p in chosen]
    elif name == "score MAE":
        chosen = [(c, p) for c, p in rows if len(c.malignancy) >= MINIMUM_READERS]
        truth = [float(np.mean(c.malignancy)) for c, _ in chosen]
        said = [p.score for _, p in chosen]
    elif name == "Dice":
        chosen = [(c, p) for c, p in rows if len(c.malignancy) >= MINIMUM_READERS]
        chosen = [(c, p) for c, p in chosen if p.mask_dice is not None]
        truth = [1.0] * len(chosen)
        said = [float(p.mask_dice or 0.0) for _, p in chosen]
    else:
        wanted = {
            "diameter MAE, mm": lambda c: True,
            "... sub-solid": lambda c: c.texture_class in ("non-solid", "part-solid"),
            "... from 15 mm": lambda c: c.equivalent_diameter_mm >= 15,
        }[name]
        chosen = [(c, p) for c, p in rows if wanted(c)]
        truth = [c.equivalent_diameter_mm for c, _ in chosen]
        said = [diameter_mm(p) for _, p in chosen]
    return [c.patient_id for c, _ in chosen], np.array(truth), np.array(said)


COLUMNS = (
    "AUC",
    "score MAE",
    "diameter MAE, mm",
    "... sub-solid",
    "... from 15 mm",
    "Dice",
)


@app.command()
def table(folder: Path) -> None:
    """Print the variants beside the whole recipe."""
    told = variants(load(TrainingConfig, default_model_dir() / "config.json"))
    rows = {
        name: answers(load_cached(folder / name / HELD))
        for name in told
        if (folder / name / HELD).is_file()
    }
    counts = [len(figure(rows[WHOLE], name)[0]) for name in COLUMNS]
    heads = [f"{name} ({count})" for name, count in zip(COLUMNS, counts, strict=True)]
    typer.echo("| | " + " | ".join(heads) + " |")
    typer.echo("|---" * (len(COLUMNS) + 1) + "|")
    for name, said in rows.items():
        cells = [_cell(column, said, rows[WHOLE], name == WHOLE) for column in COLUMNS]
        typer.echo(f"| {told[name][0]} | " + " | ".join(cells) + " |")


def _cell(column: str, rows: Rows, whole: Rows, itself: bool) -> str:
    patients, truth, said = figure(rows, column)
    same, _, beside = figure(whole, column)
    assert patients == same
    statistic = {"AUC": metrics.auc, "Dice": mean}.get(column, metrics.mean_absolute_error)
    draws = Resamples(tuple(patients), BootstrapConfig())
    mine, theirs = (draws.replicate(statistic, truth, one) for one in (said, beside))
    if itself:
        return f"{mine.value:.3f}"
    change = (mine - theirs).estimate(0.95)
    return f"{mine.value:.3f}; {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


def mean(_: np.ndarray, values: np.ndarray) -> float:
    return float(values.mean())


if __name__ == "__main__":
    app()
