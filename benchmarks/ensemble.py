"""Compares one network, a pair, and one trunk with several heads as sources of uncertainty.

    python benchmarks/ensemble.py [--model DIR] [--heads 8]

Asks the model's own reference set, of patients that no member trained on, from what it keeps of
them: no image is read. "Shared trunk" is the first member with N sets of output layers, each
trained on the replayed embeddings of a bootstrap of the training patients, from layers that are 0.
The class is the uncalibrated margin, the diameter that of the regression (the
product tells that of the mask); errors are those of protocol P (at least three readers, median
malignancy not 3); intervals are of a bootstrap of patients, differences to the pair are paired.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from resmtnet.config import LossConfig
from resmtnet.data.targets import targets_of
from resmtnet.evaluation import metrics
from resmtnet.evaluation.bootstrap import BootstrapConfig, Replicates, Resamples
from resmtnet.inference.model_folder import Model, default_model_dir, read_model
from resmtnet.network.uncertainty import entropy, sigmoid, softmax
from resmtnet.retraining.fit_heads import train_heads
from resmtnet.retraining.linear_heads import OUTPUTS
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import Replay, read_reference, read_replay
from resmtnet.types import Array

Voices = dict[str, Array]
"""Answers of several networks: "margin" [V, N], "score" [V, N]."""

STEPS, PULL = 60, 1e-4
PAIR = "all members"
DIAMETER = "equivalent_diameter_mm"
BRANCH_OF = {"class": "classification", "malignancy": "regression", DIAMETER: "regression"}


def voices_of(held: list[CachedNodule]) -> Voices:
    """Return what each member says, the mean over its views."""
    names = ("class", "malignancy", DIAMETER)
    logits = {n: np.array([h.observation.views[n].mean(1) for h in held]) for n in names}
    return read_logits({name: values.transpose(1, 0, 2) for name, values in logits.items()})


def read_logits(logits: dict[str, Array]) -> Voices:
    levels = np.arange(1, 6)
    return {
        "margin": logits["class"][..., 1] - logits["class"][..., 0],
        "score": softmax(logits["malignancy"]) @ levels,
        "log diameter": logits[DIAMETER][..., 0],
    }


def shared_trunk(model: Model, replay: Replay, held: list[CachedNodule], heads: int) -> Voices:
    """Return what bootstrapped output layers over the first member's embeddings say."""
    network = model.networks[0]
    patients = np.array([n.patient_id for n in replay.nodules])
    known = np.unique(patients)
    targets = targets_of(replay.nodules)
    seen = torch.tensor(np.array([h.observation.embeddings[0] for h in held]))
    embeddings = torch.from_numpy(replay.embeddings[:, 0]).float()
    said: dict[str, list[Array]] = {"class": [], "malignancy": [], DIAMETER: []}
    for seed in range(heads):
        drawn = np.random.default_rng(seed).choice(known, len(known))
        times = {patient: int((drawn == patient).sum()) for patient in set(drawn)}
        count = torch.tensor([times.get(patient, 0) for patient in patients], dtype=torch.float32)
        weighted = {
            name: values * count / count.sum() if name.endswith("_weight") else values
            for name, values in targets.items()
        }
        blank = _blank(network)
        layers = train_heads(
            blank, blank, embeddings, weighted, LossConfig(), pull=PULL, steps=STEPS
        )
        parts = dict(zip(network.names, seen.chunk(len(network.names), 1), strict=True))
        for task, branch in BRANCH_OF.items():
            name = f"heads.{branch}{OUTPUTS}{task}"
            answer = parts[branch] @ layers[f"{name}.weight"].T + layers[f"{name}.bias"]
            said[task].append(answer.detach().double().numpy())
    return read_logits({name: np.array(values) for name, values in said.items()})


def _blank(network: torch.nn.Module) -> torch.nn.Module:
    from copy import deepcopy

    blank = deepcopy(network)
    for name, values in blank.state_dict().items():
        if OUTPUTS in name:
            values.zero_()
    return blank


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=default_model_dir())
    parser.add_argument("--heads", type=int, default=8)
    given = parser.parse_args()
    model = read_model(given.model)
    held = [h for h in read_reference(given.model) if len(h.case.malignancy) >= 3]
    members = voices_of(held)
    rows = {PAIR: members}
    for n in range(len(model.networks)):
        rows[f"member {n} alone"] = {k: v[n : n + 1] for k, v in members.items()}
    shared = shared_trunk(model, read_replay(given.model), held, given.heads)
    rows[f"shared trunk, {given.heads} heads"] = shared
    print("\n".join(table(held, rows)))


def table(held: list[CachedNodule], rows: dict[str, Voices]) -> list[str]:
    """Return the lines of a table of voices; the first row is what the others are compared to."""
    clear = np.array([np.median(h.case.malignancy) != 3 for h in held])
    malignant = np.array([np.median(h.case.malignancy) > 3 for h in held])[clear]
    score = np.array([np.mean(h.case.malignancy) for h in held])
    size = np.array([h.case.equivalent_diameter_mm for h in held])
    patients = np.array([h.case.patient_id for h in held])
    for_class = Resamples(tuple(patients[clear]), BootstrapConfig())
    for_score = Resamples(tuple(patients), BootstrapConfig())
    lines = [f"{clear.sum()} nodules of protocol P, {len(held)} for the score", ""]
    columns = ("AUC", "score MAE", "regressed diameter MAE, mm", "errors by entropy, AUROC")
    lines.append("| | " + " | ".join((*columns, "by disagreement, AUROC")) + " |")
    lines.append("|---" * (len(columns) + 2) + "|")
    first = next(iter(rows))
    found: dict[str, list[Replicates | None]] = {}
    for name, voices in rows.items():
        margin = voices["margin"][:, clear]
        mean = margin.mean(0)
        wrong = ((mean > 0) != malignant).astype(float)
        doubt = _entropy(mean)
        disagreement = doubt - _entropy(margin).mean(0) if len(margin) > 1 else None
        found[name] = [
            for_class.replicate(metrics.auc, malignant.astype(float), mean),
            for_score.replicate(metrics.mean_absolute_error, score, voices["score"].mean(0)),
            for_score.replicate(
                metrics.mean_absolute_error, size, np.exp(voices["log diameter"].mean(0))
            ),
            for_class.replicate(metrics.auc, wrong, doubt),
            None if disagreement is None else for_class.replicate(metrics.auc, wrong, disagreement),
        ]
        cells = [
            _text(one, None if name == first else pair)
            for one, pair in zip(found[name], found[first], strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _entropy(margin: Array) -> Array:
    malignant = sigmoid(margin)
    return entropy(np.stack([1 - malignant, malignant], -1))


def _text(one: Replicates | None, pair: Replicates | None) -> str:
    """Return a figure with its interval, and its difference to the pair's with the paired one."""
    if one is None:
        return ""
    own = one.estimate(0.95)
    text = f"{own.value:.3f} [{own.low:.3f}, {own.high:.3f}]"
    if pair is None:
        return text
    change = (one - pair).estimate(0.95)
    return f"{text}; {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"


if __name__ == "__main__":
    main()
