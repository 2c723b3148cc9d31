"""What a reader is told of what they sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from resmtnet.findings import Json
from resmtnet.reading import Reading
from resmtnet.readings.draft import Problem
from resmtnet.readings.to_text import summary


@dataclass
class Reply:
    """The readings that were made of it, and what could not be understood."""

    readings: list[Reading] = field(default_factory=list)
    not_understood: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> Json:
        """The reply; each reading without the answer it corrects, which is long."""
        readings = [reading.to_json() for reading in self.readings]
        for entry in readings:
            del entry["answered"]
        return {
            "understood": [summary(reading) for reading in self.readings],
            "not_understood": [dict(vars(problem)) for problem in self.not_understood],
            "warnings": self.warnings,
            "readings": readings,
        }
