"""A stand-in for the model and for the search of candidates, to score studies with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import CTVolume
from resmtnet.findings import Finding, ModelInfo
from resmtnet.inference.candidates import Candidate


class Answering:
    """A model that says the same of every point, and counts how often it is asked."""

    def __init__(self, make_finding: Callable[..., Finding], version: str = "a") -> None:
        self.info = ModelInfo("fake", version, version * 64)
        self._make, self.asked = make_finding, 0

    def __call__(self, ct: CTVolume, centres_mm: Sequence[Any], **_: Any) -> list[Finding]:
        self.asked += 1
        return [
            self._make(ct.geometry, ct.geometry.lps_to_ijk(c), n, embedding=np.ones(4, np.float32))
            for n, c in enumerate(centres_mm)
        ]


def search_the_middle(monkeypatch: pytest.MonkeyPatch) -> list[CTVolume]:
    """Make the search find the middle of each CT; returns the CTs that were searched."""
    searched: list[CTVolume] = []

    def find_candidates(ct: CTVolume, *, maximum: int = 10) -> list[Candidate]:
        searched.append(ct)
        x, y, z = ct.geometry.ijk_to_lps((np.asarray(ct.geometry.size_ijk) - 1) / 2)
        return [Candidate((float(x), float(y), float(z)), 0.7, 8.0)]

    monkeypatch.setattr("resmtnet.inference.candidates.find_candidates", find_candidates)
    return searched
