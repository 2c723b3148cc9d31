"""The nodules that readers have confirmed, as SEG, SR and the report text hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.characteristics import texture_class_of
from resmtnet.ct import Geometry
from resmtnet.ct.measure import measure
from resmtnet.errors import InputError
from resmtnet.findings import SIZE_NAMES
from resmtnet.guidelines import CONTEXTS
from resmtnet.guidelines.assess import assess
from resmtnet.readings.dicom.nodule import Line, ResultNodule
from resmtnet.readings.dicom.results_log import SeriesResults
from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.matching import nodule_at
from resmtnet.readings.record import REPEAT, Reading
from resmtnet.types import Json, Point

LARGEST = 1e9
"""No size is larger, in whatever unit."""

Mask = tuple[NDArray[np.uint8], tuple[int, int, int]]
"""[k, j, i] on the voxels of the CT, and the voxel at which it starts."""


def confirmed_nodules(
    readings: Sequence[Reading],
    series_uid: str,
    results: SeriesResults,
    ct: Geometry | None,
    masks: Path,
    known: Sequence[AnsweredNodule] = (),
) -> list[ResultNodule]:
    """Return the nodules of readings: the words are the readers', sizes those that stand.

    What a reader left as the model had answered it (sizes, texture) is the model's. Repeat reads
    confirm and correct nothing.

    Args:
        readings: of one image, what each reader says in the end, in order; of several readers of
            one nodule the last counts.
        series_uid: of the CT.
        results: what was told already: a nodule keeps its name and tracking UID.
        ct: the grid of the CT; None: masks and axes are left out.
        masks: folder of the readings' masks.
        known: what models answered, for the masks that readers left as they were.
    """
    last: dict[str | None, Reading] = {}
    for reading in readings:
        if reading.centre_lps_mm is not None and reading.purpose != REPEAT:
            last[reading.nodule] = reading
    found: list[ResultNodule] = []
    taken: set[str] = set()
    names = {told.tracking_uid: told.name for told in results.told()}
    for reading in last.values():
        assert reading.centre_lps_mm is not None  # see above
        uid = results.tracking_uid(series_uid, reading.centre_lps_mm, taken)
        taken.add(uid)
        used = {*names.values(), *(one.name for one in found)}
        name = names.get(uid) or free_name(used)
        found.append(_nodule(reading, name, uid, ct, masks, known))
    return found


def free_name(used: set[str]) -> str:
    """Return the first of N1, N2, ... that is not used.

    >>> free_name({"N1", "N3"})
    'N2'
    """
    return next(name for name in (f"N{n}" for n in range(1, len(used) + 2)) if name not in used)


def _nodule(
    reading: Reading,
    name: str,
    uid: str,
    ct: Geometry | None,
    masks: Path,
    known: Sequence[AnsweredNodule],
) -> ResultNodule:
    answer: Json = reading.answered.finding if reading.answered else {}
    told = {name: _number(answer, "size", name) for name in SIZE_NAMES}
    is_nodule = reading.class_name != "not_a_nodule"
    sizes = dict(reading.sizes)
    if is_nodule and not sizes:
        sizes = {name: value for name, value in told.items() if value is not None}
    characteristics = dict(reading.characteristics)
    texture = _number(answer, "characteristics", "texture", "rating")
    if is_nodule and "texture" not in characteristics and texture is not None:
        characteristics["texture"] = min(max(round(texture), 1), 5)
    mask = _mask(reading, ct, masks, known) if ct is not None and is_nodule else None
    long, short = _axes(mask, ct)
    centre: Point | None = reading.centre_lps_mm
    assert centre is not None  # the caller has left out the others
    return ResultNodule(
        name=name,
        tracking_uid=uid,
        centre_lps_mm=centre,
        class_name=reading.class_name,
        malignancy=reading.malignancy,
        sizes=sizes,
        characteristics=characteristics,
        category=_category(answer, sizes, characteristics) if is_nodule else None,
        long_axis_lps_mm=long,
        short_axis_lps_mm=short,
        warnings=(reading.comment,) if reading.comment else (),
        mask=mask[0] if mask else None,
        start_ijk=mask[1] if mask else None,
    )


def _number(answer: Json, *path: str) -> float | None:
    """The number at a place of an answer, which a program may have sent as it liked; else None."""
    found: object = answer
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) < LARGEST:
        return None
    return float(found)


def _category(
    answer: Json, sizes: dict[str, float], characteristics: dict[str, int]
) -> tuple[str, str] | None:
    """The guideline category of what a reader confirmed, in the context of the answer."""
    guidelines = answer.get("guidelines")
    context = guidelines.get("context") if isinstance(guidelines, dict) else None
    if context not in CONTEXTS or "texture" not in characteristics:
        return None
    texture = texture_class_of(characteristics["texture"])
    diameter = sizes.get("mean_diameter_mm") or sizes.get("equivalent_diameter_mm")
    block = assess(
        str(context), {texture: 1.0}, diameter, solid_component_mm=sizes.get("solid_component_mm")
    )
    for system, ranged in (("lung_rads", block.lung_rads), ("fleischner", block.fleischner)):
        if ranged is not None:
            return system, ranged.category.name
    return None


def _mask(
    reading: Reading, ct: Geometry, masks: Path, known: Sequence[AnsweredNodule]
) -> Mask | None:
    """The mask that a reader drew, else that of the answer at the place, if no size was changed."""
    if reading.mask is not None:
        try:
            label_map = read_label_map(masks / reading.mask.file)
        except (InputError, OSError):
            return None
        return _placed(label_map.mask == reading.mask.value, label_map.geometry, ct)
    if reading.sizes or reading.centre_lps_mm is None:
        return None
    nodule = nodule_at(reading.centre_lps_mm, None, [one for one in known if one.mask is not None])
    if nodule is None or nodule.mask is None or nodule.grid is None:
        return None
    return _placed(nodule.mask > 0, nodule.grid, ct)


def _placed(mask: NDArray[np.bool_], grid: Geometry, ct: Geometry) -> Mask | None:
    """A mask on the voxels of the CT; None where its grid is another one."""
    i, j, k = (float(x) for x in ct.lps_to_ijk(grid.ijk_to_lps((0, 0, 0))))
    ends = ct.lps_to_ijk(grid.ijk_to_lps(np.eye(3))) - (i, j, k)
    start = round(i), round(j), round(k)
    if np.abs(ends - np.eye(3)).max() > 1e-2 or np.abs(np.subtract((i, j, k), start)).max() > 0.1:
        return None
    if not mask.any():
        return None
    low = np.argwhere(mask).min(0)
    high = np.argwhere(mask).max(0) + 1
    part = mask[tuple(slice(*pair) for pair in zip(low, high, strict=True))].astype(np.uint8)
    first = start[0] + int(low[2]), start[1] + int(low[1]), start[2] + int(low[0])
    return part, first


def _axes(mask: Mask | None, ct: Geometry | None) -> tuple[Line | None, Line | None]:
    if mask is None or ct is None:
        return None, None
    measured = measure(mask[0], ct.sub(mask[1], mask[0].shape[::-1]))
    if measured is None:
        return None, None
    return measured.long_axis_ends_lps_mm, measured.short_axis_ends_lps_mm
