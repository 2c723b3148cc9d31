"""Which SEG and SR of a CT series were stored in the PACS, what they told, and which were read.

    <folder>/<SeriesInstanceUID>.json    all of one CT series; replaced in one step

By this list a nodule keeps its tracking UID over versions, a result can be retracted, an object of
a reader is compared with what was told, and none is read twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from resmtnet.errors import StoreError
from resmtnet.files import atomic_file
from resmtnet.readings.dicom.nodule import Line, tracking_uid_at
from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.matching import distance_in_reach_mm, radius_mm
from resmtnet.types import Json, Point

SCHEMA = "resmtnet.pacs_results/1"
_WAIT_S = 30.0
_LONGEST_UID = 64

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ToldNodule:
    """A nodule as a stored object told it."""

    tracking_uid: str
    name: str
    label: str
    centre_lps_mm: Point
    long_axis_lps_mm: Line | None = None
    short_axis_lps_mm: Line | None = None
    finding: Json | None = None
    """The entry of "nodules" in resmtnet.findings/1; None where a reader said it."""
    model_version: str = ""
    model_sha256: str = ""

    @property
    def known(self) -> AnsweredNodule | None:
        """The model's answer, as a reading of it refers to it."""
        if self.finding is None:
            return None
        finding = {**self.finding, "tracking_uid": self.tracking_uid}
        return AnsweredNodule(finding, self.model_version, self.model_sha256, seen=True)

    @property
    def radius_mm(self) -> float:
        """Half of the greatest diameter that is known."""
        drawn = math.dist(*self.long_axis_lps_mm) / 2 if self.long_axis_lps_mm else 0.0
        return max(drawn, radius_mm(self.finding["size"]) if self.finding else 0.0)


@dataclass(frozen=True)
class StoredObject:
    """A SEG or SR that this server has stored."""

    kind: str
    """SEG, SR or KO."""
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    series_number: int
    instance_number: int
    stored_at: str
    nodules: tuple[ToldNodule, ...] = ()
    retracted: str | None = None
    """How: "deleted", "rejected"; None while it stands."""


@dataclass(frozen=True)
class ReadObject:
    """A SEG or SR of a reader that was read from the PACS."""

    kind: str
    sop_instance_uid: str
    read_at: str
    reader: str
    outcomes: tuple[Json, ...] = ()
    """{"tracking_uid", "outcome", "reading"}: accepted, modified, rejected or new."""
    not_understood: tuple[Json, ...] = ()


@dataclass
class SeriesResults:
    """All that is known of one CT series."""

    stored: list[StoredObject] = field(default_factory=list)
    read: list[ReadObject] = field(default_factory=list)

    def standing(self, kind: str) -> list[StoredObject]:
        """Return the objects of a kind that were not retracted, in order."""
        return [one for one in self.stored if one.kind == kind and one.retracted is None]

    def told(self, predecessors: Sequence[str] = ()) -> list[ToldNodule]:
        """Return what each nodule was last told as.

        Args:
            predecessors: SOP instances that a reader has corrected; what others told of the same
                nodules does not count.
        """
        found: dict[str, ToldNodule] = {}
        named = [one for one in self.stored if one.sop_instance_uid in predecessors]
        for one in (*self.stored, *named):
            found |= {nodule.tracking_uid: nodule for nodule in one.nodules}
        return list(found.values())

    def tracking_uid(
        self,
        series_uid: str,
        centre_lps_mm: Point,
        taken: set[str],
        of_prior: str | None = None,
    ) -> str:
        """Return the tracking UID of the nodule at a place: a new one where none was told there.

        Args:
            series_uid: of the CT.
            centre_lps_mm: of the nodule.
            taken: UIDs that are given already in this version.
            of_prior: UID of the same nodule on a prior CT, which it keeps; None: there is none.
        """
        near = []
        for told in self.told():
            distance = distance_in_reach_mm(centre_lps_mm, [told.centre_lps_mm], told.radius_mm)
            if distance is not None and told.tracking_uid not in taken:
                near.append((distance, told.tracking_uid))
        if near:
            return min(near)[1]
        if of_prior is not None and of_prior not in taken:
            return of_prior
        return tracking_uid_at(series_uid, centre_lps_mm)


class ResultsLog:
    """The lists of all CT series, in a folder; from any thread and process."""

    def __init__(self, folder: Path) -> None:
        """Keep lists.

        Args:
            folder: made with the first list.
        """
        self._folder = folder

    def of(self, series_uid: str) -> SeriesResults:
        """Return the list of a series.

        Raises:
            StoreError: it is damaged.
        """
        path = self._path(series_uid)
        if not path.is_file():
            return SeriesResults()
        try:
            document = json.loads(path.read_bytes())
            stored = [_stored(entry) for entry in document["stored"]]
            read = [ReadObject(**entry) for entry in document["read"]]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is damaged ({error}); move it away to begin anew") from error
        return SeriesResults(stored, read)

    @contextmanager
    def changing(self, series_uid: str) -> Iterator[SeriesResults]:
        """Give the list of a series, and keep what the block has changed of it.

        Also where the block fails: what was stored or deleted before that is in the PACS, or is
        not there any more, whatever came afterwards.
        """
        path = self._path(series_uid)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=_WAIT_S):
            results = self.of(series_uid)
            before = list(results.stored), list(results.read)
            try:
                yield results
            finally:
                if before != (results.stored, results.read):
                    self._write(path, series_uid, results)

    def series(self) -> list[str]:
        """Return the series that have a list; one that is damaged does not hide the others."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(str(json.loads(path.read_bytes())["image"]))
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.error("%s is damaged: move it away to begin anew (%s)", path, error)
        return found

    def _write(self, path: Path, series_uid: str, results: SeriesResults) -> None:
        document = {
            "schema": SCHEMA,
            "image": series_uid,
            "stored": [asdict(one) for one in results.stored],
            "read": [asdict(one) for one in results.read],
        }
        with atomic_file(path) as draft:
            draft.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")

    def _path(self, series_uid: str) -> Path:
        plain = len(series_uid) <= _LONGEST_UID and re.fullmatch(r"[0-9.]+", series_uid)
        name = series_uid if plain else hashlib.sha256(series_uid.encode()).hexdigest()[:32]
        return self._folder / f"{name}.json"


def _stored(entry: dict[str, Any]) -> StoredObject:
    nodules = tuple(_told(nodule) for nodule in entry["nodules"])
    return StoredObject(**{**entry, "nodules": nodules})


def _told(entry: dict[str, Any]) -> ToldNodule:
    lines = {
        name: None if entry[name] is None else tuple(tuple(end) for end in entry[name])
        for name in ("long_axis_lps_mm", "short_axis_lps_mm")
    }
    return ToldNodule(**{**entry, **lines, "centre_lps_mm": tuple(entry["centre_lps_mm"])})
