"""Turns the readings of a site into samples to train on: partial targets, no pixels.

The rules, each applied in one place here:
    a reading trains if it is neither excluded nor accepted in bulk (Reading.trains);
    numbers (malignancy, sizes, characteristics) come from impressions alone;
    the class comes from impressions; histology or follow-up, if the configuration asks for them,
    replace it and are never mixed with it;
    "not a nodule" trains no nodule: places that all their readers call so are hard negatives of the
    task "nodule or not" (gather_rejected), and nothing else;
    an image is of one patient, whichever of its readers named it (patients.patients_of).
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from resmtnet.characteristics import CLASS, LIDC_RATINGS, MALIGNANCY, class_of_rating
from resmtnet.ct.measure import MEASURED
from resmtnet.data.consensus import class_weight, in_scale, malignant_share
from resmtnet.data.nodule import MISSING, Nodule
from resmtnet.data.targets import targets_of
from resmtnet.errors import InputError
from resmtnet.readings.patients import Patient, patients_of
from resmtnet.readings.record import EVIDENCE, Reading
from resmtnet.readings.supersede import by_reader, effective, standing_parts
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.cases import case_of
from resmtnet.types import Point

IMPRESSION = "impression"
NOT_A_NODULE = "not_a_nodule"
BY_IMPRESSION = (IMPRESSION,)
HELD_OUT_SHARE = 0.2
"""Share of a site's patients that never train: the gate judges on them."""
Chain = Sequence[Reading]
"""Readings of one nodule, reader and evidence, in order of arrival."""
VOTES: Mapping[str, int] = {"benign": 1, "indeterminate": 3, "malignant": 5}
"""A class as the malignancy rating that means it."""
UNKNOWN_CROP = {
    "context": "full",
    "shape_kji": (0, 0, 0),
    "spacing_kji_mm": (0.0, 0.0, 0.0),
    "centre_kji": (0.0, 0.0, 0.0),
    "slice_thickness_mm": math.nan,
}
"""Fields of a Nodule whose crop is not kept."""


@dataclass(frozen=True)
class Consensus:
    """What the readers of one nodule say together; at least a part of it can train."""

    image: str
    nodule: str
    patient: Patient
    centre_lps_mm: Point
    readings: tuple[Reading, ...]
    """Whose numbers train: the effective reading of each reader."""
    class_readings: tuple[Reading, ...]
    """Whose class trains: the same, or those of better evidence."""
    reading_ids: tuple[str, ...]
    """Of every single reading that contributes to these."""

    @property
    def id(self) -> str:
        """Unique over images."""
        return f"{self.image}/{self.nodule}"

    @property
    def patient_id(self) -> str:
        """Patients stand on one side of every split."""
        return self.patient.id

    @property
    def votes(self) -> tuple[int, ...]:
        """The class of every reader as a rating."""
        return tuple(vote for r in self.class_readings if (vote := vote_of(r)) is not None)

    @property
    def record(self) -> Nodule:
        """As a row of an archive, without a crop; values that nobody gave are unknown."""
        numbers = self.readings
        ratings = {
            task.name: in_scale(task, [_rating(r, task.name) for r in numbers])
            for task in LIDC_RATINGS
        }
        volumes = _given(numbers, _volume_mm3)
        axes = {
            name: _given(numbers, partial(_size, name))
            for name in ("long_axis_mm", "short_axis_mm")
        }
        return Nodule(
            id=self.id,
            patient_id=self.patient_id,
            split="site",
            fold=-1,
            volume_mm3=_mean(volumes),
            long_axis_mm=_mean(axes["long_axis_mm"]),
            ratings={k: v for k, v in ratings.items() if any(r != MISSING for r in v)},
            reader_volumes_mm3=volumes,
            reader_long_axes_mm=axes["long_axis_mm"],
            reader_short_axes_mm=axes["short_axis_mm"],
            mask_readers=0,
            series_uid=self.image,
            centre_lps_mm=self.centre_lps_mm,
            **UNKNOWN_CROP,  # type: ignore[arg-type]
        )

    @property
    def truth(self) -> dict[str, float]:
        """Mean sizes by name, where they are known."""
        record = self.record
        truth = {name: float(getattr(record, name)) for name in MEASURED}
        means = _given(self.readings, partial(_size, "mean_diameter_mm"))
        if means and math.isnan(truth["mean_diameter_mm"]):
            truth["mean_diameter_mm"] = _mean(means)
        return {name: value for name, value in truth.items() if not math.isnan(value)}


