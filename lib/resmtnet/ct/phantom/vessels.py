"""Branching vessels and airways of the phantom: tapering tubes grown from the hila."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from resmtnet.ct.phantom.chest import AnyArray, Chest

_STEP_MM = 5.0
_SMALLEST_MM = 0.42
_BRANCHES_PER_HILUM = 18
_MAX_TUBES = 6000
_REACHED_MM = 7.0


@dataclass(frozen=True)
class Tube:
    """A tapering capsule in anatomy coordinates."""

    start_mm: AnyArray
    """(3,) x, y, z."""
    end_mm: AnyArray
    start_radius_mm: float
    end_radius_mm: float


def large_airways() -> list[Tube]:
    """Return trachea and main bronchi."""
    carina = np.array([-1.0, 6.0, 18.0])
    return [
        Tube(np.array([0.0, 0.0, 160.0]), carina, 8.5, 8.0),
        Tube(carina, np.array([-36.0, 12.0, -8.0]), 7.5, 5.5),
        Tube(carina, np.array([38.0, 14.0, -10.0]), 6.8, 5.0),
    ]


def grow_vessels(chest: Chest, rng: np.random.Generator) -> list[Tube]:
    """Grow both lungs' trees as random walks that taper, branch and head for points of the lung.

    Returns:
        Tubes of one step each, the widest generations first.
    """
    return [
        tube
        for hilum in ((-37.0, 6.0, -6.0), (39.0, 8.0, -6.0))
        for tube in _grow_tree(chest, np.array(hilum), rng)
    ]


def _grow_tree(chest: Chest, hilum: AnyArray, rng: np.random.Generator) -> list[Tube]:
    goals = rng.uniform([4, -85, -110], [125, 85, 105], (9000, 3)) * [np.sign(hilum[0]), 1, 1]
    goals = goals[chest.lung(*goals.T) < -2.5]
    target = _spread(goals, _BRANCHES_PER_HILUM)
    at = hilum + rng.standard_normal(target.shape) * [2.0, 5.0, 7.0]
    heading = _unit(target - at)
    radius = rng.uniform(2.2, 4.4, len(at))
    tubes: list[Tube] = []
    while len(at) and len(tubes) < _MAX_TUBES:
        wander = 0.09 * rng.standard_normal(at.shape)
        heading = _unit(heading + wander + 0.14 * _unit(target - at))
        end = at + _STEP_MM * heading
        end_radius = radius * rng.uniform(0.97, 0.998, len(at))
        tubes += [Tube(*ends) for ends in zip(at, end, radius, end_radius, strict=True)]
        inside = chest.lung(*end.T) < -1.0
        alive = (inside | (np.linalg.norm(end - hilum, axis=1) < 28)) & (end_radius > _SMALLEST_MM)
        at, heading, radius, target = end[alive], heading[alive], end_radius[alive], target[alive]
        side, main_share, side_share, split = _split(heading, radius, rng)
        at = np.concatenate([at, at[split]])
        heading = np.concatenate([heading, side[split]])
        radius = np.concatenate([radius * main_share, (radius * side_share)[split]])
        target = np.concatenate([target, at[len(target) :]])
        lost = np.einsum("nc,nc->n", target - at, heading) < _REACHED_MM
        target[lost] = _goals_ahead(at[lost], heading[lost], hilum, goals, rng)
    return tubes


def _split(
    heading: AnyArray, radius: AnyArray, rng: np.random.Generator
) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray]:
    """Return side headings, radius shares of both children, and which tips do split.

    The cubes of the radii add up (Murray's law).
    """
    split = rng.random(len(radius)) < _STEP_MM / (5.0 + 3.0 * radius)
    aside = _unit(np.cross(heading, rng.standard_normal(heading.shape)))
    side_share = rng.uniform(0.45, 0.78, len(radius))
    main_share = np.where(split, (1 - side_share**3) ** (1 / 3), 1.0)
    side = _unit(heading + rng.uniform(0.6, 1.3, (len(radius), 1)) * aside)
    return side, main_share, side_share, split


def _goals_ahead(
    at: AnyArray, heading: AnyArray, hilum: AnyArray, goals: AnyArray, rng: np.random.Generator
) -> AnyArray:
    """Choose for each tip, of a few random goals, the one that lies best ahead and outwards."""
    drawn = goals[rng.integers(len(goals), size=(len(at), 16))]
    ahead = np.einsum("ngc,nc->ng", _unit(drawn - at[:, None]), heading)
    outwards = 0.008 * np.linalg.norm(drawn - hilum, axis=2)
    chosen: AnyArray = drawn[np.arange(len(at)), (ahead + outwards).argmax(axis=1)]
    return chosen


def _spread(points: AnyArray, count: int) -> AnyArray:
    """Choose points far from one another (farthest-point sampling)."""
    chosen = [points[0]]
    nearest = np.full(len(points), np.inf)
    for _ in range(count - 1):
        nearest = np.minimum(nearest, np.linalg.norm(points - chosen[-1], axis=1))
        chosen.append(points[int(nearest.argmax())])
    return np.stack(chosen)


def bronchi(vessels: list[Tube]) -> list[Tube]:
    """Return the airways that run beside the wider vessels."""
    beside = np.array([0.35, -0.8, 0.5])
    return [
        Tube(
            tube.start_mm + 1.9 * tube.start_radius_mm * beside,
            tube.end_mm + 1.9 * tube.end_radius_mm * beside,
            0.7 * tube.start_radius_mm,
            0.7 * tube.end_radius_mm,
        )
        for tube in vessels
        if tube.end_radius_mm > 2.1
    ]


def _unit(vectors: AnyArray) -> AnyArray:
    scaled: AnyArray = vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9)
    return scaled


def add_tubes(
    share: AnyArray, axes_mm: tuple[AnyArray, AnyArray, AnyArray], tubes: list[Tube]
) -> None:
    """Raise the share of each voxel that tubes fill, in place.

    Args:
        share: float32 [k, j, i], 0 to 1.
        axes_mm: coordinates of the voxel centres along x, y and z, anatomy mm, ascending.
        tubes: what to add; each is computed in its own box only.
    """
    if not tubes:
        return
    edge_mm = float(np.mean([axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in axes_mm]))
    ends = np.array([(tube.start_mm, tube.end_mm) for tube in tubes])
    widths = [max(tube.start_radius_mm, tube.end_radius_mm) for tube in tubes]
    reach = np.array(widths)[:, None] + edge_mm
    low, high = ends.min(axis=1) - reach, ends.max(axis=1) + reach
    first = np.column_stack([np.searchsorted(axes_mm[n], low[:, n]) for n in range(3)])
    last = np.column_stack([np.searchsorted(axes_mm[n], high[:, n]) for n in range(3)])
    for index in np.flatnonzero((first < last).all(axis=1)):
        tube = tubes[index]
        box = [slice(*pair) for pair in zip(first[index], last[index], strict=True)]
        x, y, z = (axis[part] for axis, part in zip(axes_mm, box, strict=True))
        inside = _tube_distance(tube, x[None, None, :], y[None, :, None], z[:, None, None])
        filled = np.clip(0.5 - inside / edge_mm, 0, 1)
        filled *= min(1.0, 1.8 * tube.end_radius_mm / edge_mm)
        part = share[box[2], box[1], box[0]]
        np.maximum(part, filled, out=part)


def _tube_distance(tube: Tube, x: AnyArray, y: AnyArray, z: AnyArray) -> AnyArray:
    (sx, sy, sz), (dx, dy, dz) = tube.start_mm, tube.end_mm - tube.start_mm
    px, py, pz = x - sx, y - sy, z - sz
    along = np.clip((px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz), 0, 1)
    square = (px - along * dx) ** 2 + (py - along * dy) ** 2 + (pz - along * dz) ** 2
    radius = tube.start_radius_mm + along * (tube.end_radius_mm - tube.start_radius_mm)
    distance: AnyArray = np.sqrt(square) - radius
    return distance
