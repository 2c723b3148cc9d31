"""How many nodules that a network never saw does it tell as nodules?

    python benchmarks/told_as_nodules.py FOLDS [--model DIR]

FOLDS is the folder that `resmtnet train --cross-validate` writes: each network answered the nodules
of its own folds there, which it never saw. Told is the share of those of at least three readers
whose probability is at least one half: with nodules and other places equally likely, and as under
a click. The calibration of "nodule or not", two numbers, is that of the model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from resmtnet.evaluation.records import MINIMUM_READERS
from resmtnet.inference.model_folder import default_model_dir, read_model
from resmtnet.inference.presence import NodulePresence
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.cached_store import load_cached

BANDS_MM = ((0.0, 6.0), (6.0, 10.0), (10.0, np.inf))


def row(name: str, held: Sequence[CachedNodule], presence: NodulePresence) -> str:
    """Return the shares of one group of nodules as a line of the table."""
    said = [presence.probability(h.observation.outputs, candidate=False) for h in held]
    told = np.array(said) >= 0.5
    diameter_mm = np.array([h.case.equivalent_diameter_mm for h in held])
    shares = [f"{told.mean():.3f} ({len(told)})"]
    for low, high in BANDS_MM:
        inside = (diameter_mm >= low) & (diameter_mm < high)
        shares.append(f"{told[inside].mean():.3f} ({inside.sum()})")
    return " | ".join([name, *shares])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folds", type=Path)
    parser.add_argument("--model", type=Path, default=default_model_dir())
    given = parser.parse_args()
    presence = read_model(given.model).calibration.nodule
    if presence is None:
        raise SystemExit(f"{given.model} does not tell nodules from other places")
    groups = {
        path.parent.name: [
            h for h in load_cached(path) if len(h.case.malignancy) >= MINIMUM_READERS
        ]
        for path in sorted(given.folds.glob("*/held.safetensors"))
    }
    if not groups:
        raise SystemExit(f"{given.folds}: no */held.safetensors of a cross-validation")
    groups["all"] = [h for held in groups.values() for h in held]
    for likely, share in (("equally likely", 0.5), ("as under a click", presence.clicked_share)):
        print(f"{likely} | all | below 6 mm | 6-10 mm | 10 mm and more")
        for name, held in groups.items():
            print(row(name, held, replace(presence, clicked_share=share)))


if __name__ == "__main__":
    main()
