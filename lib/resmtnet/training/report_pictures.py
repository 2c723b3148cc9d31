"""Pictures of nodules for the report: the readers' outline, the model's, and what it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.volume import CTVolume
from resmtnet.data.archive import Archive, Nodule
from resmtnet.data.volumes import nodule_ct
from resmtnet.evaluation.occlusion import occlusion
from resmtnet.evaluation.pictures import SlicePicture
from resmtnet.evaluation.records import Answered, Case, Prediction
from resmtnet.evaluation.worst import WORST, worst_ids
from resmtnet.findings import Finding
from resmtnet.inference.protocol import AnswersPoints
from resmtnet.types import Json, PartProgress, Point

SHOWN_MM = 25.0
"""Half edge of a picture."""


@dataclass(frozen=True)
class Pictures:
    """How many nodules the report shows; 0 for none."""

    worst: int = WORST
    """Of the worst cases, with both outlines."""
    saliency: int = 6
    """With what the model looks at; each asks the model 82 times."""


def consensus(
    archive: Archive, nodule: Nodule, ct: CTVolume, centre_lps_mm: Point
) -> NDArray[np.float64]:
    """Return the share of readers on the voxels of nodule_ct, [k, j, i]; 0 where it continues."""
    share = archive.mask(nodule) / 255.0
    at_k = ct.geometry.lps_to_ijk(centre_lps_mm)[2]
    below = round(float(at_k) - nodule.centre_kji[0])
    above = ct.shape_kji[0] - below - len(share)
    return np.pad(share, ((below, above), (0, 0), (0, 0)))


def whole_mask(finding: Finding, shape_kji: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return a finding's mask on all voxels of its CT, [k, j, i], or None without one."""
    if finding.mask is None or finding.start_ijk is None:
        return None
    whole = np.zeros(shape_kji, bool)
    place = zip(finding.start_ijk[::-1], finding.mask.shape, strict=True)
    whole[tuple(slice(start, start + size) for start, size in place)] = finding.mask != 0
    return whole


def draw_nodules(
    archive: Archive,
    answered: Sequence[Answered],
    document: Json,
    model: AnswersPoints,
    pictures: Pictures,
    tell: PartProgress = lambda what, done, of: None,
) -> list[SlicePicture]:
    """Return pictures of the worst cases, and what the model looks at in a few others.

    Args:
        archive: holds the voxels.
        answered: nodules with the model's answers.
        document: of schema resmtnet.metrics/3, made from them.
        model: is asked again for these nodules.
        pictures: how many.
        tell: called with what is done, how much of it, and of how much.
    """
    nodules = {nodule.id: nodule for nodule in archive.nodules}
    captions = {case.id: _caption(case, prediction) for case, prediction in answered}
    worst = worst_ids(document["worst_cases"], pictures.worst)
    salient = _spread(answered, pictures.saliency)
    drawn = []
    for done, name in enumerate(worst + salient, start=1):
        explain = done > len(worst)
        drawn.append(_picture(archive, nodules[name], model, captions[name], explain=explain))
        tell("pictures", done, len(worst) + len(salient))
    return drawn


def _spread(answered: Sequence[Answered], count: int) -> list[str]:
    """Return nodules whose probabilities are spread over those given."""
    ordered = sorted(answered, key=lambda pair: (pair[1].probability_malignant, pair[0].id))
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[place][0].id for place in places]


def _picture(
    archive: Archive, nodule: Nodule, model: AnswersPoints, caption: str, *, explain: bool
) -> SlicePicture:
    ct, centre_lps_mm = nodule_ct(archive, nodule)
    finding = model(ct, [centre_lps_mm])[0]
    share = consensus(archive, nodule, ct, centre_lps_mm)
    mask = whole_mask(finding, share.shape)
    i, j, k = (float(n) for n in ct.geometry.lps_to_ijk(centre_lps_mm))
    (dx, dy, _), level = ct.geometry.spacing_mm, round(k)
    rows = slice(max(0, round(j - SHOWN_MM / dy)), round(j + SHOWN_MM / dy) + 1)
    columns = slice(max(0, round(i - SHOWN_MM / dx)), round(i + SHOWN_MM / dx) + 1)

    def probability_of(changed: CTVolume, point: Point) -> float:
        return model(changed, [point])[0].probability_malignant

    return SlicePicture(
        id=nodule.id,
        caption=caption,
        hu=ct.array()[level, rows, columns],
        pixel_mm=(dy, dx),
        centre_px=(j - rows.start, i - columns.start),
        readers=share[level, rows, columns],
        model=None if mask is None else mask[level, rows, columns],
        added=occlusion(probability_of, ct, centre_lps_mm) if explain else None,
    )


def _caption(case: Case, answer: Prediction) -> str:
    ratings = " ".join(str(rating) for rating in case.malignancy) or "none"
    given = answer.equivalent_diameter_mm
    size = "not measured" if given is None else f"{given:.1f} mm"
    return (
        f"readers {ratings}, {case.equivalent_diameter_mm:.1f} mm, "
        f"{case.texture_class or 'texture not rated'}; model {answer.class_name} "
        f"{answer.probability_malignant:.0%}, score {answer.score:.1f}, {size}"
    )
