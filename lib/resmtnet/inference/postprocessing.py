"""From what the network says at a point to the finding that is told: pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from resmtnet.characteristics import CLASS, TASKS, TEXTURE, TEXTURE_CLASS
from resmtnet.findings import Characteristic, Finding, Malignancy, Size, Uncertainty
from resmtnet.guidelines import assess
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.mask_growth import VoxelMask
from resmtnet.inference.point import RawPrediction
from resmtnet.inference.sizes import diameter_of, size_of
from resmtnet.network.uncertainty import entropy, mutual_information, softmax
from resmtnet.types import Array, Point

LEAST_DEVIATION = 0.05
"""Of a score's distribution, so that no interval is empty."""
LARGEST_KNOWN_MM = 50.0
"""Long axis of the largest training nodule."""
PROBABLY_NOT = "probably not a nodule"
NO_GUIDELINES: dict[str, Any] = {
    "lung_rads": None,
    "fleischner": None,
    "context": None,
    "assumptions": [],
}


def to_finding(
    seen: RawPrediction,
    calibration: Calibration,
    identifier: str,
    *,
    centre_lps_mm: Point = (0.0, 0.0, 0.0),
    centre_ijk: Point = (0.0, 0.0, 0.0),
    candidate_score: float | None = None,
    context: str | None = None,
    mask: VoxelMask | None = None,
    usual: RawPrediction | None = None,
) -> Finding:
    """Return what is told of a point.

    Args:
        seen: what the network says there, and the measured mask.
        calibration: of the model.
        identifier: id of the finding.
        centre_lps_mm: the point, LPS mm.
        centre_ijk: the same in voxels.
        candidate_score: None for a point that somebody asked for.
        context: of the guideline category, one of guidelines.CONTEXTS; None for no category.
        mask: the measured one.
        usual: the same with the mask of the calibration without the site's habit, on which the
            guideline category rests; None where no habit moves the mask.
    """
    measured = seen.measured
    usual_calibration = calibration.without_habit()
    usual_size = size_of(seen if usual is None else usual, usual_calibration)[0]
    found_size, size_warnings = size_of(seen, calibration)
    doubts = uncertainty(seen, calibration)
    ratings = characteristics(seen.observation, calibration)
    probability = float(calibration.probability_malignant(seen.observation.outputs))
    outside = doubts.out_of_distribution > 1
    warnings = [*seen.notes, *size_warnings]
    if seen.cut:
        warnings.append("the nodule is larger than the patch: it is measured only in part")
    if measured is not None and measured.long_axis_mm > LARGEST_KNOWN_MM:
        warnings.append(
            f"a mass of more than {LARGEST_KNOWN_MM:.0f} mm, larger than any nodule that the model "
            "was trained on: check what is measured"
        )
    if outside:
        warnings.append("unlike the nodules that the model was trained on: do not rely on it")
    confirmed = candidate_score is None
    nodule = calibration.probability_nodule(seen.observation.outputs, candidate=not confirmed)
    improbable = confirmed and is_improbable(nodule, calibration)
    if improbable:
        warnings.append(PROBABLY_NOT)
    unsure = outside or measured is None or improbable
    return Finding(
        id=identifier,
        source="point" if candidate_score is None else "candidate",
        centre_lps_mm=centre_lps_mm,
        centre_ijk=centre_ijk,
        class_name=class_name(probability, calibration, doubtful=unsure),
        probability_malignant=probability,
        malignancy=malignancy(seen, calibration),
        size=found_size,
        characteristics=ratings,
        uncertainty=doubts,
        guidelines=_with_note(
            guideline_category(
                context,
                ratings[TEXTURE.name],
                usual_size,
                confirmed=confirmed,
                reliable=not (unsure or seen.cut),
            ),
            usual_size,
            found_size,
        ),
        candidate_score=candidate_score,
        nodule_probability=nodule,
        centroid_lps_mm=measured.centroid_lps_mm if measured else None,
        warnings=tuple(warnings),
        embedding=seen.observation.embedding,
        mask=mask.mask if mask else None,
        start_ijk=mask.start_ijk if mask else None,
        long_axis_lps_mm=measured.long_axis_ends_lps_mm if measured else None,
        short_axis_lps_mm=measured.short_axis_ends_lps_mm if measured else None,
    )


def is_improbable(nodule_probability: float | None, calibration: Calibration) -> bool:
    """Return whether a clicked point is told to be probably no nodule.

    Args:
        nodule_probability: None where the model has no such task: nothing is known against it.
        calibration: of the model.
    """
    presence = calibration.nodule
    if presence is None or nodule_probability is None:
        return False
    return nodule_probability < presence.click_threshold


