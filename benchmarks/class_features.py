"""From what should the class be calibrated? Candidates, fitted and told on different patients.

    python benchmarks/class_features.py FOLDS --tell folds-0-1 --tell folds-2-3 [--fit-all]

FOLDS is the --out of `resmtnet train --cross-validate`. Each group that is told is answered by
constants fitted on the other told groups, or with --fit-all on all other groups of FOLDS. "Odds"
are those of a malignancy rating of 4 or 5 against 1 or 2, "size" is the log of the regressed
diameter; the other features are those of calibration.class_features. Nodules of protocol P, which
weigh the same here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resmtnet.evaluation import metrics
from resmtnet.inference.calibration import SPEAKING, class_features
from resmtnet.network.uncertainty import sigmoid
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.cached_store import load_cached
from resmtnet.training.estimators import fit_platt

RATINGS = tuple(f"rating.{name}" for name in SPEAKING)
TRIED = {
    "margin": ("margin",),
    "odds": ("odds",),
    "margin, score and ratings (built in)": ("margin", "score", *RATINGS),
    "margin and odds": ("margin", "odds"),
    "margin and size": ("margin", "size"),
    "odds and size": ("odds", "size"),
    "margin, odds and size": ("margin", "odds", "size"),
    "margin, odds, size and ratings": ("margin", "odds", "size", *RATINGS),
}
Group = Sequence[CachedNodule]


def features_of(held: CachedNodule) -> dict[str, float]:
    outputs = held.observation.outputs
    logits = outputs["malignancy"]
    odds = np.logaddexp.reduce(logits[3:]) - np.logaddexp.reduce(logits[:2])
    found = {name: float(value) for name, value in class_features(outputs).items()}
    return {**found, "odds": float(odds), "size": float(outputs["equivalent_diameter_mm"][0])}


def columns(held: Group, names: Sequence[str]) -> dict[str, np.ndarray]:
    rows = [features_of(one) for one in held]
    return {name: np.array([row[name] for row in rows]) for name in names}


def told(own: Group, others: Group, names: Sequence[str]) -> np.ndarray:
    """Logit of malignant of each nodule, by constants fitted to others."""
    malignant = np.array([h.case.malignant for h in others])
    slopes, intercept = fit_platt(columns(others, names), malignant, np.ones(len(others)))
    return sum(slopes[k] * v for k, v in columns(own, names).items()) + intercept


def main() -> None:
    """Print a line for each set of features."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folds", type=Path)
    parser.add_argument("--tell", action="append", required=True)
    parser.add_argument("--fit-all", action="store_true")
    given = parser.parse_args()
    groups = {
        path.parent.name: [h for h in load_cached(path) if h.case.in_protocol]
        for path in sorted(given.folds.glob("*/held.safetensors"))
        if given.fit_all or path.parent.name in given.tell
    }
    unknown = [name for name in given.tell if name not in groups]
    if unknown or len(groups) < 2:
        parser.error(f"two groups or more of {given.folds} are needed; there are {list(groups)}")
    held = [h for name in given.tell for h in groups[name]]
    malignant = np.array([float(h.case.malignant) for h in held])
    diameter_mm = np.array([h.case.equivalent_diameter_mm for h in held])
    small = (diameter_mm >= 6) & (diameter_mm < 10)
    print(f"| {len(held)} nodules | AUC | AUC, 6-10 mm | Brier score | log loss |")
    print("|---|---|---|---|---|")
    for name, features in TRIED.items():
        parts = []
        for group in given.tell:
            others = [h for other, part in groups.items() if other != group for h in part]
            parts.append(told(groups[group], others, features))
        said = np.concatenate(parts)
        probability = sigmoid(said)
        loss = -np.mean(np.log(np.where(malignant > 0, probability, 1 - probability)))
        figures = (
            metrics.auc(malignant, said),
            metrics.auc(malignant[small], said[small]),
            np.mean((probability - malignant) ** 2),
            loss,
        )
        print(f"| {name} | " + " | ".join(f"{figure:.4f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
