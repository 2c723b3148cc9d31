"""A mask file that a viewer has saved, with the names of its segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resmtnet.characteristics import LABEL_NAMES
from resmtnet.ct.geometry import Geometry
from resmtnet.readings.formats.draft import AnsweredNodule, ParsedLabel
from resmtnet.readings.formats.from_mask import from_mask
from resmtnet.readings.formats.label_map import grid_warnings
from resmtnet.readings.formats.label_map_apart import read_label_map_apart
from resmtnet.types import Json


def read_mask(
    path: Path,
    info: Json,
    known: Sequence[AnsweredNodule],
    ct: Geometry | None = None,
) -> ParsedLabel:
    """Read a mask.

    Args:
        path: of the label map.
        info: of the label; its label_info, a list of {"name", "idx"}, names the segments where the
            file itself does not.
        known: what models had answered for the image, the latest first.
        ct: the grid of the CT, against which the place of the mask is checked.

    Raises:
        VolumeError: it cannot be read within bounds of memory and time, is no label map, has many
            times the voxels of the CT, or has lost its geometry.
    """
    label_map = read_label_map_apart(path, ct)
    warnings = label_map.warnings
    if ct is not None:
        warnings += grid_warnings(label_map.geometry, ct)
    segments, exact = (
        (label_map.segments, True) if label_map.segments else (info.get("label_info"), False)
    )
    if not segments:
        warnings += ("label_info is missing: the values are read as the app writes them",)
        segments = [{"name": name, "idx": value} for name, value in LABEL_NAMES.items()]
        exact = True
    parsed = from_mask(
        label_map.mask,
        label_map.geometry,
        segments,
        known,
        exact=exact,
        resampled=label_map.resampled,
    )
    return replace(parsed, warnings=warnings + parsed.warnings)
