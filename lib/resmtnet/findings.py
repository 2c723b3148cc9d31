"""What the package says of a nodule, and its JSON: schema resmtnet.findings/1, both ways."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import LABEL_NAMES
from resmtnet.types import Json, Point

SCHEMA = "resmtnet.findings/1"
LABEL_BASIS = "reader_rating"

Interval = tuple[float, float]

SIZE_NAMES = (
    "long_axis_mm",
    "short_axis_mm",
    "mean_diameter_mm",
    "equivalent_diameter_mm",
    "volume_mm3",
    "solid_component_mm",
)


def finite(value: float | None, digits: int = 4) -> float | None:
    """Return the number rounded for JSON, or None where it is missing or not finite.

    >>> finite(1.23456), finite(float("nan")), finite(None)
    (1.2346, None, None)
    """
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)


def _interval(value: Sequence[float]) -> list[float | None]:
    return [finite(bound) for bound in value]


@dataclass(frozen=True)
class Size:
    """Extent of a nodule, mm and mm3; None where it could not be measured."""

    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    mean_diameter_mm: float | None = None
    equivalent_diameter_mm: float | None = None
    volume_mm3: float | None = None
    solid_component_mm: float | None = None
    interval_90: Mapping[str, Interval] = field(default_factory=dict)
    """Interval of each size by its name; a name that has none is missing."""

    def to_json(self) -> Json:
        """Return the "size" block."""
        values: Json = {name: finite(getattr(self, name)) for name in SIZE_NAMES}
        values["interval_90"] = {name: _interval(i) for name, i in self.interval_90.items()}
        return values

    @classmethod
    def from_json(cls, block: Json) -> Size:
        """Read the "size" block."""
        intervals = {name: (low, high) for name, (low, high) in block["interval_90"].items()}
        return cls(**{name: block.get(name) for name in SIZE_NAMES}, interval_90=intervals)


@dataclass(frozen=True)
class Malignancy:
    """Readers' malignancy rating, 1 (highly unlikely) to 5 (highly suspicious)."""

    score: float
    interval_90: Interval
    distribution: tuple[float, ...]
    """Probability of each of the five ratings."""

    def to_json(self) -> Json:
        """Return the "malignancy" block."""
        return {
            "score": finite(self.score),
            "interval_90": _interval(self.interval_90),
            "distribution": _interval(self.distribution),
        }

    @classmethod
    def from_json(cls, block: Json) -> Malignancy:
        """Read the "malignancy" block."""
        low, high = block["interval_90"]
        return cls(block["score"], (low, high), tuple(block["distribution"]))


@dataclass(frozen=True)
class Characteristic:
    """One further rating of a nodule."""

    name: str
    """Name of the most probable level."""
    rating: float | None
    """Mean rating of an ordinal scale; None for a nominal one."""
    probabilities: Mapping[str, float]

    def to_json(self) -> Json:
        """Return one entry of the "characteristics" block."""
        probabilities = {name: finite(value) for name, value in self.probabilities.items()}
        return {
            "name": self.name,
            "rating": finite(self.rating),
            "probabilities": probabilities,
        }


@dataclass(frozen=True)
class Uncertainty:
    """How far the answer can be trusted."""

    entropy: float
    """Entropy of the class probabilities, nats."""
    mutual_information: float
    """Disagreement of the members or views about the class, nats."""
    out_of_distribution: float
    """Distance from the training nodules as a share of the accepted one; above 1 is outside."""

    def to_json(self) -> Json:
        """Return the "uncertainty" block."""
        return {
            "entropy": finite(self.entropy),
            "mutual_information": finite(self.mutual_information),
            "out_of_distribution": finite(self.out_of_distribution),
        }


