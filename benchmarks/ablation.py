"""Which parts of Res-MTNet help: the same folds, seeds and budget with one part changed at a time.

    python benchmarks/ablation.py run ARCHIVE --out docs/experiments/ablation [--groups 3]
    python benchmarks/ablation.py table docs/experiments/ablation

`run` trains what is missing, so that it goes on where it stopped, and writes for each variant its
config.json and a small CSV of out-of-fold answers per group of folds. `table` compares every
variant with the full network: paired differences, bootstrap over patients. The networks are small
and trained briefly (see config.json): the figures compare variants, they are not the product's.
Answers are the plain outputs of the heads, one view, uncalibrated; the diameter is regressed.
"""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from resmtnet.config import (
    LossConfig,
    NetworkConfig,
    TrainingConfig,
    to_dict,
)
from resmtnet.data.archive import Archive
from resmtnet.data.crops import CropBlock, load_block
from resmtnet.data.dataset import TrainingSet
from resmtnet.data.splits import split_by_fold
from resmtnet.evaluation import metrics
from resmtnet.evaluation.bootstrap import BootstrapConfig, Resamples
from resmtnet.network.losses import mean_level
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.training.cross_validation import fold_groups, group_name
from resmtnet.training.loop import Trainer

FULL = "full"
BASE = TrainingConfig(
    epochs=4,
    mask_epochs=0,
    splits=("train", "val"),
    network=NetworkConfig(widths=(16, 32, 64), hidden=64),
)
LEVELS_3D = tuple(float(z) for z in np.arange(-8, 8))


def variants() -> dict[str, tuple[str, TrainingConfig]]:
    """Return description and configuration of each variant."""
    net, loss = BASE.network, BASE.loss

    def network(**changes: Any) -> TrainingConfig:
        return replace(BASE, network=replace(net, **changes))

    return {
        FULL: ("full Res-MTNet, 2.5D, fixed weights", BASE),
        "classification-alone": (
            "single task: class (and texture class, calcification, internal structure)",
            network(branches=("classification",), mask=False, links=False),
        ),
        "regression-alone": (
            "single task: score, sizes, ratings",
            network(branches=("regression",), mask=False, links=False),
        ),
        "no-links": ("shared trunk, both branches, no links", network(links=False)),
        "no-residuals": ("no identity connections", network(residual=False)),
        "no-ratings": (
            "no auxiliary ratings",
            replace(BASE, loss=replace(loss, rating_weight=0.0, texture_class_weight=0.0)),
        ),
        "no-mask": ("no mask decoder", network(mask=False)),
        "3d": (
            "3D: 16 slices of 1 mm as one volume, no mask",
            replace(
                BASE,
                network=replace(net, spatial_dims=3, mask=False),
                patch=replace(BASE.patch, offsets_mm=LEVELS_3D),
            ),
        ),
        "learnt-weights": (
            "loss weighed by learnt variances (Kendall)",
            replace(BASE, loss=LossConfig(balance="uncertainty")),
        ),
    }


app = typer.Typer(help=__doc__)


@app.command()
def run(
    archive: Path,
    out: Annotated[Path, typer.Option()],
    groups: Annotated[int, typer.Option(help="Groups of two folds to answer.")] = 3,
) -> None:
    """Train what is missing."""
    data = Archive.open(archive)
    block = load_block(data, BASE.context_variants, BASE.seed)
    for name, (_, config) in variants().items():
        (out / name).mkdir(parents=True, exist_ok=True)
        (out / name / "config.json").write_text(json.dumps(to_dict(config), indent=1) + "\n")
    for group in fold_groups(data, BASE, 2)[:groups]:
        for name, (_, config) in variants().items():
            path = out / name / f"{group_name(group)}.csv"
            if not path.is_file():
                started = time.monotonic()
                _answer(data, block, replace(config, calibration_folds=group), path)
                typer.echo(f"{path} {time.monotonic() - started:.0f} s")


def _answer(data: Archive, block: CropBlock, config: TrainingConfig, path: Path) -> None:
    split = split_by_fold(data.nodules, config)
    trainer = Trainer(
        TrainingSet(block, data.nodules, split.train, config),
        config,
        path.parent / "runs" / path.stem,
    )
    trainer.resume()
    network = ResMTNet(config.network)
    network.load_state_dict(trainer.run())
    held = TrainingSet(block, data.nodules, split.calibration, config)
    rows = _rows(network.eval(), held)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@torch.inference_mode()
