"""Run by test_training.py, alone and under torchrun: one step, then its gradients are saved."""

import sys
from pathlib import Path

import torch

from resmtnet.config import NetworkConfig, PatchConfig, TrainingConfig
from resmtnet.data.archive import Archive
from resmtnet.data.crops import load_block
from resmtnet.data.dataset import Rows, TrainingSet
from resmtnet.training.distributed import is_first, mean_over_processes, processes, rank, world_size
from resmtnet.training.loop import Trainer

CONFIG = TrainingConfig(
    batch_size=7,
    context_variants=1,
    freeze_norms=True,
    warm_up=0.0,
    network=NetworkConfig(widths=(4, 6, 8), hidden=8, dropout=0.0),
    patch=PatchConfig(size_px=24),
)


def main(folder: str, out: str) -> None:
    archive = Archive.open(folder)
    with processes("cpu") as device:
        block = load_block(archive, 1, 0)
        rows = Rows(rank(), world_size())
        data = TrainingSet(block, archive.nodules, range(16), CONFIG, rows)
        trainer = Trainer(data, CONFIG, Path(out).parent, device)
        trainer._train_mode()
        batch = next(data.epoch(trainer.generator))
        terms = mean_over_processes(trainer.step(batch, 1, 10), device)
        if is_first():
            gradients = {n: p.grad for n, p in trainer.network.named_parameters()}
            state = {"gradients": gradients, "loss": sum(terms.values())}
            torch.save({**state, "processes": world_size()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
