"""Points as the command line takes them: words of an option, or rows of a CSV."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from resmtnet.errors import PointError
from resmtnet.types import Point

if TYPE_CHECKING:
    from resmtnet.ct import CTVolume

LUNA16_TITLES = ("coordX", "coordY", "coordZ")
SHORT_TITLES = ("x", "y", "z")
IMAGE_TITLE = "seriesuid"
"""Titles of the columns that `find --points` reads."""


class Frame(str, Enum):
    """Coordinate frame of a point."""

    lps = "lps"
    ras = "ras"
    ijk = "ijk"


def parse_point(text: str, what: str = "--at ", example: str = "-56.2,86.2,4") -> Point:
    """Read "X,Y,Z".

    Args:
        text: as the user gives it.
        what: put before it in the message.
        example: of three numbers, for the message.

    Raises:
        PointError: it is not three finite numbers.

    >>> parse_point("-56.2,86.2, 4")
    (-56.2, 86.2, 4.0)
    """
    from resmtnet.ct.points import as_point

    try:
        return as_point([float(part) for part in text.split(",")])
    except (ValueError, PointError):
        raise PointError(
            f"{what}{text!r}: three numbers X,Y,Z are needed, as in {what}{example}"
        ) from None


def to_lps(point: Point, frame: Frame, ct: CTVolume) -> Point:
    """Return a point of any frame in LPS mm."""
    x, y, z = point
    if frame is Frame.ras:
        return -x, -y, z
    if frame is Frame.ijk:
        x, y, z = (float(value) for value in ct.geometry.ijk_to_lps(point))
    return x, y, z


def read_candidates(path: Path, image_id: str) -> list[Point]:
    """Read the points (x, y, z), LPS mm, that a CSV has of an image.

    Args:
        path: CSV with the columns coordX, coordY and coordZ, or x, y and z; a column seriesuid
            says of which image a row is.
        image_id: SeriesInstanceUID of the CT, or its file name without extension.

    Raises:
        ArchiveError: the file, a column or a number is missing.
        PointError: the CSV names images, and this is none of them.
    """
    from resmtnet.data.table import read_table, read_titles

    if not path.is_file():
        raise PointError(f"--points {path}: there is no such file")
    titles = read_titles(path)
    names = LUNA16_TITLES if LUNA16_TITLES[0] in titles else SHORT_TITLES
    by_image = IMAGE_TITLE in titles
    rows = read_table(path, (*names, *((IMAGE_TITLE,) if by_image else ())))
    if by_image and rows:
        images = {row.text(IMAGE_TITLE) for row in rows}
        rows = [row for row in rows if row.text(IMAGE_TITLE) == image_id]
        if not rows:
            raise PointError(
                f"--points {path}: no row is of the image {image_id}; it has {len(images)} others, "
                f"{min(images)} for one"
            )
    return [(row.number(names[0]), row.number(names[1]), row.number(names[2])) for row in rows]
