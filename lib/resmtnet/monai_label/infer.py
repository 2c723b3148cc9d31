"""The three MONAI Label models of the app, all over one Characterizer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from resmtnet.characteristics import LABEL_NAMES, NEUTRAL_NAMES
from resmtnet.ct import CTVolume
from resmtnet.findings import Finding
from resmtnet.guidelines import CONTEXTS
from resmtnet.inference.brock import with_brock
from resmtnet.inference.protocol import NoduleModel
from resmtnet.monai_label.on_screen import OnScreen, after_click
from resmtnet.monai_label.open_volumes import OpenVolumes
from resmtnet.monai_label.prior import with_prior_of
from resmtnet.monai_label.refusals import as_refusals
from resmtnet.monai_label.request import InferRequest, centres_lps
from resmtnet.monai_label.request_keys import BATCH, check_keys
from resmtnet.monai_label.served_model import ServedModel, ServedVersion
from resmtnet.monai_label.settings import AppSettings
from resmtnet.readings.formats.class_mask import write_mask
from resmtnet.readings.formats.markups_write import write_markups
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.types import Json, Point


@dataclass(frozen=True)
class InferResult:
    """What one version of the model answered to one request."""

    by: ServedVersion
    ct: CTVolume
    findings: list[Finding]
    """All that the reader sees then; those that were asked for come first."""
    as_masks: bool = True
    """Whether they are drawn as masks, and not as markups."""


class SharedCharacterizer:
    """What all models of the app share: the served version, open CTs and settings."""

    def __init__(self, models: ServedModel, settings: AppSettings) -> None:
        """Share a model.

        Args:
            models: the served version; safe to call from several threads.
            settings: how many CTs stay open, and the defaults of a request.
        """
        self._models = models
        self.settings = settings
        volumes = OpenVolumes(settings.ct_cache)
        self.open: Callable[[Path], CTVolume] = volumes.open
        """Opens a CT, or returns the one that is open."""
        self.open_count: Callable[[], int] = volumes.count
        """How many are open."""
        self.on_answer: Callable[[InferRequest, InferResult], object] = lambda *_: None
        """Called with each request and its answer before it is sent."""
        self.on_screen: Callable[[InferRequest, CTVolume, str], list[Finding]] = lambda *_: []
        """Returns what the client of a request sees of its image, if it was answered by the model
        of this SHA-256."""
        self.url_of: Callable[[str, Point], str | None] = lambda image, centre_lps_mm: None
        """Returns the address of the review page that shows a place of an image; None without."""
        _leave_cores_free()

    @property
    def versions(self) -> ModelRegistry:
        """The versions that can be served."""
        return self._models.versions

    @property
    def now(self) -> ServedVersion:
        """The version that answers a request which begins now; hold it to stay with it."""
        return self._models.now()

    @property
    def model(self) -> NoduleModel:
        """The model that answers a request which begins now."""
        return self.now.model


class ResMTNetTask(InferTask):  # type: ignore[misc]
    """Takes points or the whole CT; gives a file and the findings JSON."""

    def __init__(
        self,
        shared: SharedCharacterizer,
        kind: InferType,
        description: str,
        needs_points: bool = False,
        gives_markups: bool = False,
        neutral: bool = False,
    ) -> None:
        """Make one model of the app.

        Args:
            shared: the served version, open CTs and settings.
            kind: decides where a viewer offers the model.
            description: shown by a viewer.
            needs_points: refuse a request without a click instead of searching the whole CT.
            gives_markups: the file holds Slicer Markups instead of a class-coded mask.
            neutral: the mask says nothing of the class: the viewer paints the segment that the
                reader has selected.
        """
        default = shared.settings.context or "none"
        others = [name for name in ("none", *CONTEXTS) if name != default]
        super().__init__(
            type=kind,
            labels=dict(NEUTRAL_NAMES if neutral else LABEL_NAMES),
            dimension=3,
            description=description,
            config={"context": [default, *others]},
        )
        self._shared = shared
        self._needs_points, self._gives_markups = needs_points, gives_markups
        self._neutral = neutral

    def info(self) -> Json:
        """What /info says of the model, with the served version and warnings about it."""
        now = self._shared.now
        told: Json = super().info()
        return told | {"version": now.model.info.version, "warnings": list(now.warnings)}

    def is_valid(self) -> bool:
        """Always true: the model was loaded and verified before the task was made."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, Json]:
        """Answer one request: parse it, open the CT, ask the model, write the file.

        Args:
            request: see InferRequest.parse.

        Returns:
            A temporary file, which MONAI Label deletes after it was sent, and the findings/1 JSON.

        Raises:
            Refusal: with the reason in one line.
        """
        with as_refusals():
            asked = InferRequest.parse(
                request,
                self._shared.settings,
                needs_points=self._needs_points,
                gives_mask=not self._gives_markups,
            )
            times_s = [time.perf_counter()]
            ct = self._shared.open(asked.image)
            times_s.append(time.perf_counter())
            by = self._shared.now  # one version answers the whole request
            findings = with_brock(self._ask(by.model, ct, asked), asked.brock)
            findings = with_prior_of(
                asked.prior, findings, by.model, ct, self._shared.open, asked.context
            )
            times_s.append(time.perf_counter())
            seen = self._on_screen(asked, ct, by, findings)
            if self._gives_markups:
                path = write_markups(findings, ct.geometry)
            else:
                path = write_mask(seen.drawn, ct.geometry, asked.mask_extension, seen.values)
            times_s.append(time.perf_counter())
            try:
                document = by.model.document(ct, seen.nodules, _timing_ms(times_s))
                self._tell_values(document, seen)
                if asked.image_id is not None:
                    self._tell_addresses(document, asked.image_id)
                document["warnings"] += by.warnings
                self._shared.on_answer(
                    asked, InferResult(by, ct, seen.nodules, not self._gives_markups)
                )
            except BaseException:
                path.unlink()
                raise
            return str(path), document

    def _ask(self, model: NoduleModel, ct: CTVolume, asked: InferRequest) -> list[Finding]:
        if asked.points_ijk:
            centres_mm = centres_lps(asked.points_ijk, ct.geometry)
            return model(ct, centres_mm, context=asked.context)
        return model.find(
            ct,
            context=asked.context,
            max_candidates=asked.max_candidates,
            points=asked.candidates_lps_mm,
            candidate_threshold=self._shared.settings.candidate_threshold,
        )

    def _on_screen(
        self, asked: InferRequest, ct: CTVolume, by: ServedVersion, findings: list[Finding]
    ) -> OnScreen:
        """What is drawn, with which values, and what the reader sees then."""
        if self._neutral:
            return OnScreen(findings, findings, dict.fromkeys(LABEL_NAMES, 1))
        if not asked.by_segment or self._gives_markups:
            return OnScreen(findings, findings, LABEL_NAMES)
        return after_click(findings, self._shared.on_screen(asked, ct, by.model.info.sha256))

    def _tell_addresses(self, document: Json, image: str) -> None:
        """Put where the review page shows each nodule into the document."""
        for entry in document["nodules"]:
            x, y, z = entry["centre_lps_mm"]
            url = self._shared.url_of(image, (x, y, z))
            if url is not None:
                entry["url"] = url

    def _tell_values(self, document: Json, seen: OnScreen) -> None:
        """Put the values of the mask into the document; null for what is not drawn in it."""
        document["label_names"] = dict(NEUTRAL_NAMES if self._neutral else seen.values)
        drawn = {finding.id for finding in seen.drawn}
        for entry in document["nodules"]:
            value = seen.values.get(entry["class"]["name"])
            entry["mask_value"] = value if entry["id"] in drawn else None


