"""Lists the CTs of a cohort: of a folder, or of the rows of a CSV."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from resmtnet.ct.content_key import file_key
from resmtnet.ct.series_index import SeriesIndex
from resmtnet.data.table import read_table
from resmtnet.errors import InputError
from resmtnet.types import Point

IMAGE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
POINT_TITLES = ("x", "y", "z")


@dataclass(frozen=True)
class Study:
    """One CT of a cohort."""

    id: str
    """SeriesInstanceUID, or path relative to the folder; in a CSV, the path as it is written."""
    path: Path
    """What `CTVolume.open` takes."""
    points_lps_mm: tuple[Point, ...] | None = None
    """Where to characterise; None: the whole CT is searched."""

    def content_key(self) -> str:
        """Return a key that changes when the image is replaced.

        Raises:
            OSError: the image cannot be read.
        """
        if not self.path.is_dir():
            return file_key(self.path)
        index = SeriesIndex(self.path)
        index.refresh()
        return "-".join(sorted(index.content_keys.values())) or "no-series"


def list_studies(source: str) -> list[Study]:
    """Return the CTs of a folder or a CSV, ordered by id.

    Args:
        source: a folder with DICOM series and image files at any depth; or a CSV with the column
            path (relative to the CSV) and maybe x, y, z: one row a point, LPS mm.

    Raises:
        InputError: there is no such folder or CSV, or it names no CT.
    """
    path = Path(source)
    if path.is_dir():
        studies = _of_folder(path)
    elif path.is_file() and path.suffix.lower() == ".csv":
        studies = _of_csv(path)
    else:
        raise InputError(
            f"--studies {source}: neither a folder nor a .csv file; download studies of a PACS "
            "into a folder first"
        )
    if not studies:
        raise InputError(f"--studies {source}: no CT was found there")
    return sorted(studies, key=lambda study: study.id)


def _of_folder(folder: Path) -> list[Study]:
    index = SeriesIndex(folder)
    index.refresh()
    series = [Study(uid, file.parent) for uid, file in index.series.items()]
    folders = [study.path for study in series]
    if len(set(folders)) < len(folders):  # several series in one folder: a file names its series
        series = [Study(uid, file) for uid, file in index.series.items()]
    files = [
        Study(path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.name.lower().endswith(IMAGE_ENDINGS) and path.is_file()
    ]
    return series + files


def _of_csv(path: Path) -> list[Study]:
    titles = [title.strip() for title in path.read_text("utf-8-sig").partition("\n")[0].split(",")]
    pointed = set(POINT_TITLES) <= set(titles)
    points: dict[str, list[Point]] = defaultdict(list)
    for row in read_table(path, ("path", *(POINT_TITLES if pointed else ()))):
        found = points[row.text("path")]
        if pointed:
            found.append((row.number("x"), row.number("y"), row.number("z")))
    return [
        Study(name, path.parent / name, tuple(found) if pointed else None)
        for name, found in points.items()
    ]
