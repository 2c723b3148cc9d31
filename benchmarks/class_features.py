"""From what should the class be calibrated? Candidates, fitted and told on different patients.

    python benchmarks/class_features.py FOLDS --tell folds-0-1 --tell folds-2-3 [--fit-all]

FOLDS is the --out of `resmtnet train --cross-validate`. Each group that is told is answered by
constants fitted on the other told groups, or with --fit-all on all other groups of FOLDS. What the
features are: calibration.class_feature.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resmtnet.evaluation import metrics
from resmtnet.inference.calibration import class_feature
from resmtnet.network.uncertainty import sigmoid
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.cached_store import load_cached
from resmtnet.training.estimators import fit_platt

RATINGS = tuple(
    f"rating.{name}"
    for name in ("spiculation", "lobulation", "margin", "texture", "subtlety", "sphericity")
)
TRIED = {
    "margin": ("margin",),
    "odds": ("odds",),
    "margin, score and ratings (up to version 4)": ("margin", "score", *RATINGS),
    "margin and odds": ("margin", "odds"),
    "margin and size": ("margin", "log_diameter"),
    "odds and size": ("odds", "log_diameter"),
    "margin, odds and size": ("margin", "odds", "log_diameter"),
    "margin, odds, size and ratings": ("margin", "odds", "log_diameter", *RATINGS),
}
Group = Sequence[CachedNodule]


def columns(held: Group, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {
        name: np.array([float(class_feature(name, h.observation.outputs)) for h in held])
        for name in names
    }


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