def make_tasks(shared: SharedCharacterizer, neutral_click: bool = False) -> dict[str, InferTask]:
    """Return the models that the settings name, in the order in which viewers list them.

    Slicer's Auto-run takes the first that shares a label: the whole-CT mask. The click model is of
    type deepedit: of a deepgrow model both viewers paint the selected segment, whatever the class.

    Args:
        shared: the served version, open CTs and settings.
        neutral_click: the click model offers one segment, "nodule". For a PACS: OHIF draws nothing
            of a class that is not selected, and shows classes from DICOM SEG and SR.
    """
    tasks = {
        "resmtnet": ResMTNetTask(
            shared,
            InferType.SEGMENTATION,
            "Lung nodules of the whole CT (unconfirmed candidates), or of given points: "
            "class, malignancy score, size and mask",
        ),
        "resmtnet_click": ResMTNetTask(
            shared,
            InferType.DEEPEDIT,
            "The nodules that are clicked: class, malignancy score, size and mask",
            needs_points=True,
            neutral=neutral_click,
        ),
        "resmtnet_findings": ResMTNetTask(
            shared,
            InferType.DETECTION,
            "Class and measurements as markups: a point, the long axis and a box for each nodule",
            gives_markups=True,
        ),
    }
    return {name: tasks[name] for name in shared.settings.models}


class BatchInfer(BatchInferTask):  # type: ignore[misc]
    """MONAI Label's loop over many images, which divides by zero where there is no GPU."""

    def __call__(self, request: Json, datastore: Datastore, infer: Callable[..., Json]) -> Json:
        """Run a model on the images of the datastore; see MONAI Label's BatchInferTask.

        `bundle_path`, which MONAI Label adds, is not used.

        Raises:
            Refusal: 400 for a parameter that is not allowed.
        """
        asked = {key: value for key, value in request.items() if key != "bundle_path"}
        with as_refusals():
            check_keys(asked, BATCH, "batch inference")
        several = asked.get("multi_gpu", True) and torch.cuda.is_available()
        results: Json = super().__call__(asked | {"multi_gpu": several}, datastore, infer)
        return results


def _timing_ms(times_s: list[float]) -> dict[str, float]:
    """Return how long each step took, from the times at which it began."""
    steps = ("open", "characterize", "write")
    pairs = pairwise(times_s)
    return {step: 1e3 * (end - begin) for step, (begin, end) in zip(steps, pairs, strict=True)}


def _leave_cores_free() -> None:
    """Let torch use half of the cores at most.

    Its OpenMP threads wait for the slowest one in a busy loop: with as many threads as cores, a
    click takes ten times as long whenever another process uses a core.
    """
    torch.set_num_threads(min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) // 2)))
