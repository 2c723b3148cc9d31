"""A model whose answers a test can foresee, and an app that serves it: the CT says the class.

What is brighter than air is a nodule; its density says its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import center_of_mass, find_objects, label

from made_findings import make_finding
from resmtnet.ct import CTVolume, Geometry
from resmtnet.ct.measure import measure
from resmtnet.findings import Finding, ModelInfo, Size, findings_document

AIR_HU = -800
NODULE_HU = {"benign": 50, "malignant": 150, "indeterminate": 250}
PROBABILITY = {"benign": 0.1, "malignant": 0.83, "indeterminate": 0.48}

APP = """
import sys
sys.path[:0] = [{support!r}, {app!r}]
from scripted_model import ScriptedModel
from resmtnet.inference.characterizer import Characterizer
Characterizer.load = classmethod(lambda cls, path=None, device=None: ScriptedModel())
exec(compile(open({app!r} + "/main.py").read(), "main.py", "exec"))
"""
AS_FOR_PACS = """
from resmtnet.monai_label.infer import make_tasks
ResMTNetApp.init_infers = lambda self: make_tasks(self.shared, neutral_click=True)
"""


def write_app(folder: Path, checkout: Path, as_for_pacs: bool = False) -> Path:
    """The app of the checkout over the scripted model; returns the app's folder.

    Args:
        folder: to be made.
        checkout: holds apps/resmtnet.
        as_for_pacs: with the models that it offers where the studies are in a PACS.
    """
    folder.mkdir(parents=True)
    paths = {"support": str(Path(__file__).parent), "app": str(checkout / "apps" / "resmtnet")}
    (folder / "main.py").write_text(APP.format(**paths) + (AS_FOR_PACS if as_for_pacs else ""))
    return folder


def made_ct(grid: Geometry, nodules: dict[str, Sequence[int]]) -> CTVolume:
    """A CT with a nodule of 5 x 5 x 3 voxels for each class.

    Args:
        grid: of the voxels.
        nodules: voxel (i, j, k) of the centre, by class.
    """
    hu = np.full(grid.shape_kji, AIR_HU, np.int16)
    for name, (i, j, k) in nodules.items():
        hu[k - 1 : k + 2, j - 2 : j + 3, i - 2 : i + 3] = NODULE_HU[name]
    x, y, z = grid.origin_lps_mm
    return CTVolume.from_array(hu, grid.spacing_mm[::-1], (x, y, z), grid.direction)


class ScriptedModel:
    """Answers with the nodules that the voxels show."""

    info = ModelInfo("scripted", "1", "00")

    def __call__(
        self, ct: CTVolume, centres_mm: Sequence[Any], context: str | None = None
    ) -> list[Finding]:
        """One finding for each point: the nodule whose centre is nearest."""
        found = self.find(ct)
        answers = []
        for n, point in enumerate(centres_mm, start=1):
            near = min(found, key=lambda f: np.linalg.norm(np.subtract(f.centre_lps_mm, point)))
            answers.append(_changed(near, id=f"N{n}", source="point", candidate_score=None))
        return answers

    def find(
        self,
        ct: CTVolume,
        context: str | None = None,
        max_candidates: int = 10,
        points: Any = None,
        candidate_threshold: float | None = None,
    ) -> list[Finding]:
        """All nodules, in the order of their voxels."""
        hu = ct.array()
        parts, n_parts = label(hu > AIR_HU / 2)
        return [
            self._finding(ct, parts == n, n, float(hu[parts == n].mean()))
            for n in range(1, n_parts + 1)
        ]

    def _finding(self, ct: CTVolume, mask: Any, n: int, hu: float) -> Finding:
        name = min(NODULE_HU, key=lambda name: abs(NODULE_HU[name] - hu))
        box = find_objects(mask.astype(int))[0]
        start = tuple(int(side.start) for side in box)[::-1]
        part = mask[box].astype(np.uint8)
        measured = measure(part, ct.geometry.sub(start, part.shape[::-1]))
        assert measured is not None
        return make_finding(
            ct.geometry,
            center_of_mass(mask)[::-1],
            id=f"N{n}",
            source="candidate",
            candidate_score=0.7,
            class_name=name,
            probability_malignant=PROBABILITY[name],
            mask=part,
            start_ijk=start,
            size=Size(
                long_axis_mm=measured.long_axis_mm,
                short_axis_mm=measured.short_axis_mm,
                mean_diameter_mm=measured.mean_diameter_mm,
                equivalent_diameter_mm=measured.equivalent_diameter_mm,
                volume_mm3=measured.volume_mm3,
            ),
            long_axis_lps_mm=measured.long_axis_ends_lps_mm,
            short_axis_lps_mm=measured.short_axis_ends_lps_mm,
        )

    def document(self, ct: CTVolume, findings: list[Finding], timing_ms: Any = None) -> Any:
        """The findings/1 JSON."""
        return findings_document(
            findings,
            model=self.info,
            image_id=ct.image_id,
            shape_ijk=ct.geometry.size_ijk,
            spacing_ijk_mm=ct.geometry.spacing_mm,
            timing_ms=timing_ms,
        )

    def warm_up(self) -> None:
        """Nothing is to be warmed."""


def _changed(finding: Finding, **changes: Any) -> Finding:
    from dataclasses import replace

    return replace(finding, **changes)
