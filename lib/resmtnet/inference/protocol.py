"""What a model of nodules must offer to whoever asks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from resmtnet.ct import CTVolume
from resmtnet.findings import Finding, ModelInfo
from resmtnet.types import Json, Point


class AnswersPoints(Protocol):
    """What evaluation needs of `resmtnet.Characterizer`."""

    @property
    def info(self) -> ModelInfo:
        """Name, version and checksum of the weights."""

    def __call__(
        self, ct: CTVolume, centres_mm: Sequence[Point], *, context: str | None = None
    ) -> list[Finding]:
        """One finding for each centre, LPS mm."""


class NoduleModel(AnswersPoints, Protocol):
    """What servers and scoring need of it beside that."""

    def find(
        self,
        ct: CTVolume,
        *,
        context: str | None = None,
        max_candidates: int = ...,
        points: Sequence[Point] | None = None,
        candidate_threshold: float | None = None,
    ) -> list[Finding]:
        """The candidates of the whole CT, or those of `points` that are nodules."""

    def document(
        self,
        ct: CTVolume,
        findings: Sequence[Finding],
        timing_ms: Mapping[str, float] | None = None,
    ) -> Json:
        """The findings/1 JSON."""

    def warm_up(self) -> None:
        """Answers one click, so that the next one pays for nothing that is set up once."""
