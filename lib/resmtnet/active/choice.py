"""Which of several scored studies to read next, and why, in words; no server in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from resmtnet.active import selection
from resmtnet.active.features import Projection
from resmtnet.active.information import information
from resmtnet.active.information import informative as telling
from resmtnet.active.scores import joint_doubt
from resmtnet.active.strata import strata, stratum_name
from resmtnet.active.study_scores import ScoredStudy
from resmtnet.findings import finite
from resmtnet.types import Array, Json

PATIENT_FACTOR = 0.5
"""What each study of a patient that was read takes from the others of that patient."""
MOST_TOLD = 3
NONE_FOUND = "no candidate was found in it, which is no negative read"


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """A study and what the served version says of its candidates."""

    image: str
    study: ScoredStudy
    patient: str | None = None
    """Pseudonym; None = the study is its own patient."""


@dataclass(frozen=True)
class Chosen:
    """The choice among scored studies, the most wanted first."""

    score: float | None
    """Of the first: what it would tell, or its distance from what was read; None by chance."""
    why: str
    order: tuple[str, ...] = ()
    nodules: tuple[Json, ...] = ()
    """The most telling candidates of the first."""


@lru_cache(maxsize=4096)  # asked again for every study at each call
def worth(study: ScoredStudy) -> Array:
    """How much the model doubts each candidate, times how much that is like a nodule.

    Returns:
        [C] 0..1.
    """
    doubt = joint_doubt(
        np.minimum(study.probability_malignant, 1 - study.probability_malignant),
        study.score_width,
        study.diameter_width,
        study.texture_entropy,
    )
    return np.asarray(doubt * likeness(study))


def likeness(study: ScoredStudy) -> Array:
    """How much each candidate is like a nodule, [C] 0..1.

    Less where it is unlike all training nodules, which most often is no nodule.
    """
    familiar = np.exp(-np.maximum(study.out_of_distribution - 1, 0))
    return np.asarray(np.clip(study.candidate_score, 0, 1) * familiar)


def leading(study: ScoredStudy) -> int:
    """The candidate that speaks for a study, which has at least one."""
    return int(worth(study).argmax())


@dataclass(frozen=True, eq=False)
class Leads:
    """Studies with a candidate, each as the embedding of its leading one."""

    free: tuple[ScoredImage, ...]
    """That may be offered."""
    points: Array
    """[N, D] of these."""
    read: Array
    """[L, D] of those read or on offer."""
    others: tuple[str, ...]
    """Images that may be offered, without a candidate: read last, but not never."""

    @classmethod
    def of(cls, free: Sequence[ScoredImage], done: Sequence[ScoredImage]) -> Leads:
        """Look at studies that may be offered, and at those read or on offer."""
        usable, known = (tuple(k for k in some if k.study.embeddings.size) for some in (free, done))
        points, read = ([k.study.embeddings[leading(k.study)] for k in s] for s in (usable, known))
        width = len(points[0]) if points else 0
        return cls(
            usable,
            np.array(points, float).reshape(len(points), width),
            np.array(read, float).reshape(len(read), -1 if read else width),
            tuple(k.image for k in free if not k.study.embeddings.size),
        )

    def images(self, order: Sequence[int]) -> tuple[str, ...]:
        """All images that may be offered, those with a candidate in this order."""
        return (*(self.free[n].image for n in order), *self.others)


def informative(
    free: Sequence[ScoredImage], done: Sequence[ScoredImage], generator: np.random.Generator
) -> Chosen:
    """The study of which a reading tells most: unlike what was read, and undecided in class.

    A study counts as its leading candidate, times its likeness to a nodule; further studies of a
    patient are worth less. Compared with other choices in docs/experiments/active_learning.md.

    Args:
        free: scored studies that may be offered, at least one.
        done: scored studies that were read, or are on offer.
        generator: decides where no study has a candidate.
    """
    leads = Leads.of(free, done)
    if not leads.free:
        return _by_chance(free, generator)
    project = Projection.of(np.concatenate([leads.points, leads.read]))
    x, read = project(leads.points), project(leads.read)
    first_of = [(known.study, leading(known.study)) for known in leads.free]
    told = information(x, read, np.array([s.probability_malignant[n] for s, n in first_of]))
    seen = Counter(known.patient for known in done if known.patient)
    value = told * [likeness(s)[n] for s, n in first_of]
    value = value * [PATIENT_FACTOR ** seen[known.patient or ""] for known in leads.free]
    groups = [known.patient or n for n, known in enumerate(leads.free)]
    order = telling(value, x, read, groups, len(x)).tolist()
    first = leads.free[order[0]].study
    why = f"{_kind(first)}: a reading would tell {told[order[0]]:.2f} nats"
    why += f", that of the median study {np.median(told):.2f}; {_says(first)}"
    return Chosen(float(value[order[0]]), why, leads.images(order), _told(first))


def diverse(
    free: Sequence[ScoredImage], done: Sequence[ScoredImage], generator: np.random.Generator
) -> Chosen:
    """The study whose leading candidate lies farthest from all that were read.

    Args:
        free: scored studies that may be offered, at least one.
        done: scored studies that were read, or are on offer.
        generator: decides where nothing was read yet.
    """
    leads = Leads.of(free, done)
    if not leads.free:
        return _by_chance(free, generator)
    points, read = leads.points, leads.read
    order = selection.k_centre(points, read, len(points)).tolist()
    first = leads.free[order[0]].study
    from_what = read if len(read) else points.mean(0, keepdims=True)
    distance = float(np.sqrt(selection.nearest_squared(points[order[:1]], from_what)[0]))
    what = "those that were read" if len(read) else "the mean of the studies"
    why = f"{_kind(first)}: its embedding lies farthest from {what} (distance {distance:.1f})"
    return Chosen(distance, why, leads.images(order), _told(first))


def _by_chance(free: Sequence[ScoredImage], generator: np.random.Generator) -> Chosen:
    order = generator.permutation(len(free))
    return Chosen(None, NONE_FOUND, tuple(free[n].image for n in order))


def _kind(study: ScoredStudy) -> str:
    at = slice(leading(study), leading(study) + 1)
    return stratum_name(int(strata(study.diameter_mm[at], study.texture[at])[0]))


def _says(study: ScoredStudy) -> str:
    lead = leading(study)
    parts = [f"P(malignant) {study.probability_malignant[lead]:.2f}"]
    parts.append(f"score {study.score[lead]:.1f} (90% interval {study.score_width[lead]:.1f} wide)")
    mm, width = study.diameter_mm[lead], study.diameter_width[lead]
    if np.isfinite(mm) and np.isfinite(width):
        parts.append(f"{mm:.1f} mm (interval by a factor of {np.exp(width):.1f})")
    return "the model says " + ", ".join(parts)


def _told(study: ScoredStudy) -> tuple[Json, ...]:
    value = worth(study)
    return tuple(
        {
            "centre_lps_mm": [finite(mm) for mm in study.centres_lps_mm[n].tolist()],
            "worth": finite(value[n]),
            "candidate_score": finite(study.candidate_score[n]),
            "probability_malignant": finite(study.probability_malignant[n]),
            "malignancy_score": finite(study.score[n]),
            "equivalent_diameter_mm": finite(study.diameter_mm[n]),
            "texture_rating": finite(study.texture[n]),
        }
        for n in selection.best(value, MOST_TOLD).tolist()
    )
