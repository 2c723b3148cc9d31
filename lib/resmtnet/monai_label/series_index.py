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

from resmtnet.ct.dicom_header import Header, read_header
from resmtnet.errors import VolumeError

logger = logging.getLogger(__name__)

_MOST_LEVELS = 8
_OTHER_FILES = (".nii", ".gz", ".nrrd", ".mha", ".mhd", ".raw", ".json", ".png", ".txt", ".zip")
"""Not looked into."""
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


@dataclass(frozen=True)
class _Folder:
    changed_ns: int
    """Time of change when it was read: nothing was added or removed since if it is the same."""

    subfolders: tuple[Path, ...]
    series: dict[str, Path]
    """A file of each CT series, by SeriesInstanceUID."""


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
        self.complete = False
        """Whether every folder was read by now."""
        self._lock = RLock()

    @property
    def series(self) -> dict[str, Path]:
        """A file of each series, by SeriesInstanceUID; `CTVolume.open` takes it for the series."""
        return self._series

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
            series: dict[str, Path] = {}
            for path in sorted(folders):
                for uid, file in folders[path].series.items():
                    series.setdefault(uid, file)
            changed = series != self._series
            self._folders, self._series = folders, series
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
                        headers[header.values["SeriesInstanceUID"]].append(header)
        except OSError as error:
            logger.warning("%s cannot be read: %s", path, error)
        series = {
            uid: min(h.path for h in found) for uid, found in headers.items() if _stack(found)
        }
        return _Folder(changed_ns, tuple(sorted(subfolders)), series)


def _ct_header(path: Path) -> Header | None:
    """The header of a CT slice; None for everything else, also for a damaged file."""
    if path.suffix.lower() in _OTHER_FILES:
        return None
    try:
        header = read_header(path)
    except VolumeError as error:
        logger.warning("%s", error)
        return None
    if header is None or not header.values.get("SeriesInstanceUID"):
        return None
    modality = header.values.get("Modality")
    if modality != "CT" and (modality or header.values.get("SOPClassUID") != _CT_IMAGE):
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
