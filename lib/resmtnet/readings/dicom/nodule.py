"""One nodule as our SEG and SR hold it, and the label that a viewer shows of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resmtnet.findings import SIZE_NAMES, Finding
from resmtnet.readings.record import RATINGS
from resmtnet.types import Point

Line = tuple[Point, Point]
"""Both ends, LPS mm."""


@dataclass(frozen=True, eq=False)
class ResultNodule:
    """What is stored of one nodule."""

    name: str
    """Such as N1."""
    tracking_uid: str
    """The same in every version of the result, and in SEG and SR."""
    centre_lps_mm: Point
    class_name: str | None = None
    probability_malignant: float | None = None
    malignancy: float | None = None
    """Score or rating, 1 to 5."""
    sizes: Mapping[str, float] = field(default_factory=dict)
    """mm and mm3 by name."""
    characteristics: Mapping[str, int] = field(default_factory=dict)
    """Number of the level, from 1, by name."""
    category: tuple[str, str] | None = None
    """Guideline (lung_rads or fleischner) and its category."""
    long_axis_lps_mm: Line | None = None
    short_axis_lps_mm: Line | None = None
    warnings: tuple[str, ...] = ()
    mask: NDArray[np.uint8] | None = None
    """[k, j, i] on the voxels of the CT."""
    start_ijk: tuple[int, int, int] | None = None
    """Voxel of the CT at which the mask starts."""

    @property
    def label(self) -> str:
        """What a viewer shows beside the nodule; see `reader_words` for the way back.

        >>> ResultNodule("N1", "1.2", (0, 0, 0), "malignant", 0.714, 4.1,
        ...              {"long_axis_mm": 14.0}, {"texture": 5}).label
        'N1 malignant 71% | score 4.1 | solid | 14.0 mm'
        """
        class_name = (self.class_name or "").replace("_", " ")
        first = [self.name, class_name]
        if self.probability_malignant is not None and self.class_name != "not_a_nodule":
            first.append(_percent(self.class_name, self.probability_malignant))
        parts = [" ".join(part for part in first if part)]
        if self.malignancy is not None:
            parts.append(f"score {self.malignancy:.3g}")
        if "texture" in self.characteristics:
            parts.append(RATINGS["texture"].levels[self.characteristics["texture"] - 1])
        longest = self.sizes.get("long_axis_mm") or self.sizes.get("mean_diameter_mm")
        if longest is not None:
            parts.append(f"{longest:.1f} mm")
        if self.category is not None and self.category[0] == "lung_rads":
            parts.append(f"Lung-RADS {self.category[1]}")
        return " | ".join(parts)

    @property
    def segment_name(self) -> str:
        """What a viewer calls the segment: the first part of the label.

        >>> ResultNodule("N1", "1.2", (0, 0, 0), "benign", 0.1).segment_name
        'N1 benign 90%'
        """
        return self.label.partition(" | ")[0]


def _percent(class_name: str | None, malignant: float) -> str:
    if class_name == "indeterminate":
        return f"({100 * malignant:.0f}% malignant)"
    return f"{100 * (malignant if class_name == 'malignant' else 1 - malignant):.0f}%"


def reader_words(told: str, text: str) -> str:
    """Return what a reader has written anew into a label; "" where nothing was changed.

    The parts between bars that are as they were told are left out; "4/5" is a malignancy rating.

    Args:
        told: the label as it was shown.
        text: the label as it came back.

    >>> reader_words("N1 benign 90% | 14.0 mm", "N1 malignant 4/5 | 14.0 mm | grows")
    'N1 malignant; malignancy=4; grows'
    """
    before = {part.strip() for part in told.split("|")}
    parts = [part.strip() for part in text.replace(";", "|").split("|")]
    words = []
    for part in parts:
        if not part or part in before:
            continue
        head, slash, tail = part.partition("/5")
        rating = head[-1:]
        whole = rating.isdigit() and not (head[-2:-1].isdigit() or head[-2:-1] in (".", ","))
        if slash and whole and not tail.strip():
            rest = head[:-1].strip()
            words += [rest] if rest and rest.lower() not in ("malignancy", "score") else []
            words.append(f"malignancy={rating}")
        else:
            words.append(part)
    return "; ".join(words)


def new_tracking_uid(series_uid: str, key: str) -> str:
    """Return the UID by which a nodule is followed through all versions of a result.

    Args:
        series_uid: of the CT.
        key: of the nodule within it.

    >>> new_tracking_uid("1.2.3", "N1") == new_tracking_uid("1.2.3", "N1")
    True
    """
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{series_uid}/{key}').int}"


def tracking_uid_at(series_uid: str, centre_lps_mm: Point) -> str:
    """Return the tracking UID of a nodule that is told for the first time, by its place.

    Args:
        series_uid: of the CT.
        centre_lps_mm: of the nodule.
    """
    return new_tracking_uid(series_uid, ",".join(f"{mm:.1f}" for mm in centre_lps_mm))


def _category(guidelines: Mapping[str, object]) -> tuple[str, str] | None:
    for system in ("lung_rads", "fleischner"):
        block = guidelines.get(system)
        if isinstance(block, Mapping):
            return system, str(block["category"])
    return None


def from_finding(finding: Finding, tracking_uid: str) -> ResultNodule:
    """Return what is stored of a model's finding."""
    levels = {}
    for name, told in finding.characteristics.items():
        task = RATINGS.get(name)
        if task is not None and told.name in task.levels:
            levels[name] = task.levels.index(told.name) + 1
    sizes = {name: getattr(finding.size, name) for name in SIZE_NAMES}
    return ResultNodule(
        name=finding.id,
        tracking_uid=tracking_uid,
        centre_lps_mm=finding.centroid_lps_mm or finding.centre_lps_mm,
        class_name=finding.class_name,
        probability_malignant=round(finding.probability_malignant, 4),
        malignancy=round(finding.malignancy.score, 2),
        sizes={name: round(value, 3) for name, value in sizes.items() if value is not None},
        characteristics=levels,
        category=_category(finding.guidelines),
        long_axis_lps_mm=finding.long_axis_lps_mm,
        short_axis_lps_mm=finding.short_axis_lps_mm,
        warnings=finding.warnings,
        mask=finding.mask,
        start_ijk=finding.start_ijk,
    )
