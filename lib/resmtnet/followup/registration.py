"""Registers two chest CTs: rigid, affine, then each lung by itself with B-splines, coarsely.

By elastix: Klein et al., IEEE Trans Med Imaging 29:196, 2010.
"""

from __future__ import annotations

import logging
import math
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from resmtnet.ct import CTVolume
from resmtnet.ct.geometry import Geometry
from resmtnet.errors import VolumeError
from resmtnet.inference.candidates.grid import SearchGrid
from resmtnet.inference.candidates.lungs import LEFT, RIGHT, closed_lungs, lung_sides
from resmtnet.types import Point

logger = logging.getLogger(__name__)

GRID_MM = 3.0
"""Voxels of both CTs while they are registered."""
FAR_MM = 25.0
"""A point further from the lungs than this is on neither side."""
GOOD_OVERLAP = 0.85
"""Share of the prior's lungs that has to fall into the current ones."""

_WHOLE_STEPS, _SPLINE_STEPS = 80, 90
_SAMPLES = 2000
_KNOTS_MM = 32.0
_MARGIN_VOXELS = 2
_SEED = 20
_INVERSIONS = 12


@dataclass(frozen=True, eq=False)
class Lungs:
    """The lungs of one CT on the coarse grid."""

    grid: SearchGrid
    sides: NDArray[np.uint8]
    """[k, j, i]: RIGHT or LEFT in the lungs, 0 elsewhere."""
    nearest: NDArray[np.uint8]
    """The same of the lung nearest to each voxel, 0 where it is further than FAR_MM."""

    @classmethod
    def of(cls, ct: CTVolume, name: str) -> Lungs:
        """Find the lungs of a CT.

        Args:
            ct: the whole of it is read.
            name: of the CT, for the message.

        Raises:
            VolumeError: there are none.
        """
        grid = SearchGrid.of(ct, GRID_MM)
        lungs = closed_lungs(grid)
        if not lungs.any():
            raise VolumeError(
                f"{name}: no lungs were found, so nothing can be compared; a CT of the chest is "
                "needed."
            )
        sides = lung_sides(grid, lungs)
        away, index = ndimage.distance_transform_edt(
            sides == 0, sampling=grid.geometry.spacing_mm[::-1], return_indices=True
        )
        nearest: NDArray[np.uint8] = np.where(away <= FAR_MM, sides[tuple(index)], 0)
        return cls(grid, sides, nearest.astype(np.uint8))

    def side(self, lps_mm: ArrayLike) -> int:
        """Return RIGHT or LEFT, the lung in or at which a point lies; 0 for neither."""
        index = np.rint(self.grid.geometry.lps_to_ijk(lps_mm)).astype(int)
        i, j, k = np.clip(index, 0, np.asarray(self.grid.geometry.size_ijk) - 1)
        return int(self.nearest[k, j, i])

    @property
    def whole(self) -> bool:
        """Whether the CT goes on above and below the lungs."""
        return not (self.sides[0].any() or self.sides[-1].any())

    @property
    def volume_ml(self) -> float:
        """Volume of both lungs, as far as the CT shows them."""
        return float(np.count_nonzero(self.sides) * math.prod(self.grid.geometry.spacing_mm)) / 1000

    def centre_lps_mm(self) -> NDArray[np.float64]:
        """Return the centroid of the lungs."""
        middle = np.mean(np.argwhere(self.sides > 0), axis=0)[::-1]
        return self.grid.geometry.ijk_to_lps(middle)


@dataclass(frozen=True, eq=False)
class Registration:
    """Where the points of a prior CT lie in a current one, and the other way."""

    prior: Lungs
    current: Lungs
    moved_mm: NDArray[np.float32]
    """[k, j, i, 3] on the prior's coarse grid: from a place in the prior to that in the current."""
    overlap: float
    """Share of the prior's lungs that falls into the current ones."""

    @property
    def is_good(self) -> bool:
        """Whether places can be relied on."""
        return self.overlap >= GOOD_OVERLAP

    @property
    def lungs_ratio(self) -> float | None:
        """Volume of the lungs now as a multiple of that before; None unless both are whole."""
        if not (self.prior.whole and self.current.whole and self.prior.volume_ml):
            return None
        return self.current.volume_ml / self.prior.volume_ml

    def to_current(self, lps_mm: ArrayLike) -> Point:
        """Return the place in the current CT of a point of the prior one, LPS mm."""
        x, y, z = np.asarray(lps_mm, float) + self._moved(lps_mm)
        return float(x), float(y), float(z)

    def to_prior(self, lps_mm: ArrayLike) -> Point:
        """Return the place in the prior CT of a point of the current one, LPS mm."""
        target = np.asarray(lps_mm, float)
        found = target - self._moved(target)
        for _ in range(_INVERSIONS):
            found = found + 0.7 * (target - np.asarray(self.to_current(found)))
        x, y, z = (float(mm) for mm in found)
        return x, y, z

    def _moved(self, lps_mm: ArrayLike) -> NDArray[np.float64]:
        index = self.prior.grid.geometry.lps_to_ijk(lps_mm)[::-1, None]
        moved = [
            ndimage.map_coordinates(self.moved_mm[..., axis], index, order=1, mode="nearest")[0]
            for axis in range(3)
        ]
        return np.asarray(moved, float)


def register(prior: CTVolume, current: CTVolume) -> Registration:
    """Register two CTs of one patient; both are read whole.

    The centroids of the lungs are put on each other, both lungs are moved as one rigid body, then
    scaled and sheared as one, since another breath moves the diaphragm further than splines reach,
    and each lung is then deformed by itself, since lungs slide along the chest wall.

    Raises:
        VolumeError: one of them shows no lungs, or both cannot be registered.
    """
    before, now = Lungs.of(prior, "the prior CT"), Lungs.of(current, "the current CT")
    shift = now.centre_lps_mm() - before.centre_lps_mm()
    moved = _deformation(before, now, shift)
    return Registration(before, now, moved, _overlap(before, now, moved))


