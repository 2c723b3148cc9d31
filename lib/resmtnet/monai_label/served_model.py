"""Holds the model that answers, and follows the served version without a restart."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from resmtnet.errors import ConfigError, ModelError
from resmtnet.inference.characterizer import Characterizer
from resmtnet.inference.model_folder import default_model_dir, read_model
from resmtnet.inference.protocol import NoduleModel
from resmtnet.monai_label.settings import AppSettings
from resmtnet.retraining.registry import ModelRegistry, Stamp

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedVersion:
    """One version of the model, loaded."""

    model: NoduleModel
    name: str
    """Name of the version, as `resmtnet model list` shows it."""
    folder: Path
    warnings: tuple[str, ...]
    """What users should know, such as that it replaces a damaged version."""
    stamp: Stamp | None
    """Of the registry when this version was loaded."""


class ServedModel:
    """The served model; the first request after another version was chosen loads that one.

    A running request keeps the version that it got from `now`.
    """

    def __init__(self, versions: ModelRegistry, load: Callable[[Path], NoduleModel]) -> None:
        """Load the model that is served now.

        Args:
            versions: the registry, which says which version is served.
            load: reads a model folder and checks it.

        Raises:
            ModelError: neither the served nor the shipped model can be read.
        """
        self.versions = versions
        self._load = load
        self._lock = Lock()
        self._now = self._read()

    def now(self) -> ServedVersion:
        """Return the version to answer with; one stat call if nothing has changed."""
        if self.versions.stamp() != self._now.stamp:
            with self._lock:
                if self.versions.stamp() != self._now.stamp:
                    self._follow()
        return self._now

    def _follow(self) -> None:
        start, before = time.perf_counter(), self._now
        try:
            self._now = self._read()
        except Exception as error:  # the model in memory still answers
            logger.exception("The served version cannot be loaded; %s still answers", before.name)
            note = (
                f"{before.name} still answers, because the served version cannot be read: {error}"
            )
            self._now = replace(before, warnings=(note,), stamp=self.versions.stamp())
            return
        took_s = time.perf_counter() - start
        logger.info(
            "Version %s is served instead of %s (loaded in %.2f s)",
            self._now.name,
            before.name,
            took_s,
        )

    def _read(self) -> ServedVersion:
        stamp = (
            self.versions.stamp()
        )  # taken before reading, so that a later choice is noticed next time
        model, served = self.versions.load(self._load)
        if served.warning:
            logger.warning("%s", served.warning)
        warnings = (served.warning,) if served.warning else ()
        return ServedVersion(model, served.name, served.folder, warnings, stamp)


def served_model(app_dir: str | Path, studies: str, settings: AppSettings) -> ServedModel:
    """Load the model that a server of these studies answers with."""
    shipped = settings.model_dir or default_model_dir()
    versions = ModelRegistry.beside(settings.database(app_dir, studies), shipped)
    try:
        versions.key.make()
    except ModelError as error:
        logger.warning("Training will not be able to publish: %s", error)
    return ServedModel(versions, lambda folder: load_model(folder, settings))


def load_model(folder: Path, settings: AppSettings) -> Characterizer:
    """Load a version, run by ONNX Runtime where that is asked for and it was exported.

    Raises:
        ConfigError: ONNX Runtime and a GPU are asked for.
        ModelError: the model cannot be read.
    """
    if settings.onnx is None:
        return Characterizer.load(folder, settings.device)
    if settings.device not in (None, "cpu"):
        raise ConfigError(
            f"--conf onnx runs on the CPU, and --conf device names {settings.device}: leave one out"
        )
    from resmtnet.inference.onnx_members import with_onnx

    model = read_model(folder)
    try:
        return Characterizer(with_onnx(model, settings.onnx))
    except ModelError as error:
        logger.warning("PyTorch runs version %s: %s", model.info.version, error)
        return Characterizer(model)
