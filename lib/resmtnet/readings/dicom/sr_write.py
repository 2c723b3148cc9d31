"""Writes DICOM SR (TID 1500, Enhanced SR): for each nodule what was measured and rated.

Each nodule has two groups. The first (TID 1501) holds the two axes in the form that OHIF lets a
reader edit, and the label that OHIF shows. The second (TID 1410) is for reading only: sizes, score,
characteristics, guideline category. PS3.16 TID 1500.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    FindingSite,
    ImageContentItem,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    ScoordContentItem,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from resmtnet.characteristics import LIDC_RATINGS, MALIGNANCY
from resmtnet.errors import InputError
from resmtnet.readings.dicom.codes import (
    CATEGORY,
    CHEST_CT,
    CLASSES,
    COMMENT,
    CORNERSTONE,
    CUBIC_MILLIMETRE,
    LONG_AXIS,
    LUNG,
    MALIGNANCY_CONCEPT,
    MANUFACTURER,
    MEAN,
    MILLIMETRE,
    MODEL_NAME,
    NODULE,
    NODULE_CLASS,
    PROBABILITY,
    RESEARCH,
    SHORT_AXIS,
    SIZES,
    SOURCE,
    UNITY,
    category_code,
    concept,
    level,
)
from resmtnet.readings.dicom.identity import Author, ObjectPlace, person_name
from resmtnet.readings.dicom.nodule import Line, ResultNodule, new_tracking_uid
from resmtnet.readings.dicom.source_series import SourceSeries

RATINGS = {task.name: task for task in LIDC_RATINGS}


def write_sr(
    nodules: Sequence[ResultNodule], source: SourceSeries, author: Author, place: ObjectPlace
) -> Dataset:
    """Return an SR of nodules.

    Args:
        nodules: at least one.
        source: the CT.
        author: the model, or the reader.
        place: within the study; its predecessor is named in the SR.

    Raises:
        InputError: there is no nodule.
    """
    if not nodules:
        raise InputError("there is no nodule to store as DICOM SR")
    groups = []
    for nodule in nodules:
        axes = editable_axes(nodule, source)
        if axes is not None:
            groups.append(_editable_group(nodule, axes, source, author))
        groups.append(_numbers_group(nodule, axes, source, author))
    used = {header.SOPInstanceUID: header for one in nodules for header in _images(one, source)}
    report = MeasurementReport(
        observation_context=_context(author),
        procedure_reported=CHEST_CT,
        imaging_measurements=groups,
        referenced_images=list(used.values()),
    )
    sr = EnhancedSR(
        evidence=list(used.values()),
        content=report[0],
        series_instance_uid=place.series_uid,
        series_number=place.series_number,
        sop_instance_uid=generate_uid(),
        instance_number=place.instance_number,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=None if place.predecessor is None else [place.predecessor],
        series_description=f"{MANUFACTURER} nodules, RESEARCH",
    )
    sr.ManufacturerModelName = MODEL_NAME
    return sr


def editable_axes(nodule: ResultNodule, source: SourceSeries) -> tuple[Line, Line] | None:
    """Return the axes that can be drawn on a slice of the series; None where there are none."""
    long, short = nodule.long_axis_lps_mm, nodule.short_axis_lps_mm
    if long is None or short is None or not source.in_one_slice(*long, *short):
        return None
    return long, short


def _images(nodule: ResultNodule, source: SourceSeries) -> list[Dataset]:
    axes = editable_axes(nodule, source)
    points = [nodule.centre_lps_mm] if axes is None else [axes[0][0]]
    return [source.nearest(point)[0] for point in points]


def _context(author: Author) -> ObservationContext:
    person = device = None
    if author.reader is not None:
        person = ObserverContext(
            codes.DCM.Person, PersonObserverIdentifyingAttributes(name=person_name(author.reader))
        )
    else:
        device = ObserverContext(
            codes.DCM.Device,
            DeviceObserverIdentifyingAttributes(
                uid=new_tracking_uid(MANUFACTURER, author.model.sha256 if author.model else ""),
                name=MANUFACTURER,
                manufacturer_name=MANUFACTURER,
                model_name=MODEL_NAME,
            ),
        )
    return ObservationContext(observer_person_context=person, observer_device_context=device)


def _algorithm(author: Author) -> AlgorithmIdentification | None:
    if author.model is None:
        return None
    return AlgorithmIdentification(
        name=author.model.name,
        version=author.model.version,
        parameters=[f"sha256={author.model.sha256}", RESEARCH],
    )


def _editable_group(
    nodule: ResultNodule, axes: tuple[Line, Line], source: SourceSeries, author: Author
) -> MeasurementsAndQualitativeEvaluations:
    image = source.nearest(axes[0][0])[0]
    measurements = [
        _drawn(name, line, image, source)
        for name, line in ((LONG_AXIS, axes[0]), (SHORT_AXIS, axes[1]))
    ]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(nodule.tracking_uid, CORNERSTONE),
        finding_type=NODULE,
        algorithm_id=_algorithm(author),
        finding_sites=[FindingSite(LUNG)],
        measurements=measurements,
        source_images=[SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)],
    )
    group[0].ContentSequence.append(_text(COMMENT, nodule.label))
    return group


def _drawn(name: Code, line: Line, image: Dataset, source: SourceSeries) -> Measurement:
    """A length with the line that it was measured on, which highdicom 0.22 cannot write."""
    one, other = (source.nearest(point)[1] for point in line)
    measurement = Measurement(name, _number(math.dist(*line)), MILLIMETRE)
    region = ScoordContentItem(
        name=_coded(SOURCE),
        graphic_type="POLYLINE",
        graphic_data=np.array([one, other]),
        relationship_type=RelationshipTypeValues.INFERRED_FROM,
    )
    region.ContentSequence = [
        ImageContentItem(
            name=_coded(SOURCE),
            referenced_sop_class_uid=image.SOPClassUID,
            referenced_sop_instance_uid=image.SOPInstanceUID,
            relationship_type=RelationshipTypeValues.SELECTED_FROM,
        )
    ]
    number = measurement[0]
    if "ContentSequence" not in number:
        number.ContentSequence = []
    number.ContentSequence = [*number.ContentSequence, region]
    return measurement


def _numbers_group(
    nodule: ResultNodule, axes: tuple[Line, Line] | None, source: SourceSeries, author: Author
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    image, centre = source.nearest(axes[0][0] if axes else nodule.centre_lps_mm)
    kind, points = "POINT", np.array([centre])
    if axes is not None:
        kind, points = "POLYLINE", np.array([source.nearest(point)[1] for point in axes[0]])
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(numbers_uid(nodule.tracking_uid), nodule.name),
        referenced_region=ImageRegion(
            kind, points, SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
        ),
        finding_type=NODULE,
        algorithm_id=_algorithm(author),
        finding_sites=[FindingSite(LUNG)],
        measurements=_measurements(nodule),
        qualitative_evaluations=_evaluations(nodule),
    )
    texts = [nodule.label, *nodule.warnings]
    for text in texts:
        group[0].ContentSequence.append(_text(COMMENT, text))
    return group


def numbers_uid(tracking_uid: str) -> str:
    """Return the tracking UID of the group for reading only; OHIF joins groups of one UID."""
    return new_tracking_uid(tracking_uid, "numbers")


def _measurements(nodule: ResultNodule) -> list[Measurement]:
    found = [
        Measurement(
            SIZES[name],
            _number(value),
            CUBIC_MILLIMETRE if name.endswith("mm3") else MILLIMETRE,
            derivation=MEAN if name == "mean_diameter_mm" else None,
        )
        for name, value in nodule.sizes.items()
    ]
    if nodule.malignancy is not None:
        found.append(Measurement(MALIGNANCY_CONCEPT, _number(nodule.malignancy), UNITY))
    if nodule.probability_malignant is not None:
        found.append(Measurement(PROBABILITY, _number(nodule.probability_malignant), UNITY))
    return found


def _evaluations(nodule: ResultNodule) -> list[QualitativeEvaluation]:
    found = []
    if nodule.class_name is not None:
        found.append(QualitativeEvaluation(NODULE_CLASS, CLASSES[nodule.class_name]))
    levels = dict(nodule.characteristics)
    if nodule.malignancy is not None:
        levels[MALIGNANCY.name] = min(max(round(nodule.malignancy), 1), 5)
    for name, number in levels.items():
        task = RATINGS[name]
        found.append(QualitativeEvaluation(concept(task), level(task, number)))
    if nodule.category is not None:
        found.append(QualitativeEvaluation(CATEGORY, category_code(*nodule.category)))
    return found


def _text(name: Code, text: str) -> TextContentItem:
    return TextContentItem(
        name=_coded(name), value=text, relationship_type=RelationshipTypeValues.CONTAINS
    )


def _number(value: float) -> float:
    """A number that a Decimal String of 16 characters holds."""
    return float(f"{value:.6g}")


def _coded(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme_designator, code.meaning)
