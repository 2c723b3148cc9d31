"""Stores results in the PACS as DICOM SEG and SR, and withdraws them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import highdicom
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from resmtnet.ct import CTVolume
from resmtnet.errors import InputError, PacsError
from resmtnet.findings import Finding, ModelInfo
from resmtnet.monai_label.pacs import Pacs, SeriesEntry
from resmtnet.readings.dicom.codes import MANUFACTURER, MODEL_NAME, REJECTED
from resmtnet.readings.dicom.confirmed import confirmed_nodules, free_name
from resmtnet.readings.dicom.identity import Author, ObjectPlace, new_place
from resmtnet.readings.dicom.nodule import ResultNodule, from_finding
from resmtnet.readings.dicom.results_log import (
    ResultsLog,
    SeriesResults,
    StoredObject,
    ToldNodule,
)
from resmtnet.readings.dicom.seg_read import read_seg
from resmtnet.readings.dicom.seg_write import write_seg
from resmtnet.readings.dicom.source_series import SourceSeries
from resmtnet.readings.dicom.sr_write import write_sr
from resmtnet.readings.inbox import Inbox

logger = logging.getLogger(__name__)

RESULTS = "pacs-results"
"""Folder of the lists of what was stored, beside the readings database."""


@dataclass(frozen=True)
class ToldFinding:
    """A finding with the version that answered it."""

    finding: Finding
    model: ModelInfo


class PacsResults:
    """The results of one site in its PACS; from any thread."""

    def __init__(
        self, pacs: Pacs, inbox: Inbox, open_ct: Callable[[Path], CTVolume] | None = None
    ) -> None:
        """Connect readings with a PACS.

        Args:
            pacs: where results go.
            inbox: the readings, and where the images are.
            open_ct: opens a CT; default: as the inbox does.
        """
        self.pacs, self.inbox = pacs, inbox
        self.log = ResultsLog(inbox.database.parent / RESULTS)
        self._open = open_ct or inbox.images.open

    def source(self, image: str) -> SourceSeries:
        """Return the slices of an image.

        Raises:
            InputError: there is no such image, or it is no DICOM series.
        """
        folder = self.inbox.images.volume(image)
        return SourceSeries.open(folder, self._open(folder))

    def store_findings(
        self, image: str, findings: Sequence[Finding], model: ModelInfo
    ) -> list[StoredObject]:
        """Store what a model answered at points that a person has marked, as a new version.

        Nodules that were stored before by the same version of the model stay part of it.
        Candidates that nobody has confirmed are never stored.

        Args:
            image: SeriesInstanceUID of the CT.
            findings: of the answer; those of source "candidate" are left out.
            model: the version that answered.

        Raises:
            InputError: the image cannot be read, or is another patient's in the PACS.
            PacsError: the PACS refused an object.
        """
        confirmed = [finding for finding in findings if finding.source == "point"]
        if not confirmed:
            return []
        source = self.source(image)
        with self.log.changing(image) as results:
            before = [
                one
                for one in results.standing("SR")
                if one.nodules and one.nodules[0].model_sha256 == model.sha256
            ]
            nodules = self._earlier(before[-1], results, source) if before else []
            entries = {one.tracking_uid: one for one in (before[-1].nodules if before else ())}
            for finding in confirmed:
                centre = finding.centroid_lps_mm or finding.centre_lps_mm
                known = {one.tracking_uid: one.name for one in results.told()}
                new = {one.tracking_uid for one in nodules} - set(entries)
                of_prior = (finding.prior or {}).get("tracking_uid")
                uid = results.tracking_uid(image, centre, new, of_prior)
                name = known.get(uid) or free_name(
                    {*known.values(), *(one.name for one in nodules)}
                )
                nodule = replace(from_finding(finding, uid), name=name)
                nodules = [one for one in nodules if one.tracking_uid != uid] + [nodule]
                entries[uid] = _told(nodule, finding, model)
            told = tuple(entries[one.tracking_uid] for one in nodules)
            return self._store(nodules, told, source, Author(model), results)

    def store_readings(self, image: str, reader: str) -> list[StoredObject]:
        """Store what a reader says in the end of the nodules of an image, as a new version.

        Raises:
            InputError: the image cannot be read, or is another patient's in the PACS.
            PacsError: the PACS refused an object.
        """
        readings = [r for r in self.inbox.store.readings(image) if r.reader == reader]
        if not readings:
            return []
        source = self.source(image)
        known = self.inbox.answers.known(image, reader, self.inbox.images.content_key(image))
        masks = self.inbox.store.masks
        with self.log.changing(image) as results:
            nodules = confirmed_nodules(readings, image, results, source.geometry, masks, known)
            if not nodules:  # repeat reads alone
                return []
            told = tuple(_told(nodule) for nodule in nodules)
            return self._store(nodules, told, source, Author(reader=reader), results)

    def retract(self, image: str) -> list[StoredObject]:
        """Withdraw all that was stored of an image: deleted, or else rejected by a note.

        The note is a Key Object Selection of title "Rejected for Quality Reasons", as IHE's
        Imaging Object Change Management has it.

        Returns:
            What was withdrawn, and how.

        Raises:
            PacsError: the PACS refused the note.
        """
        withdrawn = []
        with self.log.changing(image) as results:
            left = []
            for n, one in enumerate(results.stored):
                if one.retracted is not None or one.kind == "KO":
                    continue
                if self.pacs.delete(one.study_uid, one.series_uid, one.sop_instance_uid):
                    results.stored[n] = replace(one, retracted="deleted")
                    withdrawn.append(results.stored[n])
                else:
                    left.append(n)
            if left:
                self._reject([results.stored[n] for n in left], results)
                for n in left:
                    results.stored[n] = replace(results.stored[n], retracted="rejected")
                    withdrawn.append(results.stored[n])
        return withdrawn

    def _reject(self, objects: Sequence[StoredObject], results: SeriesResults) -> None:
        evidence = [
            self.pacs.fetch(one.study_uid, one.series_uid, one.sop_instance_uid) for one in objects
        ]
        highest = self._highest(objects[0].study_uid)
        note = KeyObjectSelectionDocument(
            evidence=evidence,
            content=KeyObjectSelection(
                document_title=highdicom.sr.CodedConcept(
                    REJECTED.value, REJECTED.scheme_designator, REJECTED.meaning
                ),
                referenced_objects=evidence,
                description="Withdrawn by Res-MTNet",
            ),
            series_instance_uid=generate_uid(),
            series_number=highest + 1,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            series_description=f"{MANUFACTURER} rejection note",
        )
        note.ManufacturerModelName = MODEL_NAME
        self.pacs.store([note])
        results.stored.append(_entry("KO", note, ()))

    def _earlier(
        self, version: StoredObject, results: SeriesResults, source: SourceSeries
    ) -> list[ResultNodule]:
        """The nodules of the last version, with their masks from the SEG that it came with."""
        masks = {}
        segs = results.standing("SEG")
        if segs:
            seg = segs[-1]
            dataset = self.pacs.fetch(seg.study_uid, seg.series_uid, seg.sop_instance_uid)
            read = read_seg(dataset, source.geometry)
            for segment in read.segments:
                mask = (read.label_map == segment.value).astype("u1")
                masks[segment.tracking_uid] = mask
        found = []
        for told in version.nodules:
            if told.finding is None:
                continue
            nodule = from_finding(Finding.from_json(told.finding), told.tracking_uid)
            found.append(
                replace(
                    nodule,
                    name=told.name,
                    centre_lps_mm=told.centre_lps_mm,
                    long_axis_lps_mm=told.long_axis_lps_mm,
                    short_axis_lps_mm=told.short_axis_lps_mm,
                    mask=masks.get(told.tracking_uid),
                    start_ijk=(0, 0, 0) if told.tracking_uid in masks else None,
                )
            )
        return found

    def _store(
        self,
        nodules: Sequence[ResultNodule],
        told: tuple[ToldNodule, ...],
        source: SourceSeries,
        author: Author,
        results: SeriesResults,
    ) -> list[StoredObject]:
        self._check_identity(source)
        highest = self._highest(source.study_uid)
        objects = []
        if any(nodule.mask is not None for nodule in nodules):
            place = self._place("SEG", told, results, highest)
            objects.append(
                ("SEG", write_seg(nodules, source, author, replace(place, predecessor=None)))
            )
        place = self._place("SR", told, results, highest + 1)
        objects.append(("SR", write_sr(nodules, source, author, place)))
        stored = []
        for kind, dataset in objects:
            self.pacs.store([dataset])
            # At once: if the next one is refused, this one can still be withdrawn.
            stored.append(_entry(kind, dataset, told))
            results.stored.append(stored[-1])
        return stored

    def _place(
        self, kind: str, told: tuple[ToldNodule, ...], results: SeriesResults, highest: int
    ) -> ObjectPlace:
        """The series of the last version of the same author, else a new one.

        OHIF uses only the newest instance of a series of SR, and stores what a reader has changed
        in the same series: then a new series is begun, which does not hide it.
        """
        ours = {one.sop_instance_uid for one in results.stored}
        by = {(one.model_sha256, one.finding is None) for one in told}
        for one in reversed(results.standing(kind)):
            if {(n.model_sha256, n.finding is None) for n in one.nodules} == by:
                entry = SeriesEntry(one.series_uid, one.study_uid, kind, one.series_number, "")
                if not ours.issuperset(self.pacs.instances(entry)):
                    break
                predecessor = None
                if kind == "SR":
                    predecessor = self.pacs.fetch(
                        one.study_uid, one.series_uid, one.sop_instance_uid
                    )
                return ObjectPlace(
                    one.series_number, one.series_uid, one.instance_number + 1, predecessor
                )
        return new_place(highest)

    def _highest(self, study_uid: str) -> int:
        numbers = [one.number for one in self.pacs.series(StudyInstanceUID=study_uid)]
        return max([0, *numbers])

    def _check_identity(self, source: SourceSeries) -> None:
        """Refuse to store where the PACS has another study or patient under the CT's UID."""
        found = self.pacs.series(SeriesInstanceUID=source.series_uid)
        if not found:
            raise PacsError(f"The PACS has no series {source.series_uid}: nothing is stored.")
        (entry, *_) = found
        patient = str(source.any.get("PatientID") or "")
        if entry.patient_id.strip() != patient.strip() or entry.study_uid != source.study_uid:
            raise InputError(
                f"The PACS has the series {source.series_uid} under another patient or study than "
                "the downloaded CT: nothing is stored. Delete the downloaded series, and try again."
            )


def _told(
    nodule: ResultNodule, finding: Finding | None = None, model: ModelInfo | None = None
) -> ToldNodule:
    return ToldNodule(
        nodule.tracking_uid,
        nodule.name,
        nodule.label,
        nodule.centre_lps_mm,
        nodule.long_axis_lps_mm,
        nodule.short_axis_lps_mm,
        None if finding is None else finding.to_json(),
        model.version if model else "",
        model.sha256 if model else "",
    )


def _entry(kind: str, dataset: Dataset, told: tuple[ToldNodule, ...]) -> StoredObject:
    return StoredObject(
        kind,
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.StudyInstanceUID),
        int(dataset.SeriesNumber),
        int(dataset.InstanceNumber),
        datetime.now(timezone.utc).isoformat(),
        told,
    )