def guideline_category(
    context: str | None, texture: Characteristic, size: Size, *, confirmed: bool, reliable: bool
) -> dict[str, Any]:
    """Return the "guidelines" block of a finding.

    Args:
        context: one of guidelines.CONTEXTS; None for no category.
        texture: with the probability of each class.
        size: of the nodule.
        confirmed: somebody asked for this point; a candidate of a search gets no category.
        reliable: the nodule is like the training nodules and was measured whole.
    """
    if context is None:
        return NO_GUIDELINES
    if not confirmed or not reliable:
        note = (
            "no category: the finding is unlike the training data, or not measured whole"
            if confirmed
            else "an unconfirmed candidate gets no category"
        )
        return {**NO_GUIDELINES, "context": context, "assumptions": [note]}
    return assess(
        context,
        texture.probabilities,
        size.mean_diameter_mm,
        size.interval_90.get("mean_diameter_mm"),
        size.solid_component_mm,
        size.interval_90.get("solid_component_mm"),
    ).to_json()


def _with_note(category: dict[str, Any], usual: Size, told: Size) -> dict[str, Any]:
    """Say where a category rests on another size than the one that is told."""
    mm = usual.mean_diameter_mm
    if not category["assumptions"] or mm is None or mm == told.mean_diameter_mm:
        return category
    note = f"mean diameter without the habit of this site's readers: {mm:.1f} mm"
    return {**category, "assumptions": [*category["assumptions"], note]}


def class_name(probability_malignant: float, calibration: Calibration, *, doubtful: bool) -> str:
    """Name the class, or "indeterminate" where neither class reaches the threshold.

    Args:
        probability_malignant: calibrated.
        calibration: holds the threshold.
        doubtful: the input is out of distribution, or shows no nodule.
    """
    if (
        doubtful
        or max(probability_malignant, 1 - probability_malignant) < calibration.decision_threshold
    ):
        return "indeterminate"
    return "malignant" if probability_malignant >= 0.5 else "benign"


def malignancy(seen: RawPrediction, calibration: Calibration) -> Malignancy:
    """Return the readers' rating: its distribution, mean and 90% interval."""
    shares = calibration.malignancy(seen.observation.outputs)
    score, deviation = score_and_deviation(shares)
    widths = calibration.score_widths
    half = widths.at(diameter_of(seen)) * deviation if widths else 4.0
    low, high = max(1.0, score - half), min(5.0, score + half)
    return Malignancy(score, (low, high), tuple(float(p) for p in shares))


def score_and_deviation(shares: Array) -> tuple[float, float]:
    """Return mean and standard deviation of ratings 1..n with the given shares.

    >>> score_and_deviation(np.array([0.5, 0.0, 0.5]))
    (2.0, 1.0)
    """
    levels = np.arange(1, len(shares) + 1)
    mean = float(shares @ levels)
    variance = float(shares @ (levels - mean) ** 2)
    return mean, max(LEAST_DEVIATION, variance**0.5)


def uncertainty(seen: RawPrediction, calibration: Calibration) -> Uncertainty:
    """Return entropy and disagreement of the class, and how unlike the training nodules it is.

    The entropy is that of the answer. Members disagree, each averaged over its views; a single
    member's views stand in for members.
    """
    views = seen.observation.views
    members = len(views[CLASS.name])
    voices = {k: v.mean(1) if members > 1 else v[0] for k, v in views.items()}
    each = calibration.probability_malignant(voices)
    all_of_them = float(calibration.probability_malignant(seen.observation.outputs))
    return Uncertainty(
        entropy=float(entropy(np.array([1 - all_of_them, all_of_them]))),
        mutual_information=mutual_information(np.stack([1 - each, each], 1)),
        out_of_distribution=calibration.out_of_distribution.score(seen.observation, seen.mask_mean),
    )


def characteristics(observation: RawOutputs, calibration: Calibration) -> dict[str, Characteristic]:
    """Return the further ratings; texture carries the three classes and the mean rating."""
    found: dict[str, Characteristic] = {}
    for task in TASKS:
        if task.kind == "size" or task.name in (CLASS.name, TEXTURE_CLASS.name, "malignancy"):
            continue
        shares = softmax(observation.outputs[task.name])
        rating = score_and_deviation(shares)[0] if task.kind == "ordinal" else None
        levels, named = task.levels, int(shares.argmax())
        if task is TEXTURE:
            shares = calibration.texture.probabilities(observation.outputs[TEXTURE_CLASS.name])
            levels, named = TEXTURE_CLASS.levels, calibration.texture.named(shares)
        probabilities = {name: float(p) for name, p in zip(levels, shares, strict=True)}
        found[task.name] = Characteristic(levels[named], rating, probabilities)
    return found
