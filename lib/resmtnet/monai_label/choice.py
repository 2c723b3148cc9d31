"""Which of several scored studies to read next, and why, in words; no server in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from resmtnet.active import selection
from resmtnet.active.scores import joint_doubt
from resmtnet.active.strata import strata, stratum_name
from resmtnet.findings import Json, finite
from resmtnet.monai_label.study_scores import ScoredStudy

TILT = 0.5
"""Of the strata, see active.selection.tilted; chosen in docs/experiments/active_learning.md."""
LEAST_WORTH = 0.02
"""Of a study without candidates, or with nothing like a nodule: read last, but not never."""
PATIENT_FACTOR = 0.5
"""What each study of a patient that was read takes from the others of that patient."""
MOST_TOLD = 3
NONE_FOUND = "no candidate was found in it, which is no negative read"

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """A study and what the served version says of its candidates."""

    image: str
    study: ScoredStudy
    patient: str | None = None
    """Pseudonym; None = the study is its own patient."""


@dataclass(frozen=True)
class Chosen:
    """The choice among scored studies, the most wanted first."""

    score: float | None
    """Of the first: its worth, 0..1, or its distance from what was read; None by chance."""
    why: str
    order: tuple[str, ...] = ()
    nodules: tuple[Json, ...] = ()
    """The most telling candidates of the first."""


@lru_cache(maxsize=4096)  # asked again for every study at each call
def worth(study: ScoredStudy) -> Array:
    """How much each candidate would teach: what the model doubts, where it may be a nodule.

    Returns:
        [C] 0..1: doubt about class, score, size and texture together, times how much it looks like
        a nodule, less where it is unlike all training nodules, which most often is no nodule.
    """
    doubt = joint_doubt(
        np.minimum(study.probability_malignant, 1 - study.probability_malignant),
        study.score_width,
        study.diameter_width,
        study.texture_entropy,
    )
    familiar = np.exp(-np.maximum(study.out_of_distribution - 1, 0))
    return np.asarray(doubt * np.clip(study.candidate_score, 0, 1) * familiar)


def leading(study: ScoredStudy) -> int | None:
    """The candidate that would teach most; None without candidates."""
    return int(worth(study).argmax()) if len(study) else None


def informative(
    free: Sequence[Known], done: Sequence[Known], generator: np.random.Generator
) -> Chosen:
    """Stratified random, tilted to rare strata, and within a stratum to what the model doubts.

    The stratum of a study is that of its leading candidate: size band x texture, predicted. Further
    studies of a patient are worth less.

    Args:
        free: scored studies that may be offered, at least one.
        done: scored studies that were read, or are on offer.
        generator: draws.
    """
    seen = Counter(known.patient for known in done if known.patient)
    factors = [PATIENT_FACTOR ** seen[known.patient or ""] for known in free]
    values = np.array([_study_worth(known.study) for known in free]) * factors
    groups = [_stratum(known.study) for known in free]
    taken = [_stratum(known.study) for known in done]
    drawn = selection.tilted(groups, taken, 1, generator, TILT, values)
    rest = [n for n in np.argsort(-values).tolist() if n != drawn[0]]
    first = int(drawn[0])
    share, had = _shares(groups[first], groups, taken)
    why = f"{_kind(free[first].study)}: {share:.0%} of the studies not read yet"
    why += f", {had:.0%} of those that were read" if done else ""
    return Chosen(
        float(values[first]),
        f"{why}; {_doubts(free[first].study)}",
        tuple(free[n].image for n in (first, *rest)),
        _told(free[first].study),
    )


def diverse(free: Sequence[Known], done: Sequence[Known], generator: np.random.Generator) -> Chosen:
    """The study whose leading candidate lies farthest from all that were read.

    Args:
        free: scored studies that may be offered, at least one.
        done: scored studies that were read, or are on offer.
        generator: decides where nothing was read yet.
    """
    usable = [known for known in free if len(known.study) and known.study.embeddings.size]
    if not usable:
        order = generator.permutation(len(free))
        return Chosen(None, NONE_FOUND, tuple(free[n].image for n in order))
    points = np.stack([_leading_embedding(known.study) for known in usable])
    read = [_leading_embedding(known.study) for known in done if known.study.embeddings.size]
    given = np.stack(read) if read else np.zeros((0, points.shape[1]))
    order = selection.k_centre(points, given, len(points))
    first = usable[int(order[0])].study
    from_what = given if len(given) else points.mean(0, keepdims=True)
    distance = float(np.sqrt(selection.nearest_squared(points[order[:1]], from_what)[0]))
    what = "those that were read" if len(given) else "the mean of the studies"
    last = [known.image for known in free if known not in usable]
    return Chosen(
        distance,
        f"{_kind(first)}: its embedding lies farthest from {what} (distance {distance:.1f})",
        (*(usable[n].image for n in order.tolist()), *last),
        _told(first),
    )


def _study_worth(study: ScoredStudy) -> float:
    return max(LEAST_WORTH, float(worth(study).max(initial=0.0)))


@lru_cache(maxsize=4096)
def _stratum(study: ScoredStudy) -> int:
    """Number of the stratum of a study, from 1 on; 0 without candidates."""
    lead = leading(study)
    if lead is None:
        return 0
    at = slice(lead, lead + 1)
    return 1 + int(strata(study.diameter_mm[at], study.texture[at])[0])


def _shares(group: int, free: Sequence[int], done: Sequence[int]) -> tuple[float, float]:
    return free.count(group) / len(free), done.count(group) / max(len(done), 1)


def _leading_embedding(study: ScoredStudy) -> Array:
    lead = leading(study)
    assert lead is not None  # for the type checker: asked of studies with candidates only
    return np.asarray(study.embeddings[lead])


def _kind(study: ScoredStudy) -> str:
    stratum = _stratum(study)
    return stratum_name(stratum - 1) if stratum else "no candidate"


def _doubts(study: ScoredStudy) -> str:
    lead = leading(study)
    if lead is None:
        return NONE_FOUND
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
