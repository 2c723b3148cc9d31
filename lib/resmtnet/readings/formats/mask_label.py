"""A mask that a viewer has saved, with what MONAI Label was told of its segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resmtnet.characteristics import LABEL_NAMES
from resmtnet.readings.formats.draft import AnsweredNodule, Understood
from resmtnet.readings.formats.from_mask import from_mask
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.types import Json


def read_mask(path: Path, info: Json, known: Sequence[AnsweredNodule]) -> Understood:
    """Read a mask.

    Args:
        path: of the label map.
        info: of the label; its label_info names the segments where the file itself does not.
        known: what models had answered for the image, the latest first.

    Raises:
        VolumeError: it cannot be read, or is no label map.
    """
    label_map = read_label_map(path)
    listed, warnings = info.get("label_info"), label_map.warnings
    exact = bool(label_map.segments)
    segments: list[Json] = [entry for entry in listed or () if isinstance(entry, dict)]
    if exact:
        segments = list(label_map.segments)
    elif not segments:
        warnings += ("there is no label_info: the values are read as the app writes them",)
        segments = [{"name": name, "idx": value} for name, value in LABEL_NAMES.items()]
        exact = True
    understood = from_mask(
        label_map.mask,
        label_map.geometry,
        segments,
        known,
        exact=exact,
        resampled=label_map.resampled,
    )
    return replace(understood, warnings=warnings + understood.warnings)
