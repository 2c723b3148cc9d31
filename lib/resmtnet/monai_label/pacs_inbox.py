"""Reads the SR and SEG that readers have stored in the PACS into readings, each once."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

from pydicom.dataset import Dataset

from resmtnet.errors import InputError, PacsError, ResMTNetError, StoreError
from resmtnet.monai_label.pacs import SeriesEntry, referenced_series
from resmtnet.monai_label.pacs_results import PacsResults
from resmtnet.readings.dicom.author import author_of, unknown_author
from resmtnet.readings.dicom.identity import is_ours
from resmtnet.readings.dicom.results_log import ReadObject, SeriesResults, ToldNodule
from resmtnet.readings.dicom.seg_read import SEG_CLASSES, read_seg
from resmtnet.readings.dicom.source_series import SourceSeries
from resmtnet.readings.dicom.sr_drafts import SrDraft, drafts_of
from resmtnet.readings.dicom.sr_read import SR_CLASSES, read_sr
from resmtnet.readings.formats.draft import AnsweredNodule, ParsedLabel, Problem
from resmtnet.readings.formats.from_mask import from_mask
from resmtnet.readings.matching import distance_in_reach_mm
from resmtnet.readings.record import Reading
from resmtnet.readings.reply import Reply
from resmtnet.types import Json

logger = logging.getLogger(__name__)

_SAME_PLACE_MM = 0.01
"""The JSON of a reading rounds its centre."""


class PacsInbox:
    """What readers have stored in the PACS beside the CTs of this site."""

    def __init__(self, results: PacsResults) -> None:
        """Connect.

        Args:
            results: has the PACS, the readings, and the lists of what was stored and read.
        """
        self._results = results
        self._lock = threading.Lock()

    def read(self, image: str | None = None, reader: str | None = None) -> list[Json]:
        """Read all new objects of an image; None: of every image that results were stored of.

        Args:
            image: SeriesInstanceUID of a CT.
            reader: who has stored those objects that name nobody (OHIF's do not); None: not known.

        Returns:
            For each object that was read: its UID, kind, reader, and what was understood. Of all
            images one that cannot be read now, as its CT is gone, does not hide the others: it has
            an entry without UID, which says why.

        Raises:
            PacsError: the PACS did not answer.
            InputError: there is no such image.
        """
        images = [image] if image else self._results.log.series()
        told: list[Json] = []
        failed: list[ResMTNetError] = []
        with self._lock:
            for one in images:
                try:
                    told += self._read_image(one, reader)
                except ResMTNetError as error:
                    failed.append(error)
                    problem = Problem("the results of this CT", str(error))
                    told.append(_entry(one, None, "", "", Reply(not_understood=[problem])))
        if failed and len(failed) == len(images):
            raise failed[0]
        return told

    def _read_image(self, image: str, asker: str | None) -> list[Json]:
        pacs, log = self._results.pacs, self._results.log
        source: SourceSeries | None = None
        told = []
        for entry in pacs.series(StudyInstanceUID=self._study_of(image)):
            if entry.modality not in ("SR", "SEG"):
                continue
            for uid in pacs.instances(entry):
                if _is_known(log.of(image), uid):
                    continue
                source = source or self._results.source(image)
                found = self._read_object(image, (entry, uid), source, asker)
                told += [found] if found else []
        return told

    def _study_of(self, image: str) -> str:
        stored = self._results.log.of(image).stored
        if stored:
            return stored[-1].study_uid
        found = self._results.pacs.series(SeriesInstanceUID=image)
        if not found:
            raise InputError(f"The PACS has no series {image}.")
        return found[0].study_uid

    def _read_object(
        self, image: str, named: tuple[SeriesEntry, str], source: SourceSeries, asker: str | None
    ) -> Json | None:
        """Read one object; None where it is ours, or of another CT of the study.

        One that the PACS does not give is told, and tried again with the next look.
        """
        entry, uid = named
        try:
            dataset = self._results.pacs.fetch(entry.study_uid, entry.uid, uid)
        except PacsError as error:
            problem = Problem(f"the {entry.modality}", str(error))
            return _entry(image, uid, entry.modality, "", Reply(not_understood=[problem]))
        is_read = dataset.get("SOPClassUID") in {*SEG_CLASSES, *SR_CLASSES}  # no dose report, say
        if not is_read or is_ours(dataset) or not _is_of(dataset, source):
            self._note(image, ReadObject("not of a reader", uid, _now(), ""))
            return None
        kind = "SEG" if dataset.get("SOPClassUID") in SEG_CLASSES else "SR"
        outcomes: list[Json] = []
        reader = author_of(dataset) or asker or unknown_author(dataset)
        try:
            if kind == "SR":
                reply, outcomes = self._read_sr(image, reader, dataset, source)
            else:
                reply = self._read_seg(image, reader, dataset, source)
                outcomes = [_outcome_of(reading) for reading in reply.readings]
        except StoreError:
            raise  # the next look tries again
        except InputError as error:
            reply = Reply(not_understood=[Problem(f"the {kind}", str(error))])
        except Exception as error:  # whatever one object does, those after it are read
            logger.exception("%s %s of %s cannot be read", kind, uid, image)
            why = f"is damaged, or of a kind that is not read ({type(error).__name__})"
            reply = Reply(not_understood=[Problem(f"the {kind}", why)])
        told = _entry(image, uid, kind, reader, reply, outcomes)
        problems = tuple(told["not_understood"])
        self._note(image, ReadObject(kind, uid, _now(), reader, tuple(outcomes), problems))
        for problem in reply.not_understood:
            logger.warning("%s %s of %s: %s %s", kind, uid, image, problem.what, problem.why)
        return told

    def _note(self, image: str, read: ReadObject) -> None:
        with self._results.log.changing(image) as results:
            results.read.append(read)

    def _read_sr(
        self, image: str, reader: str, dataset: Dataset, source: SourceSeries
    ) -> tuple[Reply, list[Json]]:
        document = read_sr(dataset)
        inbox = self._results.inbox
        results = self._results.log.of(image)
        known = inbox.answers.known(image, reader, inbox.images.content_key(image))
        parsed = drafts_of(document, source, results.told(document.predecessors), known)
        label = ParsedLabel(
            tuple(one.draft for one in parsed.drafts), parsed.not_understood, parsed.warnings
        )
        reply = inbox.add_parsed(image, reader, "dicom_sr", label)
        return reply, _outcomes(parsed.drafts, reply)

    def _read_seg(self, image: str, reader: str, dataset: Dataset, source: SourceSeries) -> Reply:
        read = read_seg(dataset, source.geometry)
        if not read.segments:
            raise InputError("is empty: nothing is recorded")
        inbox = self._results.inbox
        told = self._results.log.of(image).told()
        known = [
            _tracked(one, told)
            for one in inbox.answers.known(image, reader, inbox.images.content_key(image))
        ]
        segments = [{"name": one.name, "idx": one.value} for one in read.segments]
        parsed = from_mask(read.label_map, source.geometry, segments, known, exact=True)
        if read.overlapping:
            text = f"segments overlap in {read.overlapping} voxels: the later segment has them"
            parsed = replace(parsed, warnings=(*parsed.warnings, text))
        return inbox.add_parsed(image, reader, "dicom_seg", parsed)


class Poller:
    """Reads new objects every few seconds, in a thread that ends with the process."""

    def __init__(self, inbox: PacsInbox, every_s: float) -> None:
        """Start.

        Args:
            inbox: to read.
            every_s: between two looks into the PACS.
        """
        self._inbox, self._every_s = inbox, every_s
        self._told: set[str] = set()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="pacs-poll", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                for entry in self._inbox.read():
                    if entry["sop_instance_uid"] is None:
                        self._warn(f"{entry['image']}: {entry['not_understood'][0]['why']}")
            except ResMTNetError as error:
                self._warn(str(error))
            except Exception:
                logger.exception("New results are not read from the PACS")

    def _warn(self, why: str) -> None:
        """Tell why nothing is read, each reason once."""
        if why not in self._told:
            logger.warning("New results are not read from the PACS: %s", why)
        self._told.add(why)


def _entry(
    image: str,
    uid: str | None,
    kind: str,
    reader: str,
    reply: Reply,
    outcomes: Sequence[Json] = (),
) -> Json:
    """What is told of one object."""
    named = {"image": image, "sop_instance_uid": uid, "kind": kind, "reader": reader}
    return {**named, "outcomes": list(outcomes), **reply.to_json()}


def _is_known(results: SeriesResults, uid: str) -> bool:
    known = {one.sop_instance_uid for one in results.stored}
    return uid in known | {one.sop_instance_uid for one in results.read}


def _is_of(dataset: Dataset, source: SourceSeries) -> bool:
    """Whether a SEG or SR is of a CT; one that names no series is taken to be."""
    named = set(referenced_series(dataset))
    images = {str(one.SOPInstanceUID) for one in source.slices.values()}
    if not named or source.series_uid in named:
        return True
    return any(uid in images for uid in _referenced_instances(dataset))


def _referenced_instances(dataset: Dataset) -> set[str]:
    found = set()
    for study in dataset.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for one in series.get("ReferencedSOPSequence") or ():
                found.add(str(one.ReferencedSOPInstanceUID))
    return found


def _outcomes(drafts: Sequence[SrDraft], reply: Reply) -> list[Json]:
    """What became of each nodule, with the id of its reading."""
    found = []
    for one in drafts:
        place = one.draft.centre_lps_mm
        ids = [
            reading.id
            for reading in reply.readings
            if reading.centre_lps_mm and math.dist(reading.centre_lps_mm, place) < _SAME_PLACE_MM
        ]
        reading_id = ids[0] if ids else None
        found.append(
            {"tracking_uid": one.tracking_uid, "outcome": one.outcome, "reading": reading_id}
        )
    return found


def _outcome_of(reading: Reading) -> Json:
    answered = reading.answered
    told = None if answered is None else answered.finding["class"]["name"]
    if reading.class_name == "not_a_nodule":
        outcome = "rejected"
    elif answered is None:
        outcome = "new"
    else:
        same = told == reading.class_name and not reading.sizes
        outcome = "accepted" if same else "modified"
    uid = None if answered is None else answered.finding.get("tracking_uid")
    return {"tracking_uid": uid, "outcome": outcome, "reading": reading.id}


def _tracked(known: AnsweredNodule, told: Sequence[ToldNodule]) -> AnsweredNodule:
    """An answer with the tracking UID that its nodule was stored under."""
    for one in told:
        reach = distance_in_reach_mm(known.centre_lps_mm, [one.centre_lps_mm], one.radius_mm)
        if reach is not None:
            finding = {**known.finding, "tracking_uid": one.tracking_uid}
            return replace(known, finding=finding, seen=True)
    return known


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
