"""What a weaker pull towards the shipped weights does for a sub-solid site's other patients.

    python benchmarks/sub_solid_pull.py --model RESEARCH [--patients 40] [--runs 4] [--pull P ...]

Sites of 40% sub-solid nodules are drawn from the development half of gate.py, and trained without a
gate. Told are figures of the sub-solid nodules of the half's other patients, before and after.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from resmtnet.inference.model_folder import read_model
from resmtnet.retraining.candidate import recalibrate
from resmtnet.retraining.finetune import fine_tune
from simulated_site import DEFAULT, OF_OTHERS, Half, Pool, draw, gain
from site_readers import SUB_SOLID

FIGURES = ("subsolid_score_mae", "subsolid_size_error", "subsolid_texture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--pull", type=float, action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        half = Half(Pool.of_model(read_model(given.model), Path(folder)), development=True)
        run(half, given)


def run(half: Half, given: argparse.Namespace) -> None:
    model = half.pool.model
    for pull in given.pull or [DEFAULT.l2, 30.0, 3.0]:
        changes = []
        for seed in range(given.runs):
            drawn = draw(half, SUB_SOLID, seed, given.patients)
            others = half.read(drawn.others, SUB_SOLID, np.random.default_rng(OF_OTHERS + seed))
            tuned = fine_tune(model, drawn.read, replace(DEFAULT, l2=pull), anchor=model)
            changes.append(gain(half, recalibrate(tuned), others))
        told = []
        for figure in FIGURES:
            before, after = (
                np.nanmean([one[when][figure] for one in changes]) for when in ("before", "after")
            )
            told.append(f"{figure} {before:.3f} -> {after:.3f}")
        print(f"pull {pull:g}: " + ", ".join(told), flush=True)


if __name__ == "__main__":
    main()
