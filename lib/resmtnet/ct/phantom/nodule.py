"""Nodules of the phantom: star-shaped bodies of known volume, rendered with partial volume."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from resmtnet.ct.phantom.chest import AnyArray
from resmtnet.errors import InputError
from resmtnet.types import Point

TEXTURES = ("non-solid", "part-solid", "solid")
SOLID_HU, GROUND_GLASS_HU, HALO_HU = 30.0, -620.0, -600.0

_SUBVOXEL_MM = 0.35
_LOBES, _SPIKES = 8, 56
_LOBE_WIDTH, _SPIKE_WIDTH = 0.16, 0.008
"""1 - cos of the angle over which a bump falls to 1/e."""


@dataclass(frozen=True)
class NoduleSpec:
    """A nodule asked for."""

    equivalent_diameter_mm: float = 10.0
    """Diameter of the sphere of the same volume, 2 to 60 mm."""
    texture: str = "solid"
    """"solid", "part-solid" (ground-glass halo, solid core) or "non-solid"."""
    spiculation: float = 0.0
    """0: none, 1: many long spikes."""
    lobulation: float = 0.0
    """0: round, 1: strongly lobed."""
    solid_fraction: float = 0.5
    """Diameter of the core of a part-solid nodule, as a share of the whole; ignored otherwise."""
    centre_lps_mm: Point | None = None
    """Where it lies; None: in a lung, drawn by the seed."""

    def __post_init__(self) -> None:
        if not 2 <= self.equivalent_diameter_mm <= 60:
            raise InputError(
                f"equivalent_diameter_mm is {self.equivalent_diameter_mm}; allowed: 2 to 60 mm"
            )
        if self.texture not in TEXTURES:
            raise InputError(f"texture {self.texture!r}; allowed: {', '.join(TEXTURES)}")
        for name in ("spiculation", "lobulation", "solid_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")


@dataclass(frozen=True, eq=False)
class PhantomNodule:
    """The truth of one rendered nodule."""

    centre_lps_mm: Point
    equivalent_diameter_mm: float
    """Of `volume_mm3`."""
    volume_mm3: float
    """Summed over the voxels with the share of each that the nodule fills (supersampled)."""
    long_axis_mm: float
    """Greatest extent of the true shape in an axial plane; spikes are not measured (Fleischner)."""
    short_axis_mm: float
    """Greatest extent perpendicular to the long axis in that plane."""
    solid_component_mm: float | None
    """Mean of the axes of the core of a part-solid nodule."""
    texture: str
    spiculation: float
    lobulation: float
    mask: AnyArray
    """bool [k, j, i]: voxels that the nodule fills by half or more."""
    start_ijk: tuple[int, int, int]
    """Voxel of the CT at which the mask starts."""

    @property
    def mean_diameter_mm(self) -> float:
        """Mean of long and short axis."""
        return (self.long_axis_mm + self.short_axis_mm) / 2


class NoduleShape:
    """A star-shaped surface around the origin: its radius (mm) is a function of direction."""

    def __init__(self, spec: NoduleSpec, rng: np.random.Generator) -> None:
        lobes, spikes = _LOBES, _SPIKES
        self._bumps = _directions(lobes + spikes, rng)
        heights = np.concatenate([rng.uniform(0.2, 0.6, lobes), rng.uniform(0.3, 1.1, spikes)])
        strength = np.repeat([spec.lobulation, spec.spiculation], [lobes, spikes])
        self._heights = heights * strength
        self._widths = np.repeat([_LOBE_WIDTH, _SPIKE_WIDTH], [lobes, spikes])
        self._base_mm = 1.0
        relative = self.radius_mm(*_sphere(20000).T)
        mean_cube = float(np.mean(relative**3))
        self._base_mm = spec.equivalent_diameter_mm / 2 / mean_cube ** (1 / 3)
        self.inner_mm = self._base_mm
        self.outer_mm = self._base_mm * (float(relative.max()) + 0.02)

    def radius_mm(self, x: AnyArray, y: AnyArray, z: AnyArray, spikes: bool = True) -> AnyArray:
        """Distance of the surface from the origin towards (x, y, z), which need not be unit."""
        bumps = _LOBES + _SPIKES if spikes else _LOBES
        norm = np.sqrt(x * x + y * y + z * z) + 1e-9
        bulge = np.zeros_like(norm)
        for n in range(bumps):
            if self._heights[n] > 0:
                bx, by, bz = self._bumps[n]
                cosine = (x * bx + y * by + z * bz) / norm
                rise = self._heights[n] * np.exp((cosine - 1) / self._widths[n])
                bulge = np.maximum(bulge, rise)
        radius: AnyArray = self._base_mm * (1 + bulge)
        return radius

    def inside(
        self, x: AnyArray, y: AnyArray, z: AnyArray, scale: float = 1.0, spikes: bool = True
    ) -> AnyArray:
        """Whether points (broadcast together) lie in the shape, shrunk by `scale`."""
        x, y, z = np.broadcast_arrays(x, y, z)
        radius = np.sqrt(x * x + y * y + z * z)
        inside: AnyArray = radius <= scale * self.inner_mm
        shell = ~inside & (radius <= scale * self.outer_mm)
        surface = self.radius_mm(x[shell], y[shell], z[shell], spikes)
        inside[shell] = radius[shell] <= scale * surface
        return inside

    def filled(self, axes_mm: tuple[AnyArray, AnyArray, AnyArray], scale: float = 1.0) -> AnyArray:
        """Return the share of each voxel that the shape fills.

        Args:
            axes_mm: voxel centres along x, y, z relative to the nodule's centre; each evenly
                spaced, at least 2.
            scale: shrinks the shape (the core of a part-solid nodule).

        Returns:
            float32 [k, j, i], 0 to 1.
        """
        fine, parts = zip(*(_subdivide(axis) for axis in axes_mm), strict=True)
        x, y, z = fine[0][None, None], fine[1][None, :, None], fine[2][:, None, None]
        inside = self.inside(x, y, z, scale)
        nx, ny, nz = (len(axis) for axis in axes_mm)
        px, py, pz = parts
        blocks = inside.reshape(nz, pz, ny, py, nx, px)
        share: AnyArray = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
        return share

    def axial_axes_mm(self) -> tuple[float, float]:
        """Return (long, short): greatest extent in an axial plane, and the one across it."""
        step = self.outer_mm / 90
        grid = np.arange(-self.outer_mm, self.outer_mm + step, step)
        best = (0.0, 0.0)
        for height in np.linspace(-0.6, 0.6, 13) * self.inner_mm:
            plane = self.inside(grid[None, :], grid[:, None], np.array(height), spikes=False)
            rows, columns = np.nonzero(plane)
            points = np.column_stack([grid[columns], grid[rows]])
            best = max(best, _feret(points[ConvexHull(points).vertices]))
        return best


def _feret(outline_mm: AnyArray) -> tuple[float, float]:
    """Return the greatest extent of a convex outline and the one perpendicular to it.

    >>> _feret(np.array([[0.0, 0], [4, 0], [2, 1], [2, -1]]))
    (4.0, 2.0)
    """
    distances = squareform(pdist(outline_mm))
    first, second = np.unravel_index(int(np.argmax(distances)), distances.shape)
    along = (outline_mm[second] - outline_mm[first]) / distances[first, second]
    across = outline_mm @ np.array([-along[1], along[0]])
    return float(distances[first, second]), float(np.ptp(across))


def _subdivide(axis_mm: AnyArray) -> tuple[AnyArray, int]:
    spacing = float(axis_mm[1] - axis_mm[0])
    parts = max(3, math.ceil(spacing / _SUBVOXEL_MM))
    offsets = ((np.arange(parts) + 0.5) / parts - 0.5) * spacing
    return (axis_mm[:, None] + offsets).ravel(), parts


def _sphere(count: int) -> AnyArray:
    """Return `count` nearly even unit vectors (Fibonacci spiral)."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    angle = math.pi * (1 + math.sqrt(5)) * index
    flat = np.sqrt(1 - z * z)
    return np.column_stack([flat * np.cos(angle), flat * np.sin(angle), z])


def _directions(count: int, rng: np.random.Generator) -> AnyArray:
    vectors = rng.standard_normal((count, 3))
    unit: AnyArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