@dataclass(frozen=True, eq=False)
class Finding:
    """One nodule: what was asked, what was found, how sure it is."""

    id: str
    source: str
    """"point": asked by a user; "candidate": found in the whole CT and confirmed by nobody."""
    centre_lps_mm: Point
    """The point asked for."""
    centre_ijk: Point
    class_name: str
    probability_malignant: float
    malignancy: Malignancy
    size: Size
    characteristics: Mapping[str, Characteristic]
    uncertainty: Uncertainty
    guidelines: Json
    risk: Json | None = None
    """Of cancer, by a published model of what the user tells of the patient; None without. It is
    apart from class and malignancy, which are what readers would say."""
    prior: Json | None = None
    """What the same nodule was on a prior CT, and how it has changed; None where nobody asked."""
    candidate_score: float | None = None
    nodule_probability: float | None = None
    """Whether there is a nodule here at all; None where the model cannot tell."""
    centroid_lps_mm: Point | None = None
    """Centroid of the mask, or None without one."""
    warnings: tuple[str, ...] = ()
    embedding: NDArray[np.float32] | None = None
    """Input of the branches' last layers, float32; not part of the JSON."""
    mask: NDArray[np.uint8] | None = None
    """uint8 [k, j, i] on the CT's own voxels; not part of the JSON."""
    start_ijk: tuple[int, int, int] | None = None
    """Voxel of the CT at which the mask starts."""
    long_axis_lps_mm: tuple[Point, Point] | None = None
    """Ends of the long axis, as far apart as size.long_axis_mm says; None where it was not
    measured in a mask. Not part of the JSON."""
    short_axis_lps_mm: tuple[Point, Point] | None = None
    """The same of the short axis, perpendicular to the long one."""

    def to_json(self) -> Json:
        """Return one entry of "nodules"."""
        malignant = self.probability_malignant
        centroid = self.centroid_lps_mm
        return {
            "id": self.id,
            "source": self.source,
            "candidate_score": finite(self.candidate_score),
            "nodule_probability": finite(self.nodule_probability),
            "centre_lps_mm": _interval(self.centre_lps_mm),
            "centre_ijk": _interval(self.centre_ijk),
            "centroid_lps_mm": None if centroid is None else _interval(centroid),
            "class": {
                "name": self.class_name,
                "probabilities": {
                    "benign": finite(1 - malignant),
                    "malignant": finite(malignant),
                },
            },
            "malignancy": self.malignancy.to_json(),
            "size": self.size.to_json(),
            "characteristics": {k: v.to_json() for k, v in self.characteristics.items()},
            "uncertainty": self.uncertainty.to_json(),
            "guidelines": dict(self.guidelines),
            "risk": None if self.risk is None else dict(self.risk),
            "prior": None if self.prior is None else dict(self.prior),
            "mask_value": LABEL_NAMES[self.class_name],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, entry: Json) -> Finding:
        """Read one entry of "nodules"; mask, ends of the axes and embedding are not in JSON."""
        centroid = entry["centroid_lps_mm"]
        return cls(
            id=entry["id"],
            source=entry["source"],
            centre_lps_mm=tuple(entry["centre_lps_mm"]),
            centre_ijk=tuple(entry["centre_ijk"]),
            class_name=entry["class"]["name"],
            probability_malignant=entry["class"]["probabilities"]["malignant"],
            malignancy=Malignancy.from_json(entry["malignancy"]),
            size=Size.from_json(entry["size"]),
            characteristics={
                k: Characteristic(**block) for k, block in entry["characteristics"].items()
            },
            uncertainty=Uncertainty(**entry["uncertainty"]),
            guidelines=entry["guidelines"],
            risk=entry.get("risk"),
            prior=entry.get("prior"),
            candidate_score=entry["candidate_score"],
            nodule_probability=entry.get("nodule_probability"),
            centroid_lps_mm=None if centroid is None else tuple(centroid),
            warnings=tuple(entry["warnings"]),
        )


@dataclass(frozen=True)
class ModelInfo:
    """Which weights answered."""

    name: str
    version: str
    sha256: str


def findings_document(
    findings: Sequence[Finding],
    *,
    model: ModelInfo,
    image_id: str,
    shape_ijk: Sequence[int],
    spacing_ijk_mm: Sequence[float],
    warnings: Sequence[str] = (),
    timing_ms: Mapping[str, float] | None = None,
    calibrated_to: str | None = None,
) -> Json:
    """Return the whole document of schema resmtnet.findings/1.

    Args:
        findings: one per nodule, in the order asked.
        model: the weights that answered.
        image_id: id of the image, as the datastore names it.
        shape_ijk: voxels along i, j, k.
        spacing_ijk_mm: mm along i, j, k.
        warnings: of the image as a whole.
        timing_ms: milliseconds by step.
        calibrated_to: whose readings class, score and size estimate, in words; None: not known.
    """
    return {
        "schema": SCHEMA,
        "label_basis": LABEL_BASIS,
        "calibrated_to": calibrated_to,
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
        "image": {
            "id": image_id,
            "shape": [int(n) for n in shape_ijk],
            "spacing_mm": _interval(spacing_ijk_mm),
        },
        "nodules": [finding.to_json() for finding in findings],
        "label_names": dict(LABEL_NAMES),
        "warnings": list(warnings),
        "timing_ms": {name: finite(value, 1) for name, value in (timing_ms or {}).items()},
    }
