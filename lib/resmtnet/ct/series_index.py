"""Which DICOM CT series lie in a studies folder, however they are nested or mixed."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from resmtnet.ct.dicom_header import CT_IMAGE, Header, is_uid, read_header
from resmtnet.errors import VolumeError

logger = logging.getLogger(__name__)

_MOST_LEVELS = 8
_OTHER_FILES = (".nii", ".gz", ".nrrd", ".mha", ".mhd", ".raw", ".json", ".png", ".txt", ".zip")
"""Not looked into."""


@dataclass(frozen=True)
class _SeriesPart:
    """The CT images of one series in one folder."""

    file: Path
    images: frozenset[str]
    """Their SOPInstanceUIDs."""

    is_volume: bool


@dataclass(frozen=True)
class _Folder:
    changed_ns: int
    """Time of change when it was read: nothing was added or removed since if it is the same."""

    subfolders: tuple[Path, ...]
    series: dict[str, _SeriesPart]
    """By SeriesInstanceUID."""


class SeriesIndex:
    """The CT series of a folder and its subfolders; a folder is read again when it changes."""

    def __init__(self, root: Path, left_out: frozenset[str] = frozenset()) -> None:
        """An index that is empty until `refresh`.

        Args:
            root: the studies folder.
            left_out: names of folders in it that hold no studies.
        """
        self._root = root
        self._left_out = left_out
        self._folders: dict[Path, _Folder] = {}
        self._series: dict[str, Path] = {}
        self._split: dict[str, tuple[Path, ...]] = {}
        self.complete = False
        """Whether every folder was read by now."""
        self._lock = RLock()

    @property
    def series(self) -> dict[str, Path]:
        """A file of each series, by SeriesInstanceUID; `CTVolume.open` takes it for the series.

        Not of one in `split`, which is listed for the labels that it may have.
        """
        return self._series

    @property
    def split(self) -> dict[str, tuple[Path, ...]]:
        """The folders of each series that is whole in none of them, by SeriesInstanceUID.

        `CTVolume.open` would read a part of it without a word.
        """
        return self._split

    def refresh(self, budget_s: float = float("inf")) -> bool:
        """Brings the index up to date.

        Args:
            budget_s: what new folders may cost, about 0.1 ms a file; a later call goes on.

        Returns:
            Whether the series are others than before.
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
            self._folders, self._series, self._split = folders, series, split
            return changed

    def _walk(self, end: float) -> Iterator[tuple[Path, _Folder]]:
        """Every folder, once, even where a link leads back; no new ones when time is up."""
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
            if is_uid(uid):
                series[uid] = _part(found)
            else:
                logger.warning("%s: the SeriesInstanceUID %r is no UID: not listed.", path, uid)
        return _Folder(changed_ns, tuple(sorted(subfolders)), series)


def split_series(uid: str, folders: tuple[Path, ...]) -> str:
    """What to tell the user of a series that is whole in none of its folders."""
    names = ", ".join(str(folder) for folder in folders)
    return (
        f"The series {uid} is spread over {len(folders)} folders, and cannot be read: {names}. "
        "Move its files into one folder."
    )


def _placed(
    parts: dict[str, list[_SeriesPart]],
) -> tuple[dict[str, Path], dict[str, tuple[Path, ...]]]:
    """A file of each series, and the folders of those that no folder holds whole.

    The first folder with all images of a series is used: others hold copies.
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
    return _SeriesPart(min(header.path for header in headers), images, _stack(headers))


def _ct_header(path: Path) -> Header | None:
    """The header of a CT slice; None for everything else, also for a damaged file."""
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


def _stack(headers: list[Header]) -> bool:
    """Whether two images are parallel and placed: a localizer or a screen shot is no volume."""
    placed = Counter(
        header.values.get("ImageOrientationPatient")
        for header in headers
        if "ImagePositionPatient" in header.values
    )
    return any(count > 1 for orientation, count in placed.items() if orientation)
