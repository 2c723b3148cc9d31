"""What readers send to the server becomes readings: labels as they are saved, and documents."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from resmtnet.ct import CTVolume
from resmtnet.errors import InputError, ReadingError
from resmtnet.monai_label.image_checks import check_centre, volume_of
from resmtnet.monai_label.infer import InferResult
from resmtnet.readings.answer_log import AnswerLog, GivenAnswer
from resmtnet.readings.formats.draft import Draft, Problem, Understood
from resmtnet.readings.formats.from_markups import from_markups
from resmtnet.readings.formats.label_map import write_mask
from resmtnet.readings.formats.mask_label import read_mask
from resmtnet.readings.matching import distance_in_reach_mm, nodule_at, radius_mm
from resmtnet.readings.patients import patient_of
from resmtnet.readings.record import Reading
from resmtnet.readings.reply import Reply, summary
from resmtnet.readings.store import ReadingStore
from resmtnet.types import Json

logger = logging.getLogger(__name__)

MODEL_TAG = "original"
"""Labels of this tag are the model's own, kept by MONAI Label's batch inference."""
UNKNOWN_READER = "unknown"
ANSWERS = "answers"
"""Folder of the last answers, beside the database."""

_MOST_BYTES = 20_000_000
"""Of a JSON label."""
_MOST_DOCUMENTS = 200
"""In a JSON label; as many as a mask may have regions."""


class Submissions:
    """The readings of one server, and the ways in."""

    def __init__(
        self,
        database: Path,
        datastore: Callable[[], Datastore],
        open_ct: Callable[[Path], CTVolume],
    ) -> None:
        """Connect readings with images; the database is opened when it is first used.

        Args:
            database: of the readings.
            datastore: has the images and labels.
            open_ct: opens what the datastore names.
        """
        self.database = database
        self.answers = AnswerLog(database.parent / ANSWERS)
        self.on_kept: Callable[[int], object] = lambda count: None
        """Called after readings were kept, with how many there are in all."""
        self._datastore = datastore
        self._open_ct = open_ct
        self._store: ReadingStore | None = None
        self._lock = Lock()

    @property
    def store(self) -> ReadingStore:
        """The readings.

        Raises:
            StoreError: with the reason and advice; the next call tries again.
        """
        with self._lock:
            if self._store is None:
                self._store = ReadingStore.open(self.database)
            return self._store

    def remember(self, request: Mapping[str, Any], answer: InferResult, document: Json) -> None:
        """Keep what a client is told, so that a reading can say what it answers.

        Args:
            request: image_id and client_id; without an image_id the image is none of the studies.
            answer: of the model.
            document: as it is sent.
        """
        image, client = request.get("image_id"), request.get("client_id")
        if not isinstance(image, str) or not image:
            return
        model = document["model"]
        given = GivenAnswer(
            client if isinstance(client, str) and client else None,
            model["version"],
            model["sha256"],
            answer.ct.geometry,
            tuple(answer.findings),
        )
        try:
            self.answers.remember(image, given)
        except Exception:  # the click is answered, whatever becomes of its memory
            logger.exception("The answer for %s is not remembered", image)

    def record(self, readings: Sequence[Reading], find_answers: bool = True) -> Reply:
        """Keep readings, from wherever they come: what every way in ends with.

        Each is checked against its image and completed with the patient. Those of one reader are
        of different nodules. The reply tells of each that is wrong; the others are kept, in one
        step.

        Args:
            readings: of one reader, sent together.
            find_answers: a reading that does not say which answer it corrects gets the last one
                that was given at its place.

        Raises:
            StoreError: they could not be written; none was kept.
        """
        reply, whole = Reply(), []
        for reading in readings:
            try:
                whole.append(self._completed(reading, find_answers))
            except ReadingError as error:
                reply.not_understood.append(_refused(reading, error))
        for reading, added in zip(whole, self.store.add_all(whole), strict=True):
            if isinstance(added, ReadingError):
                reply.not_understood.append(_refused(reading, added))
            else:
                reply.readings.append(added)
        if reply.readings:
            self.on_kept(self.store.count())
        return reply

    def post(self, document: object) -> Reading:
        """Keep one document of schema resmtnet.reading/1.

        Raises:
            ReadingError: naming the field that is wrong.
            StoreError: it could not be written.
        """
        if not isinstance(document, Mapping):
            raise ReadingError("body", "is no JSON object of schema resmtnet.reading/1")
        reading = Reading.from_json({**_given(document), "source": "rest"})
        kept = self.store.add(self._completed(reading))
        self.on_kept(self.store.count())
        return kept

    def on_save_label(self, image: str, label_id: str) -> Json:
        """Read a label that was saved; the reply is shown to the reader.

        Never raises: the label is saved in any case.

        Args:
            image: id of the image.
            label_id: as the datastore has named it.
        """
        store = self._datastore()
        tag = getattr(store, "last_saved", {}).get(image, "final")
        try:
            if tag == MODEL_TAG:
                return Reply(
                    warnings=[f"labels of the tag {tag} are the model's: not read"]
                ).to_json()
            info: Json = store.get_label_info(label_id, tag) or {}
            path = Path(store.get_label_uri(label_id, tag))
            reply = self._read_label(image, path, info)
            reply.warnings += [str(text) for text in info.get("warnings", ())]
        except (InputError, HTTPException) as error:
            why = str(getattr(error, "detail", error))
            reply = Reply(not_understood=[Problem("the label", f"is saved, but not read: {why}")])
        except Exception as error:
            logger.exception("The label of %s was saved, but not read", image)
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            reply = Reply(not_understood=[Problem("the label", f"is saved, but not read: {why}")])
        return reply.to_json()

    # -- labels ------------------------------------------------------------------------------

    def _read_label(self, image: str, path: Path, info: Json) -> Reply:
        client = info.get("client_id")
        client = client if isinstance(client, str) and client else None
        reader = str(info.get("reader") or client or info.get("user") or UNKNOWN_READER)
        if path.suffix.lower() != ".json":
            understood = read_mask(path, info, self.answers.known(image, client))
            return self._keep(understood, image, reader, "mask")
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path.name} is larger than {_MOST_BYTES:,} bytes")
        try:
            document = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path.name} is no JSON: {error}") from error
        if isinstance(document, Mapping) and "markups" in document:
            known = self.answers.known(image, client)
            understood = from_markups(document, known, self.answers.drawn(image))
            return self._keep(understood, image, reader, "markups")
        return self._documents(image, document, reader)

    def _documents(self, image: str, document: object, reader: str) -> Reply:
        """Keep one reading document, or a list of them."""
        entries = document if isinstance(document, list) else [document]
        if len(entries) > _MOST_DOCUMENTS:
            raise InputError(
                f"a list of {len(entries)} readings; at most {_MOST_DOCUMENTS} are read: send the "
                "others in a label of their own"
            )
        problems, readings = [], []
        for n, entry in enumerate(entries, start=1):
            try:
                if not isinstance(entry, Mapping):
                    raise ReadingError("reading", "is no object of schema resmtnet.reading/1")
                if entry.get("image") not in (None, image):
                    raise ReadingError("image", f"is {entry['image']!r}; the label is of {image!r}")
                given = {"reader": reader, **_given(entry), "image": image, "source": "label"}
                readings.append(Reading.from_json(given))
            except ReadingError as error:
                problems.append(Problem(f"reading {n}", str(error)))
        reply = self.record(readings)
        reply.not_understood = problems + reply.not_understood
        return reply

    def _keep(self, understood: Understood, image: str, reader: str, source: str) -> Reply:
        """Keep what a mask or markups say."""
        earlier = [r for r in self.store.readings(image) if r.reader == reader]
        readings, left, problems = [], [], [*understood.not_understood]
        for draft in understood.drafts:
            if draft.unchanged and any(_same_nodule(draft, reading) for reading in earlier):
                left.append(f"{draft.name} is as the model left it: your earlier reading stands")
                continue
            try:
                readings.append(draft.reading(image, reader, source, mask=self._kept_mask(draft)))
            except ReadingError as error:
                problems.append(Problem(draft.name, str(error)))
        reply = self.record(readings, find_answers=False)
        reply.not_understood = problems + reply.not_understood
        reply.warnings = [*understood.warnings, *left, *reply.warnings]
        return reply

    def _kept_mask(self, draft: Draft) -> Any:
        """A reference to the mask of one nodule alone, on the voxels of the label."""
        if draft.mask is None or draft.grid is None:
            return None
        with tempfile.TemporaryDirectory(prefix="resmtnet-") as folder:
            path = Path(folder) / "mask.nrrd"
            write_mask(draft.mask, draft.grid, path)
            return self.store.keep_mask(path)

    # -- what the server knows of a reading ----------------------------------------------------

    def _completed(self, reading: Reading, find_answer: bool = True) -> Reading:
        """A reading with the answer it corrects and the patient.

        Raises:
            ReadingError: there is no such image, or the nodule does not lie in it.
        """
        before = self.store.get(reading.id)
        if before is not None:  # sent again; what was known then holds
            return replace(
                reading,
                answered=reading.answered or before.answered,
                study_patient=reading.study_patient or before.study_patient,
            )
        path = volume_of(self._datastore(), reading.image)
        centre = reading.centre_lps_mm
        if centre is not None:
            check_centre(path, centre, self._open_ct)
        else:
            same = self.store.readings(reading.image, reading.nodule, every=True)
            centre = same[0].centre_lps_mm if same else None
        answered = reading.answered
        if find_answer and answered is None and centre is not None:
            known = nodule_at(centre, None, self.answers.known(reading.image, reading.reader))
            answered = None if known is None else known.answered
        patient = reading.study_patient or patient_of(path)
        return replace(reading, answered=answered, study_patient=patient)


def _given(document: Mapping[str, Any]) -> Json:
    """The fields of a document that are not null."""
    return {name: value for name, value in document.items() if value is not None}


def _refused(reading: Reading, error: ReadingError) -> Problem:
    return Problem(summary(reading), str(error))


def _same_nodule(draft: Draft, reading: Reading) -> bool:
    if reading.centre_lps_mm is None or reading.evidence != draft.evidence:
        return False
    radius = radius_mm(draft.known.sizes) if draft.known else 0.0
    centres = [draft.centre_lps_mm]
    return distance_in_reach_mm(reading.centre_lps_mm, centres, radius) is not None
