"""The three models of the app, all thin over one Characterizer."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from resmtnet.characteristics import LABEL_NAMES
from resmtnet.ct import CTVolume
from resmtnet.ct.image_file import check_whole, image_suffix, is_detached
from resmtnet.ct.measure import measure
from resmtnet.errors import PointError
from resmtnet.findings import Finding
from resmtnet.guidelines import CONTEXTS
from resmtnet.inference.protocol import NoduleModel
from resmtnet.monai_label.refusals import as_refusals
from resmtnet.monai_label.request import InferRequest, centres_lps, is_upload
from resmtnet.monai_label.served_model import ServedModel, ServedVersion
from resmtnet.monai_label.settings import AppSettings
from resmtnet.readings.formats.class_mask import mask_extension, write_mask
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.formats.markups_write import write_markups
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.types import Json

logger = logging.getLogger(__name__)


@dataclass
class InferResult:
    """What one version of the model says of one request."""

    by: ServedVersion
    ct: CTVolume
    findings: list[Finding]
    timing_ms: dict[str, float] = field(default_factory=dict)

    def document(self, write_ms: float) -> Json:
        """The findings/1 JSON, with the version that answered.

        Args:
            write_ms: what writing the file took.
        """
        timing = self.timing_ms | {"write": write_ms}
        document = self.by.model.document(self.ct, self.findings, timing)
        document["warnings"] += self.by.warnings
        return document


class SharedCharacterizer:
    """One Characterizer for all models, and the CTs that were used last; from any thread."""

    def __init__(self, models: ServedModel, settings: AppSettings) -> None:
        """Shares a model.

        Args:
            models: the version that answers now; has to be safe to call from several threads.
            settings: how many CTs stay open, and the defaults of a request.
        """
        self._models = models
        self.settings = settings
        self.on_answer: Callable[[Mapping[str, Any], InferResult, Json], object] = lambda *_: None
        """Called with each request, its answer and the document that is sent."""
        self._opened: OrderedDict[tuple[str, int, int], CTVolume] = OrderedDict()
        self._lock = Lock()
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

    def answer(self, request: InferRequest) -> InferResult:
        """Characterizes the points of a request, or the candidates of the whole CT.

        One version answers all of it, whatever is published meanwhile.

        Raises:
            InputError: the CT cannot be read, or a point lies outside it.
        """
        start = time.perf_counter()
        ct = self.open(request.image)
        opened = time.perf_counter()
        by = self.now
        if request.points_ijk:
            centres = centres_lps(request.points_ijk, ct.geometry)
            findings = by.model(ct, centres_mm=centres, context=request.context)
        else:
            findings = by.model.find(
                ct, context=request.context, max_candidates=request.max_candidates
            )
        done = time.perf_counter()
        timing_ms = {"open": 1e3 * (opened - start), "characterize": 1e3 * (done - opened)}
        return InferResult(by, ct, findings, timing_ms)

    def open(self, path: Path) -> CTVolume:
        """A CT, kept open for the next click until others were used since, or its file changed.

        One whose changes do not show in `path` (an upload, a header with a data file) is not kept.
        """
        key = _state(path)
        with self._lock:
            ct = self._opened.pop(key, None)
            if ct is not None:
                self._opened[key] = ct
                return ct
        if is_upload(path) and path.is_file():
            check_whole(path)
        ct = CTVolume.open(path)
        if is_upload(path) or is_detached(path):
            return ct
        with self._lock:
            self._opened[key] = ct
            while len(self._opened) > self.settings.ct_cache:
                self._opened.popitem(last=False)
        return ct

    def start_warm_up(self) -> Thread:
        """Warms up in the background, so that the server answers /info meanwhile."""
        thread = Thread(target=self._warm_up, name="resmtnet-warm-up", daemon=True)
        thread.start()
        return thread

    def _warm_up(self) -> None:
        start = time.perf_counter()
        try:
            self.model.warm_up()
            ct = CTVolume.from_array(np.full((2, 8, 8), -1000, np.int16), (1.0, 1.0, 1.0))
            measure(np.ones((1, 2, 2), np.uint8), ct.geometry)
            for extension in (".nrrd", ".nii.gz"):
                path = write_mask([], ct.geometry, extension)
                read_label_map(path)  # as the first label that is saved
                path.unlink()
        except Exception:
            # The first request meets the same failure, and tells it to somebody.
            logger.exception("Warm-up failed")
        else:
            logger.info("Warm-up took %.1f s", time.perf_counter() - start)


class ResMTNetTask(InferTask):  # type: ignore[misc]
    """Points or the whole CT in; a class-coded mask and the findings JSON out."""

    def __init__(
        self,
        shared: SharedCharacterizer,
        kind: InferType,
        description: str,
        needs_points: bool = False,
    ) -> None:
        """One model of the app.

        Args:
            shared: answers.
            kind: decides where a viewer offers it.
            description: what a viewer shows for it.
            needs_points: refuse a request without a click instead of searching the whole CT.
        """
        default = shared.settings.context or "none"
        others = [name for name in ("none", *CONTEXTS) if name != default]
        super().__init__(
            type=kind,
            labels=dict(LABEL_NAMES),
            dimension=3,
            description=description,
            config={"context": [default, *others]},
        )
        self._shared = shared
        self._needs_points = needs_points

    def info(self) -> Json:
        """What /info says of it, with the version that answers now and what is wrong with it."""
        now = self._shared.now
        told: Json = super().info()
        return told | {"version": now.model.info.version, "warnings": list(now.warnings)}

    def is_valid(self) -> bool:
        """The model was loaded and verified before the task was made."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, Json]:
        """Answers one request.

        Args:
            request: see InferRequest.parse.

        Returns:
            A temporary file, which MONAI Label deletes after it was sent, and the findings/1 JSON.

        Raises:
            Refusal: with the reason in one line.
        """
        with as_refusals():
            parsed = InferRequest.parse(request, self._shared.settings)
            self.check(parsed)
            answer = self._shared.answer(parsed)
            start = time.perf_counter()
            path = self.write(answer, parsed)
            try:
                document = answer.document(write_ms=1e3 * (time.perf_counter() - start))
                self._shared.on_answer(request, answer, document)
            except BaseException:
                path.unlink()
                raise
            return str(path), document

    def check(self, request: InferRequest) -> None:
        """Refuses what this model cannot answer, before the CT is opened."""
        mask_extension(request.result_extension)
        if self._needs_points and not request.points_ijk:
            raise PointError(
                "There is no point: click a nodule, or use the model resmtnet for the whole CT. "
                "foreground is a list of [i, j, k] voxel indices."
            )

    def write(self, answer: InferResult, request: InferRequest) -> Path:
        """The file of the answer."""
        extension = mask_extension(request.result_extension)
        return write_mask(answer.findings, answer.ct.geometry, extension)


