"""What a model of nodules must offer to whoever asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from resmtnet.ct import CTVolume
from resmtnet.findings import Finding, ModelInfo
from resmtnet.types import Json, Point


class NoduleModel(Protocol):
    """What servers and scoring need of `resmtnet.Characterizer`."""

    @property
    def info(self) -> ModelInfo:
        """Name, version and checksum of the weights."""

    def __call__(
        self, ct: CTVolume, centres_mm: list[Point], *, context: str | None = None
    ) -> list[Finding]:
        """One finding for each centre, LPS mm."""

    def find(
        self, ct: CTVolume, *, context: str | None = None, max_candidates: int = ...
    ) -> list[Finding]:
        """The candidates of the whole CT."""

    def document(
        self, ct: CTVolume, findings: list[Finding], timing_ms: Mapping[str, float] | None = None
    ) -> Json:
        """The findings/1 JSON."""

    def warm_up(self) -> None:
        """Runs the network once."""