@dataclass(frozen=True, eq=False)
class Sample:
    """One nodule of a site: what its readers say, and what a model sees of it."""

    consensus: Consensus
    held: CachedNodule
    """Case and truth are the readers'; the outputs are those of a model."""

    @property
    def patient_id(self) -> str:
        """Patients stand on one side of every split."""
        return self.consensus.patient_id


Spoken = TypeVar("Spoken", Consensus, Sample)


def sample_of(said: Consensus, seen: CachedNodule) -> Sample:
    """Join readings and observation, whose own case and truth are replaced."""
    return Sample(said, replace(seen, case=case_of(said.record), truth=said.truth))


def gather(readings: Iterable[Reading], evidence: Sequence[str] = BY_IMPRESSION) -> list[Consensus]:
    """Return what can train, one record for each nodule, in order of arrival.

    All nodules of an image are of one patient, so training and held-out nodules never share one
    at a time. A pseudonym that is first given later may still give a patient another id, and
    with it the other side: a nodule held out then may have trained former versions.

    Args:
        readings: every single one, in order of arrival (ReadingStore.readings(every=True)); for
            each (nodule, reader, evidence) the effective one trains.
        evidence: what a class may rest on, the best last: ("impression", "histology") takes the
            class from histology where there is some. Numbers are impressions in any case.

    Raises:
        InputError: an evidence that does not exist.
    """
    unknown = sorted(set(evidence) - set(EVIDENCE))
    if unknown or not evidence:
        got = repr(unknown[0]) if unknown else "none"
        raise InputError(f"evidence: got {got}; allowed are {', '.join(EVIDENCE)}")
    said = (_said(group, patient, evidence) for group, patient in _by_nodule(readings))
    return [one for one in said if one is not None]


def gather_rejected(readings: Iterable[Reading]) -> list[Consensus]:
    """Return the places that every reader whose impression trains calls no nodule.

    Args:
        readings: every single one, in order of arrival.
    """
    said = (_rejected(group, patient) for group, patient in _by_nodule(readings))
    return [one for one in said if one is not None]


def _by_nodule(readings: Iterable[Reading]) -> list[tuple[list[Chain], Patient]]:
    """Return the readings of each nodule, reader by reader, and its patient."""
    readings = list(readings)
    patients = patients_of((reading.image, reading.study_patient) for reading in readings)
    nodules: dict[tuple[str, str], list[Chain]] = {}
    for chain in by_reader(readings):
        nodules.setdefault((chain[0].image, str(chain[0].nodule)), []).append(chain)
    return [(group, patients[image]) for (image, _), group in nodules.items()]


def without(said: Iterable[Consensus], names: Set[str]) -> tuple[list[Consensus], list[Consensus]]:
    """Split by patient: those without one of these names, and those with one."""
    others: list[Consensus] = []
    theirs: list[Consensus] = []
    for one in said:
        (others if names.isdisjoint(one.patient.names) else theirs).append(one)
    return others, theirs


def targets_of_samples(
    samples: Sequence[Sample], subsolid_factor: float = 1.0
) -> dict[str, Tensor]:
    """Return targets and weights by task, as network.losses takes them; unknown values weigh 0.

    Args:
        samples: of a site.
        subsolid_factor: how much more the texture class of a nodule that is not solid counts.
    """
    targets = targets_of([s.consensus.record for s in samples], subsolid_factor)
    votes = [s.consensus.votes for s in samples]
    malignant = torch.tensor([malignant_share(v) if v else 0.5 for v in votes])
    targets[CLASS.name] = torch.stack([1 - malignant, malignant], 1)
    targets[f"{CLASS.name}_weight"] = torch.tensor([class_weight(v) if v else 0.0 for v in votes])
    return targets


