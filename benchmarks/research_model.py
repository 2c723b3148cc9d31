"""Makes the research model: one network of the recipe, whose left-out folds stay free.

    python benchmarks/research_model.py --folds FOLDS --data STACKS --negatives NEGATIVES --out OUT
        [--places 3000]

FOLDS is the --out of the first cross-validation of docs/experiments/version-5.md. Its network that
left out folds 0 to 3 looks at the nodules that it was trained on (replay set); its answers for the
left-out folds become the reference set of OUT, of which experiments on learning (gate.py) make
sites and a reference set. The calibration is fitted to another network's answers for folds 4 and 5
and the negatives there, so that no constant has seen the left-out folds either.

The network also looks at places without a nodule of left-out patients, up to --places of them;
hard_negatives.py needs what it says there (OUT/../negatives.npz).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from resmtnet.config import TrainingConfig, from_dict
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.splits import split_by_fold
from resmtnet.data.volumes import nodule_ct
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.ensemble import BATCH, Ensemble
from resmtnet.inference.model_folder import write_model
from resmtnet.training.cached_store import load_cached
from resmtnet.training.calibrate import fit_calibration, fit_presence
from resmtnet.training.carried_sets import embed, reference_files, replay_files
from resmtnet.training.negative_places import observe_negatives
from resmtnet.training.run import inference_of

LEFT_OUT, OTHERS = "folds-0-3", "folds-4-5"
HELD, CHECKPOINT = "held.safetensors", "member-0/checkpoint.pt"
PLACES = "negatives.npz"


def network_of(folder: Path) -> tuple[Ensemble, TrainingConfig]:
    """The network of a group of folds."""
    state = torch.load(folder / CHECKPOINT, weights_only=True, map_location="cpu")
    config = from_dict(TrainingConfig, state["config"])
    return inference_of([state["averaged"]], config, "cpu"), config


def calibration_of(folds: Path, negatives: Archive) -> Calibration:
    """Fitted to what another network says of folds that it left out."""
    inference, config = network_of(folds / OTHERS)
    apart = {one.case.patient_id for one in load_cached(folds / LEFT_OUT / HELD)}
    held = [h for h in load_cached(folds / OTHERS / HELD) if h.case.patient_id not in apart]
    seen = np.array([one.observation.embeddings.ravel() for one in held], float)
    places = observe_negatives(inference, [negatives], config)
    return replace(fit_calibration(held, seen, {}), nodule=fit_presence(held, places))


def make(given: argparse.Namespace) -> None:
    archive, negatives = Archive.open(given.data), Archive.open(given.negatives)
    inference, config = network_of(given.folds / LEFT_OUT)
    held = load_cached(given.folds / LEFT_OUT / HELD)
    trained = [archive.nodules[n] for n in split_by_fold(archive.nodules, config).train]
    calibration = calibration_of(given.folds, negatives)
    state = torch.load(given.folds / LEFT_OUT / CHECKPOINT, weights_only=True, map_location="cpu")
    patients = {one.case.patient_id for one in held}
    info = write_model(
        given.out,
        "research",
        [state["averaged"]],
        config,
        calibration,
        {"left_out": {"nodules": len(held), "patients": len(patients)}},
        replay_files(embed(inference, archive, trained)) | reference_files(held, calibration),
    )
    print(
        f"{info.version}: {len(held)} nodules of {len(patients)} patients; {len(trained)} replayed"
    )
    there = [n for n in negatives.nodules if n.nodule_label == 0 and n.patient_id in patients]
    look_at_places(inference, negatives, there, given)


def look_at_places(
    inference: Ensemble, archive: Archive, there: list[Nodule], given: argparse.Namespace
) -> None:
    order = np.random.default_rng(0).permutation(len(there))[: given.places]
    embeddings, views, chosen = [], [], [there[n] for n in order]
    for start in range(0, len(chosen), BATCH):
        part = [nodule_ct(archive, nodule) for nodule in chosen[start : start + BATCH]]
        for seen in inference.heads([inference.sampler(ct, centre) for ct, centre in part]):
            embeddings.append(seen.embeddings)
            views.append(seen.views["nodule"])
    names, of = ([getattr(n, what) for n in chosen] for what in ("id", "patient_id"))
    path = given.out.parent / PLACES
    np.savez_compressed(path, embeddings=embeddings, views=views, ids=names, patients=of)
    print(f"{path}: {len(chosen)} places of {len(set(of))} patients")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--negatives", type=Path, required=True)
    parser.add_argument("--places", type=int, default=3000)
    parser.add_argument("--out", type=Path, required=True)
    torch.set_num_threads(1)
    make(parser.parse_args())


if __name__ == "__main__":
    main()
