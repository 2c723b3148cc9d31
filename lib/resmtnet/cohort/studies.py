"""Lists the CTs of a cohort: of a folder, of a PACS, or of the rows of a CSV."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resmtnet.cohort.pacs_series import fetch, fetched_key, is_url, list_series, split_url
from resmtnet.ct.content_key import file_key
from resmtnet.ct.series_index import SeriesIndex, split_series
from resmtnet.data.table import read_table
from resmtnet.errors import InputError
from resmtnet.types import Point

LISTING_S = 5.0
"""A large folder is read in parts of so many seconds, and it is told how far it is."""
IMAGE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
POINT_TITLES = ("x", "y", "z")


@dataclass(frozen=True)
class Study:
    """One CT of a cohort."""

    id: str
    """SeriesInstanceUID, or path relative to the folder; in a CSV, the path as it is written."""
    place: str
    """A path that `CTVolume.open` takes, or the address of a series of a PACS."""
    points_lps_mm: tuple[Point, ...] | None = None
    """Where to characterise; None: the whole CT is searched."""
    listed_key: str | None = None
    """Of its content when it was listed, where listing tells it; see `content_key`."""
    problem: str | None = None
    """Why it cannot be scored, where listing tells it."""

    def content_key(self) -> str:
        """Return a key that changes when the image is replaced.

        Raises:
            OSError: the image cannot be read.
            PacsError: the PACS did not answer.
        """
        if is_url(self.place):
            return fetched_key(self.place)
        path = Path(self.place)
        if not path.is_dir() and self.listed_key is None:
            return file_key(path)
        if not path.is_dir():
            path = path.parent  # one file of a series
        index = SeriesIndex(path)
        index.refresh()
        own = index.content_keys.get(self.id)
        return own or "-".join(sorted(index.content_keys.values())) or "no-series"

    def quick_key(self) -> str | None:
        """Return the key as far as it costs little: not of a PACS; None where it is not known."""
        if self.listed_key is not None or is_url(self.place) or Path(self.place).is_dir():
            return self.listed_key
        try:
            return self.content_key()
        except OSError:
            return None

    @contextmanager
    def at_hand(self) -> Iterator[Path]:
        """Give what `CTVolume.open` takes; a series of a PACS is fetched, and deleted afterwards.

        Raises:
            PacsError: the PACS does not have it, or did not answer.
        """
        if not is_url(self.place):
            yield Path(self.place)
            return
        with tempfile.TemporaryDirectory(prefix="resmtnet-cohort-") as folder:
            fetch(self.place, Path(folder))
            yield Path(folder)


Tell = Callable[[int], object]
"""Called with the CTs found so far."""


def list_studies(source: str, tell: Tell = lambda found: None) -> list[Study]:
    """Return the CTs of a folder, a PACS or a CSV, ordered by id.

    Args:
        tell: called every few seconds while a large folder is read.
        source: a folder with DICOM series and image files at any depth; the URL of a DICOMweb
            service; or a CSV with the column path (relative to the CSV, or the address of a
            series of a PACS) and maybe x, y, z: one row a point, LPS mm.

    Raises:
        InputError: there is no such folder or CSV, or it names no CT.
        PacsError: the PACS did not answer.
    """
    path = Path(source)
    if is_url(source):
        studies = [Study(uid, url) for uid, url in list_series(source)]
    elif path.is_dir():
        studies = _of_folder(path.absolute(), tell)
    elif path.is_file() and path.suffix.lower() == ".csv":
        studies = _of_csv(path.absolute())
    else:
        raise InputError(
            f"--studies {source}: neither a folder, nor a .csv file, nor the URL of a DICOMweb "
            "service such as http://pacs/dicom-web"
        )
    if not studies:
        raise InputError(f"--studies {source}: no CT was found there")
    return sorted(studies, key=lambda study: study.id)


def _of_folder(folder: Path, tell: Tell) -> list[Study]:
    index = SeriesIndex(folder)
    index.refresh(LISTING_S)
    while not index.complete:
        tell(len(index.series))
        index.refresh(LISTING_S)
    inside = Counter(file.parent for file in index.series.values())
    series = [
        Study(
            uid,
            # of several series in one folder, a file names its series
            str(file if inside[file.parent] > 1 else file.parent),
            listed_key=index.content_keys[uid],
            problem=split_series(uid, index.split[uid]) if uid in index.split else None,
        )
        for uid, file in index.series.items()
    ]
    files = [
        Study(path.relative_to(folder).as_posix(), str(path))
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
        Study(name, _place(path.parent, name), tuple(found) if pointed else None)
        for name, found in points.items()
    ]


def _place(folder: Path, name: str) -> str:
    if is_url(name):
        split_url(name)
        return name
    return str(folder / name)
