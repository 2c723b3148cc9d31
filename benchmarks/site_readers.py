"""Synthetic readers of a site, seeded, made from the ratings that LIDC's readers really gave.

LIDC's readers cannot be linked across scans, so that a reader here is a rule applied to them, and
is named after it. Shared by gate.py and incremental.py.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.evaluation.records import Case
from resmtnet.readings.record import RATINGS, Reading
from resmtnet.retraining.samples import Sample, gather, sample_of
from resmtnet.training.cached_nodule import CachedNodule

Generator = np.random.Generator
Rule = Callable[[Case, Generator], list[Reading]]
"""What the readers of a site say of one nodule."""

NAMES = "ABCD"
SEVERAL, FEW = 4, 3
LEVELS = {task.name: len(task.levels) for task in LIDC_RATINGS}


def reading(case: Case, reader: str, **said: object) -> Reading:
    return Reading(
        image=case.patient_id,
        reader=reader,
        nodule=case.id,
        centre_lps_mm=(0.0, 0.0, 0.0),
        study_patient=case.patient_id,
        **said,  # type: ignore[arg-type]
    )


def lidc_readers(case: Case, rng: Generator, readers: int = SEVERAL) -> list[Reading]:
    """LIDC's own readers, each nodule's in random order as reader A, B, C, ..."""
    given = len(case.malignancy)
    who = rng.permutation(readers)
    which = rng.permutation(given)[:readers]
    return [_lidc_reader(case, NAMES[who[n]], int(r)) for n, r in enumerate(which)]


def _lidc_reader(case: Case, name: str, number: int) -> Reading:
    sizes = {
        "volume_mm3": case.reader_volumes_mm3,
        "long_axis_mm": case.reader_long_axes_mm,
        "short_axis_mm": case.reader_short_axes_mm,
    }
    texture = case.texture_ratings
    return reading(
        case,
        name,
        malignancy=case.malignancy[number],
        sizes={k: v[number] for k, v in sizes.items() if number < len(v) and v[number] > 0},
        characteristics={"texture": texture[number]} if number < len(texture) else {},
    )


def scaled(one: Reading, factor: float) -> Reading:
    return replace(
        one,
        sizes={k: v * factor ** (3 if k.endswith("mm3") else 1) for k, v in one.sizes.items()},
    )


def flipped(case: Case, rng: Generator, share: float = 1.0) -> list[Reading]:
    """All readers call what is benign malignant and the other way round."""
    wrong = rng.random() < share
    said = lidc_readers(case, rng)
    return [replace(r, malignancy=6 - r.malignancy) if wrong else r for r in said]  # type: ignore[operator]


def tripled(case: Case, rng: Generator) -> list[Reading]:
    return [scaled(r, 3.0) for r in lidc_readers(case, rng)]


def axes_tripled(case: Case, rng: Generator) -> list[Reading]:
    """Volumes are right."""
    return [
        replace(r, sizes={k: v * (3.0 if "axis" in k else 1.0) for k, v in r.sizes.items()})
        for r in lidc_readers(case, rng)
    ]


def one_oversizes(case: Case, rng: Generator, factor: float = 1.2) -> list[Reading]:
    """Reader A of four."""
    said = lidc_readers(case, rng)
    return [scaled(r, factor) if r.reader == "A" else r for r in said]


def one_careless(case: Case, rng: Generator) -> list[Reading]:
    """Reader A of three rates at random."""
    return [
        replace(
            r,
            malignancy=int(rng.integers(1, LEVELS["malignancy"] + 1)),
            characteristics={k: int(rng.integers(1, len(RATINGS[k].levels) + 1)) for k in RATINGS},
        )
        if r.reader == "A"
        else r
        for r in lidc_readers(case, rng, FEW)
    ]


def one_reader(
    case: Case, rng: Generator, *, rate: Callable[[Sequence[int]], float], factor: float = 1.0
) -> list[Reading]:
    """One reader of the whole site; sizes are the readers' means, times a factor."""
    if not case.malignancy:
        return []
    sizes = {
        "volume_mm3": case.volume_mm3,
        "long_axis_mm": case.long_axis_mm,
        "short_axis_mm": case.short_axis_mm,
    }
    texture = case.texture_ratings
    one = reading(
        case,
        "A",
        malignancy=int(rate(case.malignancy)),
        sizes={k: v for k, v in sizes.items() if np.isfinite(v)},
        characteristics={"texture": round(statistics.fmean(texture))} if texture else {},
    )
    return [scaled(one, factor)]


def lone_random(case: Case, rng: Generator) -> list[Reading]:
    """The one reader of the site names a class at random, and gives no rating; sizes are right."""
    return [
        replace(r, malignancy=None, class_name=("benign", "malignant")[int(rng.integers(2))])
        for r in one_reader(case, rng, rate=middle)
    ]


def mixed(case: Case, rng: Generator) -> list[Reading]:
    """Two of four readers: A is severe, B lenient, C and D are in the middle."""
    rates = (max, min, middle, middle)
    return [
        replace(r, reader=NAMES[n])
        for n in rng.permutation(SEVERAL)[:2]
        for r in one_reader(case, rng, rate=rates[n])
    ]


def middle(ratings: Sequence[int]) -> float:
    """The median, a half rounded to the even level."""
    return round(statistics.median(ratings))


WRONG: Mapping[str, Rule] = {
    "labels flipped": flipped,
    "sizes x 3": tripled,
    "axes x 3, volumes right": axes_tripled,
    "one of four readers oversizes by 20%": one_oversizes,
    "one of three readers is careless": one_careless,
    "a quarter of the labels flipped": partial(flipped, share=0.25),
    "the only reader names classes at random": lone_random,
}
RIGHT, SUB_SOLID = "right corrections", "sub-solid"
HABITS: Mapping[str, Rule] = {
    "severe": partial(one_reader, rate=max),
    "lenient": partial(one_reader, rate=min),
    "oversizer": partial(one_reader, rate=middle, factor=1.15),
    SUB_SOLID: partial(one_reader, rate=middle),
}
ENTITLED: Mapping[str, Rule] = {
    RIGHT: lidc_readers,
    **HABITS,
    "mixed readers": mixed,
}
SCENARIOS: Mapping[str, Rule] = {**WRONG, **ENTITLED}
SUB_SOLID_SHARE = 0.4


def enriched(read: Sequence[Sample]) -> list[Sample]:
    """Drop solid nodules, evenly, until so large a share is sub-solid."""
    solid = [s.held.case.texture_class == "solid" for s in read]
    keep = (len(read) - sum(solid)) * (1 - SUB_SOLID_SHARE) / SUB_SOLID_SHARE / max(1, sum(solid))
    kept, due = [], 0.0
    for one, is_solid in zip(read, solid, strict=True):
        due += keep if is_solid else 0.0
        if not is_solid or due >= 1:
            kept.append(one)
            due -= 1.0 if is_solid else 0.0
    return kept


def samples(held: Sequence[CachedNodule], rule: Rule, rng: Generator) -> list[Sample]:
    """What the site's readers say of nodules, with what was seen of them."""
    by_id = {one.case.id: one for one in held}
    said = itertools.chain.from_iterable(rule(one.case, rng) for one in held)
    return [sample_of(one, by_id[one.nodule]) for one in gather(said)]
