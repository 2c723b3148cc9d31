"""Out-of-fold answers for every nodule: one model for each group of folds, never its own patients.

The networks of a group see nothing of its patients. Their outputs are calibrated on the nodules of
the *other* groups, each answered by networks that were not trained on it. (They were trained on the
group's own patients, but only a few constants come from them.) The out-of-distribution score is
fitted to the group itself, because no other networks share its embeddings: about 1% of the group
exceeds it by construction. A finished group is kept, so that a long run continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.config import TrainingConfig
from resmtnet.data.archive import Archive
from resmtnet.data.splits import split_by_fold
from resmtnet.errors import ConfigError, InputError
from resmtnet.evaluation.records import write_predictions
from resmtnet.inference.out_of_distribution import fit_out_of_distribution
from resmtnet.training.cached_nodule import CachedNodule, predict
from resmtnet.training.cached_store import load_cached, save_cached
from resmtnet.training.calibrate import fit_calibration
from resmtnet.training.distributed import processes, rank
from resmtnet.training.earlier_networks import starting_networks
from resmtnet.training.run import (
    Listener,
    check_resumable,
    inference_of,
    observe_all,
    train_members,
)

SILENT = Listener()
HELD = "held.safetensors"


def fold_groups(archive: Archive, config: TrainingConfig, size: int) -> list[tuple[int, ...]]:
    """Return the folds of an archive in groups of `size`, in order; reference folds in none.

    Raises:
        ConfigError: fewer than two groups.
    """
    folds = sorted(
        {n.fold for n in archive.nodules if n.split in config.splits and n.fold >= 0}
        - set(config.reference_folds)
    )
    groups = [tuple(folds[start : start + size]) for start in range(0, len(folds), size)]
    if len(groups) < 2:
        raise ConfigError(
            f"{len(folds)} folds in groups of {size}: cross-validation needs at least two groups"
        )
    return groups


def group_name(group: Sequence[int]) -> str:
    """Return the name of a group's folder and file.

    >>> group_name((0, 1))
    'folds-0-1'
    """
    return "-".join(["folds", *map(str, group)])


def cross_validate(
    archive: Archive,
    config: TrainingConfig,
    out: Path,
    *,
    group_size: int = 1,
    resume: bool = False,
    negatives: Sequence[Archive] = (),
    start: Sequence[Path] = (),
    device: str = "cpu",
    listener: Listener = SILENT,
) -> list[Path]:
    """Train a model for each group of folds and answer its nodules.

    Args:
        archive: nodules of the configured splits take part.
        config: of every model; its calibration folds are overridden. Nobody trains on its
            reference folds; the networks of the first group answer them too.
        out: folder of a folder per group and of the predictions.
        group_size: folds that are held out together.
        resume: go on with what `out` holds.
        negatives: see run_experiment.
        start: checkpoints of earlier networks, with whose weights training begins; each group
            takes one that trained on none of its folds, see starting_networks.
        device: "cpu" or "cuda".
        listener: is told of the progress.

    Returns:
        In the first process a predictions file per group, for `resmtnet evaluate --predictions`.
    """
    groups = fold_groups(archive, config, group_size)
    check_resumable(out, resume)
    with processes(device) as own_device:
        held = {
            group: _held(
                archive,
                config,
                out / group_name(group),
                group,
                own_device,
                listener,
                negatives,
                start,
                with_reference=group == groups[0],
            )
            for group in groups
        }
        if rank():
            return []
    return [_predict(held, group, out) for group in groups]


def load_answers(out: Path) -> list[CachedNodule]:
    """Read the out-of-fold records of every group that a cross-validation has kept in `out`.

    Raises:
        InputError: there are none.
    """
    paths = sorted(out.glob(f"*/{HELD}"))
    if not paths:
        raise InputError(
            f"{out} holds no records of a cross-validation (*/{HELD}): give the --out of "
            "`resmtnet train --cross-validate`"
        )
    return [one for path in paths for one in load_cached(path)]


def _held(
    archive: Archive,
    config: TrainingConfig,
    out: Path,
    group: tuple[int, ...],
    device: str,
    listener: Listener,
    negatives: Sequence[Archive],
    start: Sequence[Path],
    *,
    with_reference: bool,
) -> list[CachedNodule]:
    if (out / HELD).is_file():
        return load_cached(out / HELD)
    config = replace(config, calibration_folds=group)
    split = split_by_fold(archive.nodules, config)
    begin = starting_networks(start, config)
    weights = train_members(archive, split, config, out, device, listener, negatives, begin)
    if rank():
        return []
    inference = inference_of(weights, config, device)
    index = split.calibration
    if with_reference:
        index += tuple(n for n in split.reference if archive.nodules[n].split in config.splits)
    held = observe_all(inference, archive, index, listener.calibration)
    save_cached(out / HELD, held)
    return load_cached(out / HELD)  # as a run that goes on will read them


def _predict(
    held: dict[tuple[int, ...], list[CachedNodule]], group: tuple[int, ...], out: Path
) -> Path:
    others = [one for other, part in held.items() if other != group for one in part]
    calibration = fit_calibration(others, _embeddings(others), {})
    # each group's networks have embeddings of their own: how unusual one is, no other group tells
    own = held[group]
    out_of_distribution = fit_out_of_distribution(
        _embeddings(own), [one.observation for one in own], [one.mask_mean for one in own]
    )
    calibration = replace(calibration, out_of_distribution=out_of_distribution)
    path = out / f"{group_name(group)}.csv"
    write_predictions(path, [(one.case, predict(one, calibration)) for one in held[group]])
    return path


def _embeddings(held: Sequence[CachedNodule]) -> NDArray[np.float64]:
    return np.array([one.observation.embeddings.ravel() for one in held], np.float64)
