"""CT volumes: lazy reading in HU with LPS geometry, and all processing of their voxels."""

from resmtnet.ct.geometry import Geometry
from resmtnet.ct.source import hu_warnings
from resmtnet.ct.volume import Crop, CTVolume

__all__ = ["CTVolume", "Crop", "Geometry", "hu_warnings"]
