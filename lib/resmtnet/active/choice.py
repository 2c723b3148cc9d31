"""Chooses which scored study to read next, and says why in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from resmtnet.active import selection
from resmtnet.active.features import Projection
from resmtnet.active.information import information, weight_of_small
from resmtnet.active.information import informative as in_order_of_information
from resmtnet.active.scores import joint_doubt
from resmtnet.active.strata import strata, stratum_name
from resmtnet.active.study_scores import ScoredStudy
from resmtnet.findings import finite
from resmtnet.types import Array, Json

PATIENT_FACTOR = 0.5
"""Each study of a patient that was read multiplies the value of that patient's others by this."""
MOST_SHOWN = 3
"""Candidates that are listed in the reply."""
SMALL_FIRST = "Small nodules that may be malignant count more. "
NONE_FOUND = "No nodule candidate was found in this study; it has not been read yet."


@dataclass(frozen=True)
class Chosen:
    """Studies in the order in which they should be read."""

    score: float | None
    """Of the first study: expected information, or distance from those read; None if random."""
    why: str
    """A sentence for the reader about the first study."""
    order: tuple[str, ...] = ()
    """Image ids."""
    nodules: tuple[Json, ...] = ()
    """The candidates of the first study that are worth most."""


@lru_cache(maxsize=4096)  # asked again for every study at each call
def worth(study: ScoredStudy) -> Array:
    """Return the model's doubt about each candidate, times how much it looks like a nodule.

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
    """Return how much each candidate looks like a nodule, [C] 0..1.

    Candidates unlike all training nodules count less: most of them are no nodules.
    """
    familiar = np.exp(-np.maximum(study.out_of_distribution - 1, 0))
    return np.asarray(np.clip(study.candidate_score, 0, 1) * familiar)


def leading(study: ScoredStudy) -> int:
    """Return the index of the candidate that represents a study; the study has at least one."""
    return int(worth(study).argmax())


@dataclass(frozen=True, eq=False)
class Leads:
    """Studies that have candidates, each represented by the embedding of its leading candidate."""

    free: tuple[ScoredStudy, ...]
    """Studies that may be offered and have a candidate."""
    points: Array
    """[N, D] embeddings of these."""
    read: Array
    """[L, D] embeddings of studies that were read or are on offer."""
    others: tuple[str, ...]
    """Images without a candidate that may be offered: they come last."""

    @classmethod
    def of(cls, free: Sequence[ScoredStudy], done: Sequence[ScoredStudy]) -> Leads:
        """Collect the leading candidates.

        Args:
            free: studies that may be offered.
            done: studies that were read or are on offer.
        """
        usable, known = (tuple(s for s in some if s.embeddings.size) for some in (free, done))
        points, read = ([s.embeddings[leading(s)] for s in some] for some in (usable, known))
        width = len(points[0]) if points else 0
        return cls(
            usable,
            np.array(points, float).reshape(len(points), width),
            np.array(read, float).reshape(len(read), -1 if read else width),
            tuple(s.image for s in free if not s.embeddings.size),
        )

    def images(self, order: Sequence[int]) -> tuple[str, ...]:
        """Return the images that have a candidate, in this order, and then the others."""
        return (*(self.free[n].image for n in order), *self.others)


def informative(
    free: Sequence[ScoredStudy], done: Sequence[ScoredStudy], generator: np.random.Generator
) -> Chosen:
    """Choose the study whose reading is expected to give the most information.

    That is one unlike those that were read, and with an undecided class. A study counts by its
    leading candidate, times how much that looks like a nodule; small ones that may be malignant
    count more, further studies of a patient less. Compared with other choices in
    docs/experiments/active_learning.md.

    Args:
        free: scored studies that may be offered, at least one.
        done: scored studies that were read, or are on offer.
        generator: for a random choice where no study has a candidate.
    """
    leads = Leads.of(free, done)
    if not leads.free:
        return _at_random(free, generator)
    project = Projection.of(np.concatenate([leads.points, leads.read]))
    x, read = project(leads.points), project(leads.read)
    lead_of = [(study, leading(study)) for study in leads.free]
    likely = np.array([s.probability_malignant[n] for s, n in lead_of])
    expected = information(x, read, likely)
    weight = weight_of_small(np.array([s.diameter_mm[n] for s, n in lead_of]), likely)
    seen = Counter(study.patient for study in done if study.patient)
    value = expected * weight * [likeness(study)[n] for study, n in lead_of]
    value = value * [PATIENT_FACTOR ** seen[study.patient or ""] for study in leads.free]
    groups = [study.patient or n for n, study in enumerate(leads.free)]
    order = in_order_of_information(value, x, read, groups, len(x)).tolist()
    first = leads.free[order[0]]
    why = (
        f"{_kind(first)}. Expected information {expected[order[0]]:.2f} "
        f"(median study {np.median(expected):.2f}). "
        f"{SMALL_FIRST if weight[order[0]] > 1 else ''}{_answer(first)}"
    )
    return Chosen(float(value[order[0]]), why, leads.images(order), _shown(first))


def diverse(
    free: Sequence[ScoredStudy], done: Sequence[ScoredStudy], generator: np.random.Generator
) -> Chosen:
    """Choose the study whose leading candidate is least like all that were read.

    Args:
        free: scored studies that may be offered, at least one.
        done: scored studies that were read, or are on offer.
        generator: for a random choice where no study has a candidate.
    """
    leads = Leads.of(free, done)
    if not leads.free:
        return _at_random(free, generator)
    points, read = leads.points, leads.read
    order = selection.k_centre(points, read, len(points)).tolist()
    first = leads.free[order[0]]
    others = read if len(read) else points.mean(0, keepdims=True)
    distance = float(np.sqrt(selection.nearest_squared(points[order[:1]], others)[0]))
    what = "the studies that were read" if len(read) else "the average study"
    why = f"{_kind(first)}. Least like {what} (embedding distance {distance:.1f})."
    return Chosen(distance, why, leads.images(order), _shown(first))


def _at_random(free: Sequence[ScoredStudy], generator: np.random.Generator) -> Chosen:
    order = generator.permutation(len(free))
    return Chosen(None, NONE_FOUND, tuple(free[n].image for n in order))


def _kind(study: ScoredStudy) -> str:
    """Return texture and size of the leading candidate in words."""
    at = slice(leading(study), leading(study) + 1)
    name = stratum_name(int(strata(study.diameter_mm[at], study.texture[at])[0]))
    return name[0].upper() + name[1:]


def _answer(study: ScoredStudy) -> str:
    """Return the model's answer for the leading candidate in words."""
    lead = leading(study)
    parts = [
        f"P(malignant) {study.probability_malignant[lead]:.2f}",
        f"score {study.score[lead]:.1f} (90% interval {study.score_width[lead]:.1f} wide)",
    ]
    mm, width = study.diameter_mm[lead], study.diameter_width[lead]
    if np.isfinite(mm) and np.isfinite(width):
        parts.append(f"{mm:.1f} mm (upper end of the interval {np.exp(width):.1f} x the lower)")
    return f"The model's answer: {', '.join(parts)}."


def _shown(study: ScoredStudy) -> tuple[Json, ...]:
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
        for n in selection.best(value, MOST_SHOWN).tolist()
    )
