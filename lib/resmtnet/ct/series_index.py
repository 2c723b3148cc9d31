"""Finds the DICOM CT series in a studies folder, however its subfolders are arranged."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from resmtnet.ct.content_key import series_key
from resmtnet.ct.dicom_header import CT_IMAGE, Header, is_name, read_header
from resmtnet.errors import VolumeError

logger = logging.getLogger(__name__)

_MOST_LEVELS = 8
_OTHER_FILES = (
    ".nii",
    ".gz",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".raw",
    ".json",
    ".png",
    ".txt",
    ".zip",
)
"""Not looked into."""


@dataclass(frozen=True)
class _SeriesPart:
    """The CT images of one series in one folder."""

    file: Path
    """One of them."""
    images: frozenset[str]
    """Their SOPInstanceUIDs."""
    content_key: str
    """See `content_key.series_key`."""
    is_volume: bool


@dataclass(frozen=True)
class _Folder:
    changed_ns: int
    """Time of change when it was read: nothing was added or removed since if it is the same."""

    subfolders: tuple[Path, ...]
    series: dict[str, _SeriesPart]
    """By SeriesInstanceUID."""


class SeriesIndex:
    """The CT series in a folder and its subfolders; a folder is read again when it has changed."""

    def __init__(self, root: Path, left_out: frozenset[str] = frozenset()) -> None:
        """Make an index that is empty until `refresh`.

        Args:
            root: the studies folder.
            left_out: names of folders in it that hold no studies.
        """
        self._root = root
        self._left_out = left_out
        self._folders: dict[Path, _Folder] = {}
        self._series: dict[str, Path] = {}
        self._split: dict[str, tuple[Path, ...]] = {}
        self._keys: dict[str, str] = {}
        self.complete = False
        """Whether every folder has been read."""
        self._lock = RLock()

    @property
    def series(self) -> dict[str, Path]:
        """One file of each series, by SeriesInstanceUID; `CTVolume.open` takes it for the series.

        A series in `split` is listed as well, for its labels, but cannot be opened.
        """
        return self._series

    @property
    def content_keys(self) -> dict[str, str]:
        """What each series holds, by SeriesInstanceUID; see `content_key.series_key`.

        As of the last `refresh`, which notices files that were added, removed or replaced. It
        does not notice one whose bytes were changed in place, since the folder does not show it.
        """
        return self._keys

    @property
    def split(self) -> dict[str, tuple[Path, ...]]:
        """The folders of each series that no folder holds completely, by SeriesInstanceUID.

        `CTVolume.open` would read only a part of such a series, without noticing.
        """
        return self._split

    def refresh(self, budget_s: float = float("inf")) -> bool:
        """Bring the index up to date.

        Args:
            budget_s: time for reading new folders, about 0.1 ms a file; a later call continues.

        Returns:
            Whether the list of series has changed.
        """
        with self._lock:
            end = time.monotonic() + budget_s
            self.complete = True
            folders = dict(self._walk(end))
            parts: dict[str, list[_SeriesPart]] = defaultdict(list)
            for path in sorted(folders):
                for uid, part in folders[path].series.items():
                    parts[uid].append(part)
            series, split = _placed(parts)
            for uid in split.keys() - self._split.keys():
                logger.warning("%s", split_series(uid, split[uid]))
            changed = series != self._series
            self._keys = {
                uid: part.content_key
                for uid, found in parts.items()
                for part in found
                if part.file == series.get(uid)
            }
            self._folders, self._series, self._split = folders, series, split
            return changed

    def _walk(self, end: float) -> Iterator[tuple[Path, _Folder]]:
        """Yield every folder once, even if links form a loop; no unread ones when time is up."""
        waiting, seen = [(self._root, 0)], set()
        while waiting:
            path, level = waiting.pop()
            try:
                stat = path.stat()
            except OSError:
                continue
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            folder = self._folders.get(path)
            if folder is None or folder.changed_ns != stat.st_mtime_ns:
                if time.monotonic() > end:
                    self.complete = False
                    continue
                folder = self._read(path, stat.st_mtime_ns)
            yield path, folder
            if level < _MOST_LEVELS:
                waiting += [(subfolder, level + 1) for subfolder in folder.subfolders]

    def _read(self, path: Path, changed_ns: int) -> _Folder:
        subfolders, headers = [], defaultdict(list)
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        if path != self._root or entry.name not in self._left_out:
                            subfolders.append(Path(entry.path))
                        continue
                    header = _ct_header(Path(entry.path))
                    if header is not None:
                        headers[header.values.get("SeriesInstanceUID", "")].append(header)
        except OSError as error:
            logger.warning("%s cannot be read: %s", path, error)
        series = {}
        for uid, found in headers.items():
            if is_name(uid):
                series[uid] = _part(found)
            else:
                logger.warning(
                    "%s: SeriesInstanceUID %r is no UID, and no name either: not listed.", path, uid
                )
        return _Folder(changed_ns, tuple(sorted(subfolders)), series)


def split_series(uid: str, folders: tuple[Path, ...]) -> str:
    """Return the message to the user about a series that no folder holds completely."""
    names = ", ".join(str(folder) for folder in folders)
    return (
        f"The series {uid} is spread over {len(folders)} folders, and cannot be read: {names}. "
        "Move its files into one folder."
    )


def _placed(
    parts: dict[str, list[_SeriesPart]],
) -> tuple[dict[str, Path], dict[str, tuple[Path, ...]]]:
    """Return one file of each series, and the folders of those that no folder holds completely.

    The first folder with all images of a series is used; further ones hold copies.
    """
    series, split = {}, {}
    for uid, found in parts.items():
        everything = found[0].images.union(*(part.images for part in found[1:]))
        whole = [part for part in found if part.images == everything]
        if whole:
            if whole[0].is_volume:
                series[uid] = whole[0].file
        else:
            series[uid] = found[0].file
            split[uid] = tuple(part.file.parent for part in found)
    return series, split


def _part(headers: list[Header]) -> _SeriesPart:
    images = frozenset(header.values.get("SOPInstanceUID", header.path.name) for header in headers)
    key = series_key(
        (header.values.get("SOPInstanceUID", header.path.name), _size(header.path))
        for header in headers
    )
    return _SeriesPart(min(header.path for header in headers), images, key, _is_volume(headers))


def _ct_header(path: Path) -> Header | None:
    """Return the header of a CT slice; None for any other or damaged file."""
    if path.suffix.lower() in _OTHER_FILES:
        return None
    try:
        header = read_header(path)
    except VolumeError as error:
        logger.warning("%s", error)
        return None
    if header is None:
        return None
    modality = header.values.get("Modality")
    if modality != "CT" and (modality or header.values.get("SOPClassUID") != CT_IMAGE):
        return None
    return header


def _size(path: Path) -> int:
    """Return the bytes of a file; 0 if it has just been removed."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_volume(headers: list[Header]) -> bool:
    """Whether two images are parallel and have a position; a localizer or screen shot is no CT."""
    placed = Counter(
        header.values.get("ImageOrientationPatient")
        for header in headers
        if "ImagePositionPatient" in header.values
    )
    return any(count > 1 for orientation, count in placed.items() if orientation)
