"""The reply to whoever sent readings: what was understood, in words, and what was not."""

from __future__ import annotations

from dataclasses import dataclass, field

from resmtnet.readings.formats.draft import Problem
from resmtnet.readings.record import Reading
from resmtnet.types import Json


def summary(reading: Reading) -> str:
    """Return a reading in words.

    >>> summary(Reading("ct", "r", (0, 0, 0), class_name="benign", sizes={"long_axis_mm": 8.25}))
    'benign; long axis 8.2 mm'
    """
    parts = []
    if reading.class_name:
        parts.append(reading.class_name.replace("_", " "))
    if reading.malignancy:
        parts.append(f"malignancy {reading.malignancy}")
    for name, value in reading.sizes.items():
        size, unit = name.rsplit("_", 1)
        parts.append(f"{size.replace('_', ' ')} {value:.1f} {unit}")
    parts += [f"{name.replace('_', ' ')} {n}" for name, n in reading.characteristics.items()]
    if reading.comment:
        parts.append(f"comment {reading.comment!r}")
    nodule = reading.answered.finding.get("id") if reading.answered else None
    words = "; ".join(parts) or "no change"
    return f"{nodule}: {words}" if nodule else words


@dataclass
class Reply:
    """The readings that were made of a label, and what could not be understood."""

    readings: list[Reading] = field(default_factory=list)
    not_understood: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> Json:
        """Return the reply as JSON; each reading without the answer it corrects, which is long."""
        readings = [reading.to_json() for reading in self.readings]
        for entry in readings:
            del entry["answered"]
        return {
            "understood": [summary(reading) for reading in self.readings],
            "not_understood": [dict(vars(problem)) for problem in self.not_understood],
            "warnings": self.warnings,
            "readings": readings,
        }