def _deformation(before: Lungs, now: Lungs, shift_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the displacement [k, j, i, 3] of each voxel of the prior grid, LPS mm."""
    fixed = _image(before.grid.hu, before.grid.geometry)
    moving = _image(now.grid.hu, now.grid.geometry, -shift_mm)
    both = _mask(before, RIGHT, LEFT)
    rigid = _run(fixed, moving, both, _parameters("rigid"))
    if rigid is None:
        raise VolumeError("the two CTs could not be registered: do both show the same lungs?")
    coarse = _run(fixed, moving, both, _parameters("affine"), rigid) or rigid
    moved = np.zeros((*before.sides.shape, 3), np.float32)
    for side in (RIGHT, LEFT):
        found = None
        if (before.sides == side).any() and (now.sides == side).any():
            found = _run(fixed, moving, _mask(before, side), _parameters("bspline"), coarse)
        # Without splines a lung stays where both have been put: the overlap says how good it is.
        field = _field(fixed, found or coarse)
        here = before.nearest != (LEFT if side == RIGHT else RIGHT)
        moved[here] = field[here]
    return moved + shift_mm.astype(np.float32)


def _run(
    fixed: Any, moving: Any, mask: Any, parameters: dict[str, list[str]], before: Any = None
) -> Any:
    """Run elastix and return the parameter object of the transform; None where it gives up."""
    import itk

    asked = itk.ParameterObject.New()
    asked.AddParameterMap(parameters)
    given = {} if before is None else {"initial_transform_parameter_object": before}
    try:
        _, found = itk.elastix_registration_method(
            fixed, moving, parameter_object=asked, fixed_mask=mask, log_to_console=False, **given
        )
    except RuntimeError as error:
        logger.warning("elastix gave up: %s", str(error).strip().splitlines()[-1])
        return None
    return found


def _field(fixed: Any, transform: Any) -> NDArray[np.float32]:
    """Return the displacement [k, j, i, 3] of each voxel, LPS mm."""
    import itk

    # elastix writes the field to a file too, if need be into the working folder.
    with tempfile.TemporaryDirectory(prefix="resmtnet-elastix-") as folder:
        field = itk.transformix_deformation_field(fixed, transform, output_directory=folder)
        return np.array(itk.array_from_image(field), np.float32)


def _parameters(kind: str) -> dict[str, list[str]]:
    """Return the parameter map of elastix for "rigid", "affine" or "bspline"."""
    import itk

    whole = kind != "bspline"
    default = itk.ParameterObject.New().GetDefaultParameterMap(kind, 2 if whole else 3)
    changed: dict[str, list[object]] = {
        "Metric": ["AdvancedNormalizedCorrelation"],
        "MaximumNumberOfIterations": [_WHOLE_STEPS if whole else _SPLINE_STEPS],
        "NumberOfResolutions": [2 if whole else 3],
        "NumberOfSpatialSamples": [_SAMPLES],
        "ImageSampler": ["RandomSparseMask"],
        "NewSamplesEveryIteration": ["true"],
        "RandomSeed": [_SEED],
        # How the step size is estimated; the defaults take longer than the registration itself.
        "NumberOfSamplesForExactGradient": [4096],
        "NumberOfJacobianMeasurements": [2000],
        "NumberOfGradientMeasurements": [0],
        "AutomaticTransformInitialization": ["false"],
        # CTs may be cut at the lungs, or cover different parts of them.
        "RequiredRatioOfValidSamples": [0.02],
        "WriteResultImage": ["false"],
    }
    if whole:
        changed |= {"AutomaticScalesEstimation": ["true"]}
    else:
        # No penalty of bending: the coarse knots bend little, and it takes most of the time.
        changed |= {
            "Registration": ["MultiResolutionRegistration"],
            "FinalGridSpacingInPhysicalUnits": [_KNOTS_MM],
            "GridSpacingSchedule": [4, 2, 1],
        }
    values = {name: [str(value) for value in told] for name, told in changed.items()}
    return {**{name: list(told) for name, told in dict(default).items()}, **values}


def _image(values: NDArray[Any], geometry: Geometry, shift_mm: ArrayLike = (0.0, 0.0, 0.0)) -> Any:
    import itk

    image = itk.image_from_array(np.ascontiguousarray(values))
    image.SetSpacing([float(mm) for mm in geometry.spacing_mm])
    origin = np.asarray(geometry.origin_lps_mm) + shift_mm
    image.SetOrigin([float(mm) for mm in origin])
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(geometry.direction)))
    return image


def _mask(lungs: Lungs, *sides: int) -> Any:
    """Return the lungs with a rim, in which the pleura is seen."""
    inside = ndimage.binary_dilation(np.isin(lungs.sides, sides), iterations=_MARGIN_VOXELS)
    return _image(inside.astype(np.uint8), lungs.grid.geometry)


def _overlap(before: Lungs, now: Lungs, moved_mm: NDArray[np.float32]) -> float:
    index = np.argwhere(before.sides > 0)
    places = before.grid.geometry.ijk_to_lps(index[:, ::-1]) + moved_mm[tuple(index.T)]
    landed = np.rint(now.grid.geometry.lps_to_ijk(places)).astype(int)
    seen = ((landed >= 0) & (landed < now.grid.geometry.size_ijk)).all(axis=1)
    if not seen.any():
        return 0.0
    i, j, k = landed[seen].T
    return float(np.mean(now.sides[k, j, i] > 0))
