"""A nodule of an archive, and what a model says of it, as rows of the evaluation."""

from __future__ import annotations

import statistics

from resmtnet.characteristics import TEXTURE
from resmtnet.data.archive import Nodule
from resmtnet.evaluation.records import (
    Case,
    Prediction,
)
from resmtnet.findings import Finding


def case_of(nodule: Nodule) -> Case:
    """Return what the readers say of a nodule."""
    texture = nodule.given(TEXTURE.name)
    return Case(
        id=nodule.id,
        patient_id=nodule.patient_id,
        malignancy=nodule.malignancy,
        equivalent_diameter_mm=nodule.equivalent_diameter_mm,
        long_axis_mm=nodule.long_axis_mm,
        texture_rating=statistics.fmean(texture) if texture else None,
        slice_thickness_mm=nodule.slice_thickness_mm,
        split=nodule.split,
        fold=nodule.fold,
        context=nodule.context,
        texture_ratings=texture,
        reader_volumes_mm3=nodule.reader_volumes_mm3,
        reader_long_axes_mm=nodule.reader_long_axes_mm,
        reader_short_axes_mm=nodule.reader_short_axes_mm,
        reader_dice=nodule.reader_dice,
    )


def prediction_of(finding: Finding, dice: float | None = None) -> Prediction:
    """Return what the evaluation needs of a finding, and the overlap of its mask if known."""
    texture = finding.characteristics.get(TEXTURE.name)
    size = finding.size
    return Prediction(
        probability_malignant=finding.probability_malignant,
        class_name=finding.class_name,
        score=finding.malignancy.score,
        score_interval=finding.malignancy.interval_90,
        equivalent_diameter_mm=size.equivalent_diameter_mm,
        equivalent_diameter_interval_mm=size.interval_90.get("equivalent_diameter_mm"),
        volume_mm3=size.volume_mm3,
        long_axis_mm=size.long_axis_mm,
        mean_diameter_mm=size.mean_diameter_mm,
        entropy=finding.uncertainty.entropy,
        out_of_distribution=finding.uncertainty.out_of_distribution,
        texture_class=texture.name if texture else None,
        warnings=len(finding.warnings),
        short_axis_mm=size.short_axis_mm,
        long_axis_interval_mm=size.interval_90.get("long_axis_mm"),
        mutual_information=finding.uncertainty.mutual_information,
        mask_dice=dice,
    )