def vote_of(reading: Reading) -> int | None:
    """Return the class of one reading as a rating, or None where it gives none."""
    named, rated = VOTES.get(str(reading.class_name)), reading.malignancy
    if named is None:
        return rated
    agree = rated is not None and class_of_rating(rated) == reading.class_name
    return rated if agree else named


def is_held_out(patient_id: str, share: float = HELD_OUT_SHARE, seed: int = 0) -> bool:
    """Whether a patient never trains: decided for good, by the hash of the name.

    >>> is_held_out("A", 0.0), is_held_out("A", 1.0)
    (False, True)
    """
    digest = hashlib.sha256(f"{seed}:{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split_by_patient(
    samples: Sequence[Spoken], share: float = HELD_OUT_SHARE, seed: int = 0
) -> tuple[list[Spoken], list[Spoken]]:
    """Return what is to train on, and those of the patients held out."""
    out = [is_held_out(s.patient_id, share, seed) for s in samples]
    return (
        [s for s, held in zip(samples, out, strict=True) if not held],
        [s for s, held in zip(samples, out, strict=True) if held],
    )


def _rejected(group: Sequence[Chain], patient: Patient) -> Consensus | None:
    stand = [effective(chain) for chain in group]
    train = tuple(r for r in stand if r.trains and r.evidence == IMPRESSION)
    speak = [r for r in train if r.says_something]
    centre = next((r.centre_lps_mm for r in stand if r.centre_lps_mm is not None), None)
    if centre is None or not speak or any(r.class_name != NOT_A_NODULE for r in speak):
        return None
    ids = tuple(r.id for r in speak)
    first = stand[0]
    return Consensus(first.image, str(first.nodule), patient, centre, (), (), ids)


def _said(group: Sequence[Chain], patient: Patient, evidence: Sequence[str]) -> Consensus | None:
    stand = [effective(chain) for chain in group]
    train = [r for r in stand if r.trains and r.class_name != NOT_A_NODULE]
    numbers = tuple(r for r in train if r.evidence == IMPRESSION)
    best: tuple[Reading, ...] = ()
    for basis in evidence:
        of_basis = tuple(r for r in train if r.evidence == basis and vote_of(r) is not None)
        best = of_basis or best
    centre = next((r.centre_lps_mm for r in stand if r.centre_lps_mm is not None), None)
    said_numbers = any(r.malignancy or r.sizes or r.characteristics for r in numbers)
    if centre is None or not (best or said_numbers):
        return None
    taken = {r.id for r in (*numbers, *best)}
    parts = [standing_parts(chain) for chain, r in zip(group, stand, strict=True) if r.id in taken]
    ids = tuple(part.id for chain in parts for part in chain if part.says_something)
    first = stand[0]
    return Consensus(first.image, str(first.nodule), patient, centre, numbers, best, ids)


def _rating(reading: Reading, name: str) -> int | None:
    if name == MALIGNANCY.name:
        return reading.malignancy
    return reading.characteristics.get(name)


def _size(name: str, reading: Reading) -> float | None:
    return reading.sizes.get(name)


def _volume_mm3(reading: Reading) -> float | None:
    diameter_mm = reading.sizes.get("equivalent_diameter_mm")
    derived = None if diameter_mm is None else math.pi / 6 * diameter_mm**3
    return reading.sizes.get("volume_mm3", derived)


def _given(
    readings: Sequence[Reading], value: Callable[[Reading], float | None]
) -> tuple[float, ...]:
    found = (value(reading) for reading in readings)
    return tuple(float(number) for number in found if number is not None)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan
