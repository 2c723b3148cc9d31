"""Whether the image of a reading is there, and the nodule in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from resmtnet.ct import CTVolume
from resmtnet.errors import InputError, ReadingError
from resmtnet.monai_label.datastore import VolumePaths
from resmtnet.types import Point


def volume_of(datastore: Datastore, image: str) -> Path:
    """What `CTVolume.open` takes for an image.

    Raises:
        ReadingError: of field "image", with the reason of the datastore.
    """
    try:
        return Path(VolumePaths(datastore).get_image_uri(image))
    except HTTPException as error:
        raise ReadingError("image", f"is {image!r}; {error.detail}") from error


def check_centre(volume: Path, centre_lps_mm: Point, open_ct: Callable[[Path], CTVolume]) -> None:
    """Refuse a point outside the CT.

    Raises:
        ReadingError: of field "centre_lps_mm", or of "image" where the CT cannot be read.
    """
    try:
        geometry = open_ct(volume).geometry
    except InputError as error:
        raise ReadingError("image", f"cannot be read: {error}") from error
    if geometry.contains(centre_lps_mm):
        return
    corners = geometry.ijk_to_lps([[0, 0, 0], [n - 1 for n in geometry.size_ijk]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    ends = ", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high, strict=True))
    told = f"is {list(centre_lps_mm)}, outside the CT ({ends} mm); LPS is needed, not RAS"
    raise ReadingError("centre_lps_mm", told)
