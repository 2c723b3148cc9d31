"""What 3D Slicer shows after a click: the answer, and what earlier answers have drawn.

Slicer fills the segments that an answer names, in the order of their values, and empties those of
them that the answer does not draw. So the answer to a click names only the segments that the click
changes, numbers those that have voxels first, and draws again what else they held. Whatever is in
other segments stays as it is, a reader's edits included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from resmtnet.characteristics import LABEL_NAMES
from resmtnet.findings import Finding
from resmtnet.readings.matching import SHARED, distance_in_reach_mm, radius_mm


@dataclass(frozen=True)
class OnScreen:
    """What a reader sees after a click."""

    nodules: list[Finding]
    """The clicked ones in the order of the clicks, then those that were there before."""
    drawn: list[Finding]
    """Those of them that the answer's mask holds."""
    values: Mapping[str, int]
    """Mask value of each class that the answer names."""


def after_click(clicked: Sequence[Finding], earlier: Sequence[Finding]) -> OnScreen:
    """Return what a reader sees after a click.

    Args:
        clicked: the answer. A nodule that was there before keeps its name; a new one gets the next
            number.
        earlier: what the reader saw before.
    """
    same = [[n for n, old in enumerate(earlier) if _is_same(old, new)] for new in clicked]
    gone = {n for olds in same for n in olds}
    kept = [old for n, old in enumerate(earlier) if n not in gone]
    touched = {f.class_name for f in clicked} | {earlier[n].class_name for n in gone}
    named = _named(clicked, earlier, same)
    drawn = [*named, *(old for old in kept if old.class_name in touched)]
    filled = {f.class_name for f in drawn if f.mask is not None and f.mask.any()}
    order = sorted(touched, key=lambda name: (name not in filled, LABEL_NAMES[name]))
    values = {name: value for value, name in enumerate(order, start=1)}
    return OnScreen([*named, *kept], drawn, values)


def _named(
    clicked: Sequence[Finding], earlier: Sequence[Finding], same: Sequence[Sequence[int]]
) -> list[Finding]:
    """The clicked nodules under names that no other one has."""
    free = [int(f.id[1:]) for f in earlier if f.id[1:].isdigit()]
    last, taken, named = max([0, *free]), set[str](), []
    for finding, olds in zip(clicked, same, strict=True):
        name = next((earlier[n].id for n in olds if earlier[n].id not in taken), None)
        if name is None:
            last += 1
            name = f"N{last}"
        taken.add(name)
        named.append(replace(finding, id=name))
    return named


def _is_same(old: Finding, new: Finding) -> bool:
    """Whether two findings of one CT are of one nodule: they share a tenth of the smaller one."""
    if old.mask is None or old.start_ijk is None or new.mask is None or new.start_ijk is None:
        centre = old.centroid_lps_mm or old.centre_lps_mm
        radius = radius_mm(vars(old.size))
        return distance_in_reach_mm(new.centre_lps_mm, [centre], radius) is not None
    voxels = [_voxels(one) for one in (old, new)]
    return len(voxels[0] & voxels[1]) >= max(1.0, SHARED * min(map(len, voxels)))


def _voxels(finding: Finding) -> set[tuple[int, ...]]:
    """Voxels (k, j, i) of a finding that has a mask."""
    assert finding.mask is not None
    assert finding.start_ijk is not None
    index = np.argwhere(finding.mask) + np.array(finding.start_ijk[::-1])
    return set(map(tuple, index.tolist()))
