"""Makes the research model: one network of the shipped recipe, whose left-out folds stay free.

    python benchmarks/research_model.py --folds FOLDS --out OUT [--model DIR]
    python benchmarks/research_model.py --negatives NEGATIVES --out OUT [--places 600]

FOLDS is the --out of the cross-validation of docs/experiments/version-4.md. The network that left
out its folds 0 to 3 is member 0 of the shipped model, so that the weights and what the network sees
of the training nodules (replay set, here without folds 0 to 3) come from there. Its answers for the
left-out folds become the reference set of OUT, of which experiments on learning (gate.py) make
sites and a reference set. The calibration is fitted to another network's answers for folds 4 and 5,
so that no constant has seen the left-out folds either.

With --negatives, an archive of places without a nodule, the network looks at some of those of the
left-out patients; hard_negatives.py needs what it says there (OUT/../negatives.npz).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from resmtnet.data.archive import Archive
from resmtnet.data.volumes import nodule_ct
from resmtnet.inference.ensemble import BATCH
from resmtnet.inference.model_folder import read_model, write_model
from resmtnet.training.cached_store import load_cached
from resmtnet.training.calibrate import fit_calibration
from resmtnet.training.carried_sets import Replay, read_replay, reference_files, replay_files
from resmtnet.training.run import inference_of

MEMBER = 0
LEFT_OUT, OTHERS = ("folds-0-3/held.safetensors", "folds-4-5/held.safetensors")
PLACES = "negatives.npz"


def make(folds: Path, shipped: Path | None, out: Path) -> None:
    model = read_model(shipped)
    held, others = load_cached(folds / LEFT_OUT), load_cached(folds / OTHERS)
    apart = {one.case.patient_id for one in held}
    replay = read_replay(model.folder)
    kept = [n for n, nodule in enumerate(replay.nodules) if nodule.patient_id not in apart]
    others = [one for one in others if one.case.patient_id not in apart]
    seen = np.array([one.observation.embeddings.ravel() for one in others], float)
    calibration = fit_calibration(others, seen, {})
    calibration = replace(calibration, nodule=model.calibration.nodule)
    fewer = Replay(
        tuple(replay.nodules[n] for n in kept), replay.embeddings[kept][:, MEMBER : MEMBER + 1]
    )
    info = write_model(
        out,
        "research",
        [model.networks[MEMBER].state_dict()],
        replace(model.config, members=1, head_views=held[0].observation.views["class"].shape[1]),
        calibration,
        {"left_out": {"nodules": len(held), "patients": len(apart)}},
        replay_files(fewer) | reference_files(held, calibration),
    )
    print(f"{info.version}: {len(held)} nodules of {len(apart)} patients; {len(kept)} replayed")


def look_at_places(archive: Archive, out: Path, count: int) -> None:
    model = read_model(out)
    patients = {one.case.patient_id for one in load_cached(out / "reference.safetensors")}
    inference = inference_of([n.state_dict() for n in model.networks], model.config, "cpu")
    there = [n for n in archive.nodules if n.nodule_label == 0 and n.patient_id in patients]
    order = np.random.default_rng(0).permutation(len(there))[:count]
    embeddings, views, chosen = [], [], [there[n] for n in order]
    for start in range(0, len(chosen), BATCH):
        part = [nodule_ct(archive, nodule) for nodule in chosen[start : start + BATCH]]
        for seen in inference.heads([inference.sampler(ct, centre) for ct, centre in part]):
            embeddings.append(seen.embeddings)
            views.append(seen.views["nodule"])
    names, of = ([getattr(n, what) for n in chosen] for what in ("id", "patient_id"))
    path = out.parent / PLACES
    np.savez_compressed(path, embeddings=embeddings, views=views, ids=names, patients=of)
    print(f"{path}: {len(chosen)} places of {len(set(of))} patients")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--negatives", type=Path)
    parser.add_argument("--places", type=int, default=600)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.folds:
        make(arguments.folds, arguments.model, arguments.out)
    if arguments.negatives:
        look_at_places(Archive.open(arguments.negatives), arguments.out, arguments.places)


if __name__ == "__main__":
    main()
