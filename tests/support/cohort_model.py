"""A model for cohorts, in a module that workers of Ray can import; and a run of its own process.

Its answers depend on the image. It writes down which process was asked about which image.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from made_findings import make_finding
from resmtnet.cohort.engines import OnRay
from resmtnet.cohort.score import score_cohort
from resmtnet.cohort.studies import list_studies
from resmtnet.ct import CTVolume
from resmtnet.findings import Finding, ModelInfo, Size, findings_document


class CohortModel:
    """One or two nodules a CT; sleeps, and kills its process at the image named "deadly"."""

    def __init__(self, asked: Path, pause_s: float = 0.0, deadly: bool = True) -> None:
        self.info = ModelInfo("fake", "1", "1" * 64)
        self.asked, self.pause_s, self.deadly = asked, pause_s, deadly

    def find(self, ct: CTVolume, *, max_candidates: int = 10, **_: Any) -> list[Finding]:
        (self.asked / f"{ct.image_id}.{os.getpid()}.{time.time_ns()}").touch()
        if self.deadly and "deadly" in ct.image_id:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause_s)
        hu = float(ct.crop((-75.0, 0.0, 20.0), 4.0).hu.mean())
        size = Size(8.4, mean_diameter_mm=8.0, equivalent_diameter_mm=7.0, volume_mm3=abs(hu))
        count = 1 + int(abs(hu)) % 2
        return [make_finding(ct.geometry, (12, 10, 6), n, size=size) for n in range(count)]

    def __call__(
        self, ct: CTVolume, centres_mm: Sequence[Any], *, context: str | None = None
    ) -> list[Finding]:
        return [make_finding(ct.geometry, (12, 10, 6), n) for n, _ in enumerate(centres_mm)]

    def document(self, ct: CTVolume, findings: Sequence[Finding], timing_ms: Any = None) -> Any:
        return findings_document(
            findings,
            model=self.info,
            image_id=ct.image_id,
            shape_ijk=ct.geometry.size_ijk,
            spacing_ijk_mm=ct.geometry.spacing_mm,
        )

    def warm_up(self) -> None:
        """Nothing."""


if __name__ == "__main__":
    studies, out, asked = map(Path, sys.argv[1:])
    load = partial(CohortModel, asked, pause_s=0.3)
    print(score_cohort(list_studies(str(studies)), load, out, engine=OnRay(workers=2)))
