"""The Characterizer: takes a CT and points, returns findings."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from resmtnet.ct.points import point_inside
from resmtnet.ct.volume import CTVolume
from resmtnet.findings import Finding, ModelInfo, findings_document
from resmtnet.guidelines import check_context
from resmtnet.inference.device import choose_device
from resmtnet.inference.ensemble import Ensemble
from resmtnet.inference.fallback import TOLD
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.inference.point import PointPrediction, predict_points
from resmtnet.inference.postprocessing import to_finding
from resmtnet.inference.search import PROPOSED, judge
from resmtnet.inference.sizes import mask_level, solid_threshold_hu
from resmtnet.types import Point

THICK_MM, VERY_THICK_MM = 1.5, 3.0
WARM_UP_LPS_MM = (-75.0, 0.0, 20.0)
"""In the right lung of the phantom."""
NOT_NEGATIVE = "no candidate was found: this is not a negative read of the CT"


class Characterizer:
    """Answers for points of a CT; safe to share between threads."""

    def __init__(self, model: Model, device: str = "cpu") -> None:
        self.model = model
        self.inference = Ensemble(
            model.networks, model.config.patch, device, model.config.head_views
        )

    @classmethod
    def load(cls, path: str | Path | None = None, device: str | None = None) -> Characterizer:
        """Load a model.

        Args:
            path: a model folder; None: RESMTNET_MODEL_DIR, else the shipped one.
            device: "cpu" or "cuda"; None: a GPU if there is one.

        Raises:
            ModelError: the model is missing, damaged or of another version.
            ConfigError: the device does not exist.
        """
        device = choose_device(device)
        return cls(read_model(path, device), device)

    @property
    def info(self) -> ModelInfo:
        """Name, version and checksum of the weights."""
        return self.model.info

    def __call__(
        self, ct: CTVolume, centres_mm: Sequence[ArrayLike], *, context: str | None = None
    ) -> list[Finding]:
        """Characterise the nodules at points.

        Args:
            ct: the CT.
            centres_mm: points (x, y, z), LPS mm.
            context: "screening_baseline", "screening_followup" or "incidental" for a guideline
                category; None for none.

        Returns:
            One finding per point, in their order.

        Raises:
            PointError: a point is not finite or lies outside the CT.
            ConfigError: an unknown context.
        """
        if context is not None:
            check_context(context)
        points = [point_inside(centre, ct.geometry) for centre in centres_mm]
        return self._characterise(ct, points, context, [None] * len(points))

    def find(
        self,
        ct: CTVolume,
        *,
        max_candidates: int = 10,
        context: str | None = None,
        points: Sequence[ArrayLike] | None = None,
        candidate_threshold: float | None = None,
    ) -> list[Finding]:
        """Search the whole CT; what is found is unconfirmed and gets no guideline category.

        A model that tells nodules from other places judges every place that the search proposes:
        those below the threshold are left out, the most probable come first, and of places on one
        nodule only the most probable is kept. Any other model shows the search's own ranking.

        Args:
            ct: the CT.
            max_candidates: greatest number of findings.
            context: accepted as in a call, and noted in the findings' assumptions.
            points: places (x, y, z), LPS mm, that another detector proposes, instead of a search.
            candidate_threshold: least probability of a nodule, 0 to 1; None: the model's own.

        Raises:
            PointError: a point is not finite or lies outside the CT.
            ConfigError: an unknown context, or a threshold outside 0 to 1.
        """
        if context is not None:
            check_context(context)
        presence = self.model.calibration.nodule
        if points is None:
            places, scores = _search(ct, PROPOSED if presence else max_candidates)
        else:
            places = [point_inside(point, ct.geometry) for point in points]
            scores = [math.nan] * len(places)  # of another detector, whose scores are not ours
        if presence is None:
            shown = list(enumerate(predict_points(self.inference, ct, places)))
        else:
            judged = judge(self.inference, presence, ct, places, candidate_threshold)
            shown = [(one.number, one.scene) for one in judged]
        return [
            self._finding(f"N{number}", scene, context, scores[place])
            for number, (place, scene) in enumerate(shown[:max_candidates], start=1)
        ]

    def document(
        self,
        ct: CTVolume,
        findings: Sequence[Finding],
        timing_ms: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Return the findings as a document of schema resmtnet.findings/1."""
        warnings = list(ct.warnings)
        spacing_mm = ct.geometry.spacing_mm[ct.geometry.slice_axis]
        if spacing_mm > VERY_THICK_MM:
            warnings.append(
                f"slices are {spacing_mm:.2f} mm apart: sizes and texture are unreliable"
            )
        elif spacing_mm > THICK_MM:
            warnings.append(f"slices are {spacing_mm:.2f} mm apart: more than 1.5 mm is coarse")
        if not findings:
            warnings.append(NOT_NEGATIVE)
        if self.inference.place.is_replaced:
            warnings.append(TOLD)
        return findings_document(
            findings,
            model=self.info,
            calibrated_to=self.model.calibration.habit.told(),
            image_id=ct.image_id,
            shape_ijk=ct.geometry.size_ijk,
            spacing_ijk_mm=ct.geometry.spacing_mm,
            warnings=warnings,
            timing_ms=timing_ms,
        )

    def warm_up(self) -> None:
        """Answer one click as a viewer asks it, so that the first user waits no longer than others.

        A small DICOM series is written to a temporary folder and opened; its nodule is drawn,
        measured, given a category and put into a document.
        """
        from resmtnet.ct.phantom import NoduleSpec, make_phantom, write_dicom_series

        nodule = NoduleSpec(10.0, "solid", centre_lps_mm=WARM_UP_LPS_MM)
        phantom = make_phantom(
            shape_kji=(32, 64, 64), nodules=[nodule], centre_lps_mm=WARM_UP_LPS_MM
        )
        with tempfile.TemporaryDirectory(prefix="resmtnet-warm-up-") as folder:
            write_dicom_series(phantom, folder)
            ct = CTVolume.open(folder)
            self.document(ct, self(ct, [WARM_UP_LPS_MM], context="screening_baseline"))

    def _characterise(
        self,
        ct: CTVolume,
        points: Sequence[Point],
        context: str | None,
        scores: Sequence[float | None],
    ) -> list[Finding]:
        return [
            self._finding(f"N{n}", predicted, context, score)
            for n, (predicted, score) in enumerate(
                zip(predict_points(self.inference, ct, points), scores, strict=True), start=1
            )
        ]

    def _finding(
        self, identifier: str, predicted: PointPrediction, context: str | None, score: float | None
    ) -> Finding:
        calibration, sampler = self.model.calibration, predicted.sampler
        masked = predicted.mask(
            mask_level(predicted.observation, predicted.diameter_mm, calibration)
        )
        usual = None
        if calibration.habit.size_shift:
            plain = mask_level(
                predicted.observation, predicted.diameter_mm, calibration.without_habit()
            )
            usual = predicted.seen(predicted.mask(plain))
        threshold_hu = solid_threshold_hu(predicted.observation, calibration)
        solid = predicted.solid(masked, threshold_hu, calibration.solid)
        i, j, k = (float(n) for n in sampler.ct.geometry.lps_to_ijk(sampler.centre_lps_mm))
        return to_finding(
            predicted.seen(masked, solid),
            calibration,
            identifier,
            centre_lps_mm=sampler.centre_lps_mm,
            centre_ijk=(i, j, k),
            candidate_score=score,
            context=context,
            mask=masked.voxels,
            usual=usual,
        )


def _search(ct: CTVolume, maximum: int) -> tuple[list[Point], list[float]]:
    """Return places that may be nodules, LPS mm, and the scores of the search."""
    from resmtnet.inference.candidates import (
        find_candidates,  # scipy costs 0.5 s that a click has not
    )

    candidates = find_candidates(ct, maximum=maximum)
    return [c.centre_lps_mm for c in candidates], [c.score for c in candidates]
