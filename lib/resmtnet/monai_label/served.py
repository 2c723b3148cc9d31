"""The model that answers now: it follows the version that is served, without a restart."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Protocol

from resmtnet.characterizer import Characterizer
from resmtnet.ct import CTVolume
from resmtnet.findings import Finding, Json, ModelInfo, Point
from resmtnet.model_store import default_model_dir
from resmtnet.monai_label.settings import AppSettings
from resmtnet.versions import Stamp, Versions

logger = logging.getLogger(__name__)


class Model(Protocol):
    """What the adaptor needs of `resmtnet.Characterizer`."""

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


@dataclass(frozen=True)
class Answering:
    """One version, as long as somebody uses it."""

    model: Model
    name: str
    """Of the version, as `resmtnet model list` shows it."""
    folder: Path
    warnings: tuple[str, ...]
    """What to tell of it, such as that it stands in for a damaged version."""
    stamp: Stamp | None


class ServedModel:
    """The served model, loaded anew by the first request after another version was chosen.

    Requests that run keep the model that they began with: whoever asks `now` holds one version.
    """

    def __init__(self, versions: Versions, load: Callable[[Path], Model]) -> None:
        """Load the model that is served now.

        Args:
            versions: say which that is.
            load: reads a model folder and checks it.

        Raises:
            ModelError: neither the served nor the shipped model can be read.
        """
        self.versions = versions
        self._load = load
        self._lock = Lock()
        self._now = self._read()

    def now(self) -> Answering:
        """Return the version to answer with; costs one stat where nothing has changed."""
        if self.versions.stamp() != self._now.stamp:
            with self._lock:
                if self.versions.stamp() != self._now.stamp:
                    self._follow()
        return self._now

    def model(self) -> Model:
        """Return the model to answer with."""
        return self.now().model

    def _follow(self) -> None:
        start, before = time.perf_counter(), self._now
        try:
            self._now = self._read()
        except Exception as error:  # the model in memory still answers
            logger.exception("No other version can be loaded; %s goes on", before.name)
            note = f"{before.name} goes on, because what is served now cannot be read: {error}"
            self._now = replace(before, warnings=(note,), stamp=self.versions.stamp())
            return
        took_s = time.perf_counter() - start
        logger.info("%s answers instead of %s (%.2f s)", self._now.name, before.name, took_s)

    def _read(self) -> Answering:
        stamp = self.versions.stamp()  # of before the reading: a later choice is seen next time
        model, served = self.versions.load(self._load)
        if served.warning:
            logger.warning("%s", served.warning)
        warnings = (served.warning,) if served.warning else ()
        return Answering(model, served.name, served.folder, warnings, stamp)


def served_model(app_dir: str | Path, studies: str, settings: AppSettings) -> ServedModel:
    """The model that a server of these studies answers with."""
    shipped = settings.model_dir or default_model_dir()
    versions = Versions.beside(settings.database(app_dir, studies), shipped)
    return ServedModel(versions, lambda folder: Characterizer.load(folder, settings.device))
