"""Trains one network on what the shipped pair says: does one then say what two say?

    python benchmarks/distil.py STACKS --negatives PLACES [...] --start CHECKPOINT --out DIR
        [--epochs 6] [--share 0.7]

The student begins with the weights of CHECKPOINT, a network that kept the model's reference and
calibration folds apart, and sees the model's own training nodules. Its targets are the readers'
and, by SHARE, the mean of the members' answers to the same patch (Hinton, Vinyals and Dean, 2015);
masks are learnt from the readers alone. Then it answers the reference set, which neither it nor the
model saw, and is compared with each member and the pair as in ensemble.py: heads only, four views,
uncalibrated.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ensemble import DIAMETER, Voices, read_logits, table, voices_of
from resmtnet.characteristics import NODULE, SIZES, TASKS
from resmtnet.config import TrainingConfig
from resmtnet.data.archive import Archive
from resmtnet.data.crops import load_block
from resmtnet.data.dataset import Batch, TrainingSet
from resmtnet.data.splits import split_by_fold
from resmtnet.data.volumes import nodule_ct
from resmtnet.inference.ensemble import BATCH
from resmtnet.inference.model_folder import default_model_dir, read_model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import read_reference
from resmtnet.training.earlier_networks import read_member
from resmtnet.training.loop import Trainer, TrainingProgress
from resmtnet.training.negative_places import negative_sets
from resmtnet.training.objective import Objective
from resmtnet.training.run import inference_of


class Distilled(Objective):
    """The joint loss, with the teachers' answers among the targets."""

    def __init__(self, student: ResMTNet, teachers: list[ResMTNet], share: float, like: Objective):
        super().__init__(student, like.config)
        self.teachers, self.share = [one.eval() for one in teachers], share

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return super().forward(batch._replace(targets=self.taught(batch)))

    @torch.no_grad()
    def taught(self, batch: Batch) -> dict[str, Tensor]:
        """The targets, moved towards the teachers' mean where readers gave any."""
        said = [one(one.encode(batch.slices), len(batch.slices)).tasks for one in self.teachers]
        targets = dict(batch.targets)
        for task in (*TASKS, NODULE):
            if task.name not in said[0]:
                continue
            own = targets[task.name]
            logits = torch.stack([tasks[task.name].float() for tasks in said]).mean(0)
            theirs = logits[:, 0] if task in SIZES else logits.softmax(1)
            targets[task.name] = (1 - self.share) * own + self.share * theirs
        return targets


def train(
    given: argparse.Namespace, config: TrainingConfig, teachers: list[ResMTNet]
) -> dict[str, Tensor]:
    """The student's weights; a training that was cut off goes on."""
    archive = Archive.open(given.archive)
    places = [Archive.open(path) for path in given.negatives]
    split = split_by_fold(archive.nodules, config)
    others = negative_sets(places, config, "cpu")
    block = load_block(archive, config.context_variants, config.seed)
    data = TrainingSet(block, archive.nodules, split.train, config, negatives=others)
    trainer = Trainer(data, config, given.out)
    trainer.begin_with(read_member(given.start, config), str(given.start))
    trainer.objective = Distilled(trainer.network, teachers, given.share, trainer.objective)
    trainer.resume()
    return trainer.run(told)


def told(progress: TrainingProgress) -> None:
    if progress.step == 0:
        print(f"epoch {progress.epoch + 1} of {progress.epochs}", flush=True)


def answer(
    given: argparse.Namespace,
    config: TrainingConfig,
    weights: dict[str, Tensor],
    held: list[CachedNodule],
) -> Voices:
    """What the student says of the reference set, the mean over its views."""
    archive = Archive.open(given.archive)
    by_id = {nodule.id: nodule for nodule in archive.nodules}
    inference = inference_of([weights], replace(config, head_views=4), "cpu")
    views = {name: [] for name in ("class", "malignancy", DIAMETER)}
    for start in range(0, len(held), BATCH):
        part = [nodule_ct(archive, by_id[one.case.id]) for one in held[start : start + BATCH]]
        for seen in inference.heads([inference.sampler(ct, centre) for ct, centre in part]):
            for name, said in views.items():
                said.append(seen.views[name].mean(1))
    return read_logits({n: np.array(said).transpose(1, 0, 2) for n, said in views.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("--negatives", type=Path, action="append", default=[])
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--share", type=float, default=0.7)
    given = parser.parse_args()
    model = read_model(default_model_dir())
    config = replace(model.config, members=1, epochs=given.epochs, learning_rate=1e-3)
    weights = train(given, config, list(model.networks))
    held = [h for h in read_reference(model.folder) if len(h.case.malignancy) >= 3]
    members = voices_of(held)
    rows = {"the pair": members}
    for n in range(len(model.networks)):
        rows[f"network {n} alone"] = {k: v[n : n + 1] for k, v in members.items()}
    rows["the student alone"] = answer(given, config, weights, held)
    print("\n".join(table(held, rows)))


if __name__ == "__main__":
    main()
