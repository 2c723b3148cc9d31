"""Everything that readers send becomes readings here: saved labels, and documents by REST.

Nothing here knows of a server: a file or a document comes in; readings go into the store, and a
reply says what was understood. A label takes these steps: read the file, match what it shows with
what the model had answered, keep the masks, complete each reading with its patient and answer, and
store them all in one step.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Protocol

from resmtnet.audit import audit
from resmtnet.ct import CTVolume, Geometry
from resmtnet.ct.image_file import image_suffix
from resmtnet.ct.points import point_inside
from resmtnet.ct.voxel_key import voxel_key
from resmtnet.errors import InputError, PointError, ReadingError, ResMTNetError
from resmtnet.readings.answer_log import AnswerLog, GivenAnswer
from resmtnet.readings.formats.documents import given_fields, read_documents, read_json
from resmtnet.readings.formats.draft import DraftReading, ParsedLabel, Problem
from resmtnet.readings.formats.from_markups import from_markups
from resmtnet.readings.formats.label_map import write_mask
from resmtnet.readings.formats.mask_label import read_mask
from resmtnet.readings.matching import distance_in_reach_mm, nodule_at, radius_mm
from resmtnet.readings.patients import patient_of
from resmtnet.readings.record import REPEAT, MaskReference, Reading
from resmtnet.readings.reply import Reply, summary
from resmtnet.readings.store import ReadingStore
from resmtnet.types import Json, Point

logger = logging.getLogger(__name__)

ANSWERS = "answers"
"""Folder of the last answers, beside the database."""


class SiteImages(Protocol):
    """What has to be known of the images of a site."""

    def volume(self, image: str) -> Path:
        """Return what `CTVolume.open` takes for an image.

        Raises:
            ReadingError: of field "image": there is no such image.
        """

    def open(self, volume: Path) -> CTVolume:
        """Open a CT.

        Raises:
            InputError: it cannot be read.
        """

    def content_key(self, image: str) -> str | None:
        """Return a key that changes when the image is replaced; None if it is not here."""


@dataclass(frozen=True)
class SavedLabel:
    """A file that a viewer has saved for an image."""

    image: str
    path: Path
    reader: str
    """Who says it."""
    client: str | None = None
    """The viewer that sent it, as it names itself when it asks for an answer."""
    segments: Sequence[Json] = ()
    """{"name", "idx"} of each segment of a mask, where the file itself does not say it."""


class Inbox:
    """The readings of one site, and the ways in; from any thread."""

    def __init__(self, database: Path, images: SiteImages) -> None:
        """Connect readings with images; the database is opened when it is first used.

        Args:
            database: of the readings.
            images: which the readings are of.
        """
        self.database = database
        self.images = images
        self.answers = AnswerLog(database.parent / ANSWERS)
        self.on_kept: Callable[[int], object] = lambda count: None
        """Called after readings were kept, with how many there are in all."""
        self.on_readings: Callable[[list[Reading]], object] = lambda readings: None
        """Called after readings were kept, with them."""
        self.will_not_train: Callable[[Reading], str | None] = lambda reading: None
        """Returns why a reading never trains, which its reader is told."""
        self.is_repeat: Callable[[str, str], bool] = lambda image, reader: False
        """Whether an image was offered to a reader to be read again."""
        self.read_again: Callable[[], Set[str]] = frozenset
        """Returns the images that were offered to somebody to be read again."""
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

    def remember(self, image: str, answer: GivenAnswer) -> None:
        """Keep what a client is told of an image, so that a reading can say what it answers.

        The database is made first: answers without one are a sign that it was lost.

        Raises:
            StoreError: the database is lost, or cannot be made.
        """
        self.store.check_in_place()
        content = self.images.content_key(image)
        self.answers.remember(image, replace(answer, content=content))

    def add_label(self, label: SavedLabel) -> Reply:
        """Read a label and keep its readings; the reply tells of what could not be understood.

        Raises:
            InputError: the file cannot be read.
            StoreError: the readings could not be written; none was kept.
        """
        content = self.images.content_key(label.image)
        asked = self._asked_as(label.image, content)
        known = self.answers.known(asked, label.client, content)
        if label.path.suffix.lower() != ".json":
            ct = self._grid(label.image)
            source, parsed = (
                "mask",
                read_mask(label.path, {"label_info": label.segments}, known, ct),
            )
        else:
            document = read_json(label.path)
            if not (isinstance(document, Mapping) and "markups" in document):
                readings, problems = read_documents(document, label.image, label.reader)
                return self.add(readings, Reply(not_understood=problems))
            drawn = self.answers.drawn(asked, content)
            source, parsed = "markups", from_markups(document, known, drawn)
        return self.add_parsed(label.image, label.reader, source, parsed)

    def add_parsed(self, image: str, reader: str, source: str, parsed: ParsedLabel) -> Reply:
        """Keep what a label says that was read already.

        Args:
            image: id of the image.
            reader: who says it.
            source: the way in; see Reading.source.
            parsed: the label.

        Raises:
            StoreError: the readings could not be written; none was kept.
        """
        reply = Reply(not_understood=[*parsed.not_understood], warnings=[*parsed.warnings])
        readings = self._readings_of(parsed.drafts, (image, reader), source, reply)
        return self.add(readings, reply, find_answers=False)

    def _asked_as(self, image: str, content: str | None) -> str:
        """Return the name under which answers for an image are kept.

        A viewer may ask about a volume first, and upload it later: then the answers are kept for
        its voxels.
        """
        if self.answers.given(image, content):
            return image
        try:
            volume = self.images.volume(image)
            if image_suffix(volume) is None:  # a DICOM series, which no viewer uploads
                return image
            return voxel_key(self.images.open(volume))
        except InputError:
            return image

    def _grid(self, image: str) -> Geometry | None:
        """Return the grid of a CT; None if it cannot be read, which is told of each reading."""
        try:
            return self.images.open(self.images.volume(image)).geometry
        except InputError:
            return None

    def add_document(self, document: object) -> Reading:
        """Keep one document of schema resmtnet.reading/1.

        Raises:
            ReadingError: naming the field that is wrong.
            StoreError: it could not be written.
        """
        if not isinstance(document, Mapping):
            raise ReadingError("body", "is not a JSON object of schema resmtnet.reading/1")
        reading = Reading.from_json({**given_fields(document), "source": "rest"})
        kept = self.store.add(self._completed(reading, find_answer=True))
        audit("reading kept", reading=kept.id, source=kept.source)
        self._tell([kept])
        return kept

    def add(
        self, readings: Sequence[Reading], reply: Reply | None = None, find_answers: bool = True
    ) -> Reply:
        """Keep readings, from wherever they come: what every label ends with.

        Each is checked against its image and completed with the patient. Those of one reader are
        of different nodules. The reply tells of each that is wrong; the others are kept, in one
        step.

        Args:
            readings: of one reader, sent together.
            reply: what is told already of the same label; it is completed and returned.
            find_answers: a reading that does not say which answer it corrects gets the last one
                that was given at its place.

        Raises:
            StoreError: they could not be written; none was kept.
        """
        reply, completed = reply or Reply(), []
        for reading in readings:
            try:
                completed.append(self._completed(reading, find_answers))
            except ReadingError as error:
                reply.not_understood.append(Problem(summary(reading), str(error)))
        for reading, stored in zip(completed, self.store.add_all(completed), strict=True):
            if isinstance(stored, ReadingError):
                reply.not_understood.append(Problem(summary(reading), str(stored)))
            else:
                reply.readings.append(stored)
                audit("reading kept", reading=stored.id, source=stored.source)
        reply.warnings += self.notices(reply.readings)
        if reply.readings:
            self._tell(reply.readings)
        return reply

    def _tell(self, kept: list[Reading]) -> None:
        """Call whoever waits for readings; these are kept, whatever becomes of that."""
        waiting: tuple[Callable[[], object], ...] = (
            lambda: self.on_kept(self.store.count()),
            lambda: self.on_readings(kept),
        )
        for call in waiting:
            try:
                call()
            except Exception:
                logger.exception("What is to follow a reading has failed; the reading is kept")

    def notices(self, readings: Sequence[Reading]) -> list[str]:
        """Return what a reader is told of readings that were kept: why they never train."""
        told = [self._why_not_trained(reading) for reading in readings]
        return list(dict.fromkeys(why for why in told if why))

    def _why_not_trained(self, reading: Reading) -> str | None:
        try:
            return self.will_not_train(reading)
        except ResMTNetError as error:  # the reading is kept, whatever is known of the model
            logger.warning("Whether a reading trains is not known: %s", error)
            return None

    def _readings_of(
        self, drafts: Sequence[DraftReading], of: tuple[str, str], source: str, reply: Reply
    ) -> list[Reading]:
        """Make readings of what a mask or markups say, and keep their masks.

        The reply tells of those that say nothing new, and of those that are wrong. `of` is the
        image and the reader.
        """
        image, reader = of
        earlier = [r for r in self.store.readings(image) if r.reader == reader]
        readings, untold = [], []
        for draft in drafts:
            if draft.unchanged and not draft.agreed:
                untold.append(draft.name)
                continue
            again = self.is_repeat(image, reader)
            if (
                not again
                and draft.unchanged
                and any(_is_of_same_nodule(draft, one) for one in earlier)
            ):
                reply.warnings.append(
                    f"{draft.name} is as the model answered it: your earlier reading stands"
                )
                continue
            try:
                mask = self._keep_mask(draft)
                readings.append(draft.reading(image, reader, source, mask=mask))
            except ReadingError as error:
                reply.not_understood.append(Problem(draft.name, str(error)))
        if untold:
            reply.warnings.append(
                f"{', '.join(untold)}: as the model answered; nothing is recorded. If you agree, "
                "add the word 'accept' to the name"
            )
        return readings

    def _keep_mask(self, draft: DraftReading) -> MaskReference | None:
        """Keep the mask of one nodule alone, on the voxels of the label."""
        if draft.mask is None or draft.grid is None:
            return None
        with tempfile.TemporaryDirectory(prefix="resmtnet-") as folder:
            path = Path(folder) / "mask.nrrd"
            write_mask(draft.mask, draft.grid, path)
            return self.store.keep_mask(path)

    def _completed(self, reading: Reading, find_answer: bool) -> Reading:
        """Return a reading with the answer it corrects and the patient.

        Raises:
            ReadingError: there is no such image, or the nodule does not lie in it.
        """
        before = self.store.get(reading.id)
        if before is not None:  # sent again; what was known then holds
            return replace(
                reading,
                answered=reading.answered or before.answered,
                purpose=reading.purpose or before.purpose,
                study_patient=reading.study_patient or before.study_patient,
            )
        volume = self.images.volume(reading.image)
        centre = reading.centre_lps_mm
        if centre is not None:
            self._check_inside(volume, centre)
        else:
            same = self.store.readings(reading.image, reading.nodule, every=True)
            centre = same[0].centre_lps_mm if same else None
        answered = reading.answered
        if find_answer and answered is None and centre is not None:
            content = self.images.content_key(reading.image)
            known = self.answers.known(reading.image, reading.reader, content)
            nodule = nodule_at(centre, None, known)
            answered = None if nodule is None else nodule.answered
        patient = reading.study_patient or patient_of(volume)
        purpose = reading.purpose
        if purpose is None and self.is_repeat(reading.image, reading.reader):
            purpose = REPEAT
        return replace(reading, answered=answered, study_patient=patient, purpose=purpose)

    def _check_inside(self, volume: Path, centre_lps_mm: Point) -> None:
        """Refuse a point outside the CT.

        Raises:
            ReadingError: of field "centre_lps_mm", or of "image" where the CT cannot be read.
        """
        try:
            geometry = self.images.open(volume).geometry
        except InputError as error:
            raise ReadingError("image", f"cannot be read: {error}") from error
        try:
            point_inside(centre_lps_mm, geometry)
        except PointError as error:
            raise ReadingError("centre_lps_mm", f"cannot be used: {error}") from error


def _is_of_same_nodule(draft: DraftReading, reading: Reading) -> bool:
    """Whether an earlier reading is of the nodule of a draft, on the same evidence."""
    if reading.centre_lps_mm is None or reading.evidence != draft.evidence:
        return False
    radius = radius_mm(draft.known.sizes) if draft.known else 0.0
    centres = [draft.centre_lps_mm]
    return distance_in_reach_mm(reading.centre_lps_mm, centres, radius) is not None
