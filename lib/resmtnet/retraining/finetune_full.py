"""Fine-tuning of everything from the served weights, on images: training archive and site's crops.

The trunk changes, so that all that was stored of it is void: embeddings, reference and calibration
set are looked at again, which takes longer than the training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from resmtnet.config import TrainingConfig
from resmtnet.data.archive import Archive
from resmtnet.data.crops import load_block
from resmtnet.data.dataset import Batch, TrainingSet
from resmtnet.data.nodule import Nodule
from resmtnet.errors import InputError
from resmtnet.inference.ensemble import Ensemble
from resmtnet.inference.member_states import networks_of
from resmtnet.inference.model_folder import Model
from resmtnet.retraining.backbone import Backbone
from resmtnet.retraining.fit_heads import Stopped
from resmtnet.retraining.samples import Sample, targets_of_samples
from resmtnet.training.cached_nodule import CachedNodule, observe
from resmtnet.training.calibrate import fit_calibration
from resmtnet.training.carried_sets import (
    embed,
    read_calibration_set,
    read_reference,
    read_replay,
    replay_files,
)
from resmtnet.training.loop import Trainer, TrainingProgress

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Images:
    """What a training of everything reads and writes."""

    archive: Archive
    """That the model was trained on, with its calibration and reference nodules."""
    site: Archive
    """Crops of all of the site's samples, those held out too; see Site.archive."""
    work: Path
    """Folder of the checkpoints: a training that was killed goes on from them."""
    device: str = "cpu"


class Mixed(TrainingSet):
    """Batches of the archive and of the site in turn, by chance and in the given proportion."""

    def __init__(self, replayed: TrainingSet, site: TrainingSet, replay_share: float) -> None:
        self.__dict__.update(site.__dict__)
        self._sets, self._share = (replayed, site), replay_share

    @property
    def steps(self) -> int:
        """So many that the site's nodules are passed once."""
        return max(1, round(self._sets[1].steps / (1 - self._share)))

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        sources = [_endless(one, generator) for one in self._sets]
        for _ in range(self.steps):
            of_site = float(torch.rand((), generator=generator)) >= self._share
            yield next(sources[int(of_site)])


def _endless(data: TrainingSet, generator: torch.Generator) -> Iterator[Batch]:
    while True:
        yield from data.epoch(generator)


def train_all(
    model: Model,
    samples: Sequence[Sample],
    images: Images,
    config: TrainingConfig,
    replay_share: float,
    tell: Callable[[TrainingProgress], None],
    stop: Callable[[], bool],
) -> list[Weights]:
    """Return the members' weights after training on archive and site.

    Args:
        model: whose weights it starts from, and whose training nodules are replayed.
        samples: of the site, to train on.
        images: of both.
        config: of the training.
        replay_share: share of the batches that are of the archive.
        tell: called after every step.
        stop: asked after every step.

    Raises:
        InputError: the archive lacks nodules that the model was trained on.
        Stopped: it was asked to.
    """
    data = _data(model, samples, images, config, replay_share)

    def each_step(progress: TrainingProgress) -> None:
        if stop():
            raise Stopped
        tell(progress)

    states = []
    for number, network in enumerate(model.networks):
        own = replace(config, seed=config.seed + number)
        trainer = Trainer(data, own, images.work / f"member-{number}", images.device)
        trainer.network.load_state_dict(network.state_dict())
        trainer.averaged = {k: v.clone() for k, v in trainer.network.state_dict().items()}
        trainer.resume()
        states.append(trainer.run(each_step))
    return states


def _data(
    model: Model,
    samples: Sequence[Sample],
    images: Images,
    config: TrainingConfig,
    replay_share: float,
) -> Mixed:
    sets = []
    chosen = {"replayed": trained_on(model, images.archive), "site": _crops_of(samples, images)}
    for index, archive in zip(chosen.values(), (images.archive, images.site), strict=True):
        block = load_block(archive, config.context_variants, config.seed).to(images.device)
        sets.append(TrainingSet(block, archive.nodules, index, config))
    sets[1].targets = targets_of_samples(samples, config.subsolid_factor)  # also classes by name
    return Mixed(sets[0], sets[1], replay_share)


def trained_on(model: Model, archive: Archive) -> list[int]:
    """Return the places in an archive of the nodules that a model was trained on.

    Raises:
        InputError: some are not there.
    """
    return _places([n.id for n in read_replay(model.folder).nodules], archive)


def _crops_of(samples: Sequence[Sample], images: Images) -> list[int]:
    return _places([s.said.id for s in samples], images.site)


def _places(ids: Sequence[str], archive: Archive) -> list[int]:
    place = {nodule.id: n for n, nodule in enumerate(archive.nodules)}
    missing = [name for name in ids if name not in place]
    if missing:
        raise InputError(
            f"{archive.path} lacks {len(missing)} of {len(ids)} nodules, such as {missing[0]}: "
            "give the archive that the model was trained on"
        )
    return [place[name] for name in ids]


def look_again(
    model: Model,
    states: Sequence[Weights],
    images: Images,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Backbone:
    """Look at all that is stored of the old trunk with the new one, and calibrate it.

    Args:
        model: the old one.
        states: weights of the new members.
        images: of all nodules.
        tell: called with nodules done and nodules in all.

    Raises:
        InputError: the archive lacks reference or calibration nodules.
        ModelError: the nodules are too few to calibrate on.
    """
    inference, archive = _inference(model, states, images.device), images.archive
    reference = _named([h.case.id for h in read_reference(model.folder)], archive)
    calibrated = _named([h.case.id for h in read_calibration_set(model.folder)], archive)
    calibrated = calibrated or _calibration_nodules(model, archive)
    trained = [archive.nodules[n] for n in trained_on(model, archive)]
    todo = [(archive, n) for n in (*calibrated, *reference)]
    todo += [(images.site, n) for n in images.site.nodules]
    total, seen = len(todo) + len(trained), dict[str, CachedNodule]()
    for source, nodule in todo:
        seen[nodule.id] = observe(inference, source, nodule)
        tell(len(seen), total)
    done = len(seen)
    replay = embed(inference, archive, trained, lambda more, of: tell(done + more, total))
    held = [seen[nodule.id] for nodule in calibrated]
    fitted = fit_calibration(held, replay.flat, dict(model.calibration.baselines))

    def look(held: Sequence[CachedNodule]) -> list[CachedNodule]:
        return [replace(seen[h.case.id], case=h.case, truth=h.truth) for h in held]

    return Backbone(look, fitted, (), replay_files(replay))


def _inference(model: Model, states: Sequence[Weights], device: str) -> Ensemble:
    return Ensemble(networks_of(model.config, states, device), model.config.patch, device)


def _named(ids: Sequence[str], archive: Archive) -> list[Nodule]:
    return [archive.nodules[n] for n in _places(ids, archive)]


def _calibration_nodules(model: Model, archive: Archive) -> list[Nodule]:
    folds, splits = model.config.calibration_folds, model.config.splits
    return [n for n in archive.nodules if n.fold in folds and n.split in splits]
