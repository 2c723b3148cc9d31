"""Fine-tunes all weights of a model on images: the training archive and the crops of the site.

The feature extractor changes, so that nothing that was stored of it holds any more: embeddings,
reference set and calibration set are computed again, which takes longer than the training.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
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
from resmtnet.inference.model_folder import Model
from resmtnet.retraining.backbone import Backbone
from resmtnet.retraining.samples import Sample, targets_of_samples
from resmtnet.retraining.site_samples import SiteSamples
from resmtnet.training.cached_nodule import CachedNodule, observe
from resmtnet.training.calibrate import fit_calibration
from resmtnet.training.carried_sets import (
    embed,
    read_calibration_set,
    read_reference,
    read_replay,
    replay_files,
)
from resmtnet.training.loop import Trainer
from resmtnet.training.run import inference_of
from resmtnet.types import Progress

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Images:
    """What a training of all weights reads and writes."""

    archive: Archive
    """The model was trained on it; it also holds the calibration and reference nodules."""
    site: Archive
    """Crops of all of the site's samples, also of those held out; see NoduleCache.archive."""
    work: Path
    """Folder of the checkpoints, from which a training that was killed is resumed."""
    device: str = "cpu"


def images_of(
    archive: Path, site: SiteSamples, work: Path, configuration: str, device: str
) -> Images:
    """Prepare the images of a training; one that was killed is resumed, others are removed.

    Args:
        archive: folder of the archive that the shipped model was trained on.
        site: all samples, also those held out.
        work: of all trainings of this site; each has a folder in it.
        configuration: two trainings are the same if this, the model and the readings are.
        device: of the networks.
    """
    samples = tuple(site.samples)
    readings = [reading for sample in samples for reading in sample.consensus.reading_ids]
    same = [site.cache.model.info.sha256, configuration, *readings]
    own = work / hashlib.sha256("\n".join(same).encode()).hexdigest()[:16]
    for other in work.glob("*"):
        if other != own:
            shutil.rmtree(other, ignore_errors=True)
    return Images(Archive.open(archive), site.cache.archive(samples, own / "crops"), own, device)


class Mixed(TrainingSet):
    """Draws batches of the archive and of the site at random, in the given proportion."""

    def __init__(self, replayed: TrainingSet, site: TrainingSet, replay_share: float) -> None:
        self.__dict__.update(site.__dict__)
        self._sets, self._share = (replayed, site), replay_share

    @property
    def steps(self) -> int:
        """Steps of an epoch, in which the site's nodules are passed once."""
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
    tell: Progress,
) -> list[Weights]:
    """Return the members' weights after training on archive and site.

    Args:
        model: whose weights it starts from, and whose training nodules are replayed.
        samples: of the site, to train on.
        images: of both.
        config: of the training.
        replay_share: share of the batches that are of the archive.
        tell: called after every step with the epoch and the epochs of a member.

    Raises:
        InputError: the archive lacks nodules that the model was trained on.
    """
    data = _data(model, samples, images, config, replay_share)
    states = []
    for number, network in enumerate(model.networks):
        own = replace(config, seed=config.seed + number)
        trainer = Trainer(data, own, images.work / f"member-{number}", images.device)
        trainer.begin_with(network.state_dict(), "the served version")
        trainer.resume()
        states.append(trainer.run(lambda step: tell(step.epoch + 1, step.epochs)))
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
    return _places([n.id for n in model.carried(read_replay).nodules], archive)


def _crops_of(samples: Sequence[Sample], images: Images) -> list[int]:
    return _places([s.consensus.id for s in samples], images.site)


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
    tell: Progress = lambda done, of: None,
) -> Backbone:
    """Compute anew all that was stored of the old feature extractor, and calibrate the new one.

    Args:
        model: the old one.
        states: weights of the new members.
        images: of all nodules.
        tell: called with nodules done and nodules in all.

    Raises:
        InputError: the archive lacks reference or calibration nodules.
        ModelError: the nodules are too few to calibrate on.
    """
    inference, archive = inference_of(states, model.config, images.device), images.archive
    reference = _named([h.case.id for h in model.carried(read_reference)], archive)
    calibrated = _named([h.case.id for h in model.carried(read_calibration_set)], archive)
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
    fitted = replace(fitted, nodule=model.calibration.nodule)  # no negatives of the site to fit it

    def look(held: Sequence[CachedNodule]) -> list[CachedNodule]:
        return [replace(seen[h.case.id], case=h.case, truth=h.truth) for h in held]

    return Backbone(look, fitted, (), replay_files(replay))


def _named(ids: Sequence[str], archive: Archive) -> list[Nodule]:
    return [archive.nodules[n] for n in _places(ids, archive)]


def _calibration_nodules(model: Model, archive: Archive) -> list[Nodule]:
    folds, splits = model.config.calibration_folds, model.config.splits
    return [n for n in archive.nodules if n.fold in folds and n.split in splits]
