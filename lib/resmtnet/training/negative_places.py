"""The places without a nodule of an experiment: who trains, who calibrates, what members say."""

from __future__ import annotations

from collections.abc import Sequence

from resmtnet.config import TrainingConfig
from resmtnet.data.archive import Archive
from resmtnet.data.crops import load_block
from resmtnet.data.dataset import Rows, TrainingSet
from resmtnet.data.volumes import nodule_ct
from resmtnet.errors import ArchiveError
from resmtnet.inference.ensemble import Ensemble, RawOutputs
from resmtnet.training.distributed import rank, world_size

VARIANTS = 1
"""Continuations made of each place: there are more places than nodules."""


def check_negatives(negatives: Sequence[Archive], config: TrainingConfig) -> None:
    """Refuse archives that cannot teach the nodule task, or that are given without it.

    Raises:
        ArchiveError: saying which of the two, that a place is a nodule, or what is missing.
    """
    if bool(negatives) != config.network.nodule_task:
        raise ArchiveError(
            f"network.nodule_task is {config.network.nodule_task} and negatives are "
            f"{'given' if negatives else 'not given'}: give both or neither"
        )
    for archive in negatives:
        nodules = [place.id for place in archive.nodules if place.nodule_label != 0]
        if nodules:
            raise ArchiveError(
                f"{archive.path} holds {len(nodules)} nodules, {nodules[0]} for one: only places "
                "with nodule_label 0 can be negatives"
            )
    train = sum(len(trained_on(archive, config)) for archive in negatives)
    calibration = sum(len(calibrated_on(archive, config)) for archive in negatives)
    if negatives and not (train and calibration):
        raise ArchiveError(
            f"the negatives have {train} places to train on and {calibration} in the calibration "
            f"folds {sorted(config.calibration_folds)}; both are needed"
        )


def trained_on(archive: Archive, config: TrainingConfig) -> list[int]:
    """Return the places to train on: of the configured splits and of no fold kept apart."""
    kept = {*config.calibration_folds, *config.reference_folds, *config.stopping_folds}
    return [
        n
        for n, place in enumerate(archive.nodules)
        if place.split in config.splits and place.fold not in kept
    ]


def calibrated_on(archive: Archive, config: TrainingConfig) -> list[int]:
    """Return the places to calibrate on."""
    return [
        n
        for n, place in enumerate(archive.nodules)
        if place.split in config.splits and place.fold in config.calibration_folds
    ]


def negative_sets(
    negatives: Sequence[Archive], config: TrainingConfig, device: str
) -> list[TrainingSet]:
    """Return the places to train on of each archive that has some, on a device."""
    rows = Rows(rank(), world_size())
    return [
        TrainingSet(
            load_block(archive, VARIANTS, config.seed).to(device),
            archive.nodules,
            index,
            config,
            rows,
        )
        for archive in negatives
        if (index := trained_on(archive, config))
    ]


def observe_negatives(
    inference: Ensemble, negatives: Sequence[Archive], config: TrainingConfig
) -> list[RawOutputs]:
    """Return what the members say of the places to calibrate on."""
    said = []
    for archive in negatives:
        for n in calibrated_on(archive, config):
            ct, centre_lps_mm = nodule_ct(archive, archive.nodules[n])
            said += inference.heads([inference.sampler(ct, centre_lps_mm)])
    return said


def counts(negatives: Sequence[Archive], config: TrainingConfig) -> dict[str, int]:
    """Return how many places and patients the members train on."""
    places = [a.nodules[n] for a in negatives for n in trained_on(a, config)]
    return {"places": len(places), "patients": len({place.patient_id for place in places})}