class MarkupsTask(ResMTNetTask):
    """The same findings as Slicer Markups: a point, a line and a box for each nodule."""

    def check(self, request: InferRequest) -> None:
        """Any request is answered, and always with .json: Slicer asks for .nrrd of every model."""

    def write(self, answer: InferResult, request: InferRequest) -> Path:
        """The markups file."""
        return write_markups(answer.findings, answer.ct.geometry)


def make_tasks(shared: SharedCharacterizer) -> dict[str, InferTask]:
    """The models that the settings name, in the order in which viewers list them.

    Slicer's Auto-run takes the first that shares a label: the whole-CT mask.
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
            InferType(shared.settings.click_type),
            "The nodules that are clicked: class, malignancy score, size and mask",
            needs_points=True,
        ),
        "resmtnet_findings": MarkupsTask(
            shared,
            InferType.DETECTION,
            "Class and numbers as markups: a point, the long axis and a box for each nodule",
        ),
    }
    return {name: tasks[name] for name in shared.settings.models}


class BatchInfer(BatchInferTask):  # type: ignore[misc]
    """MONAI Label's loop over many images, which divides by zero where there is no GPU."""

    def __call__(self, request: Json, datastore: Datastore, infer: Callable[..., Json]) -> Json:
        """Runs a model on the images of the datastore; see MONAI Label's BatchInferTask."""
        several = request.get("multi_gpu", True) and torch.cuda.is_available()
        results: Json = super().__call__(request | {"multi_gpu": several}, datastore, infer)
        return results


def _leave_cores_free() -> None:
    """Gives torch half of the cores at most.

    Its OpenMP threads wait for the slowest of them, spinning: with as many threads as cores, a
    click takes ten times as long whenever anything else uses one.
    """
    torch.set_num_threads(min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) // 2)))


def _state(path: Path) -> tuple[str, int, int]:
    """A path and when it changed; of a DICOM series also when its folder did."""
    times = [0, 0]
    places = [path, path.parent] if image_suffix(path) is None else [path]
    for n, place in enumerate(places):
        with suppress(OSError):
            times[n] = place.stat().st_mtime_ns
    return str(path), times[0], times[1]