def _rows(network: ResMTNet, held: TrainingSet) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for batch in held.plain():
        tasks = network(network.encode(batch.slices), batch.total).tasks
        for n in range(batch.total):
            nodule = held.nodules[len(rows)]
            row: dict[str, Any] = {
                "id": nodule.id,
                "patient_id": nodule.patient_id,
                "malignancy": " ".join(map(str, nodule.malignancy)),
                "diameter_mm": f"{nodule.equivalent_diameter_mm:.3f}",
                "margin": "",
                "score": "",
                "answered_diameter_mm": "",
            }
            if "class" in tasks:
                row["margin"] = f"{float(tasks['class'][n, 1] - tasks['class'][n, 0]):.4f}"
            if "malignancy" in tasks:
                row["score"] = f"{float(mean_level(tasks['malignancy'][n : n + 1])):.4f}"
                log_size = float(tasks["equivalent_diameter_mm"][n, 0])
                row["answered_diameter_mm"] = f"{np.exp(log_size):.3f}"
            rows.append(row)
    return rows


@app.command()
def table(folder: Path) -> None:
    """Print the variants beside the full network."""
    groups = sorted(path.name for path in (folder / FULL).glob("folds-*.csv"))
    answers = {
        name: [row for group in groups for row in _read(folder / name / group)]
        for name in variants()
        if all((folder / name / group).is_file() for group in groups)
    }
    typer.echo(
        f"{len(answers[FULL])} nodules, {len(groups)} groups of folds; AUC by protocol P (of the "
        "score where there is no class head), 95% intervals of the difference to the full "
        "network, paired, bootstrap over patients\n"
    )
    typer.echo(
        "| Variant | AUC | difference | score MAE | difference | diameter MAE, mm | difference |"
    )
    typer.echo("|---|---|---|---|---|---|---|")
    for name in answers:
        cells = [
            cell
            for figure in ("auc", "score", "diameter")
            for cell in _cells(figure, answers[name], answers[FULL], name == FULL)
        ]
        typer.echo(f"| {variants()[name][0]} | " + " | ".join(cells) + " |")


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _cells(
    figure: str, rows: list[dict[str, str]], full: list[dict[str, str]], itself: bool
) -> list[str]:
    statistic = metrics.auc if figure == "auc" else metrics.mean_absolute_error
    chosen = [(a, b) for a, b in zip(rows, full, strict=True) if _counts(figure, a)]
    assert all(a["id"] == b["id"] for a, b in chosen)
    if any(_value(figure, a) is None for a, _ in chosen):
        return ["", ""]
    truth = np.array([_truth(figure, a) for a, _ in chosen])
    patients = tuple(a["patient_id"] for a, _ in chosen)
    resamples = Resamples(patients, BootstrapConfig())
    ours, theirs = (
        resamples.replicate(
            statistic, truth, np.array([_value(figure, pair[n]) for pair in chosen])
        )
        for n in (0, 1)
    )
    value = ours.estimate(0.95).value
    if itself:
        return [f"{value:.3f}", ""]
    change = (ours - theirs).estimate(0.95)
    return [f"{value:.3f}", f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"]


def _ratings(row: dict[str, str]) -> list[int]:
    return [int(part) for part in row["malignancy"].split()]


def _counts(figure: str, row: dict[str, str]) -> bool:
    if figure == "diameter":
        return True
    readers = _ratings(row)
    return len(readers) >= 3 and (figure == "score" or np.median(readers) != 3)


def _truth(figure: str, row: dict[str, str]) -> float:
    if figure == "diameter":
        return float(row["diameter_mm"])
    readers = _ratings(row)
    return float(np.mean(readers)) if figure == "score" else float(np.median(readers) > 3)


def _value(figure: str, row: dict[str, str]) -> float | None:
    cell = {
        "auc": row["margin"] or row["score"],
        "score": row["score"],
        "diameter": row["answered_diameter_mm"],
    }[figure]
    return float(cell) if cell else None


if __name__ == "__main__":
    app()
