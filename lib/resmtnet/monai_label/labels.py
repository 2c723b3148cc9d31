"""Labels that MONAI Label saves go into the inbox of readings, and its reply to the viewer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from resmtnet.audit import keep_audit_log
from resmtnet.ct import CTVolume
from resmtnet.ct.voxel_key import voxel_key
from resmtnet.errors import InputError, ReadingError
from resmtnet.findings import Finding
from resmtnet.monai_label.datastore import MODEL_TAG
from resmtnet.monai_label.infer import InferResult, SharedCharacterizer
from resmtnet.monai_label.request import InferRequest
from resmtnet.monai_label.volume_paths import VolumePaths
from resmtnet.readings.answer_log import GivenAnswer
from resmtnet.readings.formats.draft import Problem
from resmtnet.readings.inbox import Inbox, SavedLabel
from resmtnet.readings.reply import Reply
from resmtnet.types import Json

logger = logging.getLogger(__name__)

UNKNOWN_READER = "unknown"
_ON_SCREEN_S = 3600.0


class DatastoreImages:
    """The images of MONAI Label's datastore, as the inbox asks for them."""

    def __init__(
        self, datastore: Callable[[], Datastore], open_ct: Callable[[Path], CTVolume]
    ) -> None:
        """Connect a datastore.

        Args:
            datastore: has the images; asked when it exists.
            open_ct: opens what the datastore names.
        """
        self._datastore, self._open_ct = datastore, open_ct

    def volume(self, image: str) -> Path:
        """Return what `CTVolume.open` takes for an image.

        Raises:
            ReadingError: of field "image", with the reason of the datastore.
        """
        try:
            return Path(VolumePaths(self._datastore()).get_image_uri(image))
        except HTTPException as error:
            raise ReadingError("image", f"is {image!r}; {error.detail}") from error

    def open(self, volume: Path) -> CTVolume:
        """Open a CT."""
        return self._open_ct(volume)

    def content_key(self, image: str) -> str | None:
        """Return a key that changes when the image is replaced; None if it is not here."""
        return VolumePaths(self._datastore()).content_key(image)


class Submissions:
    """What viewers and clients send to one server; the inbox makes readings of it."""

    def __init__(
        self,
        database: Path,
        datastore: Callable[[], Datastore],
        open_ct: Callable[[Path], CTVolume],
    ) -> None:
        """Connect readings with images; the database is opened when it is first used.

        Args:
            database: of the readings.
            datastore: has the images and labels; asked when it exists.
            open_ct: opens what the datastore names.
        """
        self.inbox = Inbox(database, DatastoreImages(datastore, open_ct))
        self.on_answer: Callable[[InferRequest, InferResult], object] = lambda *_: None
        """Called with each answer for an image of the studies, after it is remembered."""
        self._datastore = datastore
        keep_audit_log(database.parent)

    def listen_to(self, shared: SharedCharacterizer) -> None:
        """Remember what the models answer, and tell them what is on a viewer's screen."""
        shared.on_answer = self.remember
        shared.on_screen = self.on_screen

    def remember(self, request: InferRequest, answer: InferResult) -> None:
        """Keep what a client is told, so that a reading can say what it answers.

        Args:
            request: without an image_id the image is none of the studies yet; the answer to a
                client that names itself is kept for its voxels, which it may upload later.
            answer: of the model.
        """
        if request.image_id is None and request.client_id is None:
            return
        image = request.image_id or voxel_key(answer.ct)
        model = answer.by.model.info
        given = GivenAnswer(
            request.client_id,
            model.version,
            model.sha256,
            answer.ct.geometry,
            tuple(answer.findings),
            as_masks=answer.as_masks,
        )
        try:
            self.inbox.remember(image, given)
        except Exception:  # the click is answered, whatever becomes of its memory
            logger.exception("The answer for %s is not remembered", image)
        self.on_answer(request, answer)

    def on_screen(self, request: InferRequest, ct: CTVolume, sha256: str) -> list[Finding]:
        """Return what a client was last shown of an image as masks, within the last hour.

        Args:
            request: of that client.
            ct: the image.
            sha256: of the model that answers now; answers of another one are left out.
        """
        if request.client_id is None:
            return []
        image = request.image_id or voxel_key(ct)
        given = self.inbox.answers.given(image, self.inbox.images.content_key(image))
        mine = [one for one in given if one.client == request.client_id and one.as_masks]
        latest = mine[0] if mine else None
        if latest is None or latest.model_sha256 != sha256:
            return []
        return list(latest.findings) if time.time() - latest.at_s < _ON_SCREEN_S else []

    def on_save_label(self, image: str, label_id: str) -> Json:
        """Make readings of a label that was saved; the reply is shown to the reader.

        Never raises: the label is saved in any case.

        Args:
            image: id of the image.
            label_id: as the datastore has named it.
        """
        try:
            return self._read_saved(image, label_id).to_json()
        except (InputError, HTTPException) as error:
            why = str(getattr(error, "detail", error))
        except Exception as error:
            logger.exception("The label of %s was saved, but not read", image)
            why = f"{type(error).__name__}: {error}".splitlines()[0]
        problem = Problem("the label", f"is saved, but not read: {why}")
        return Reply(not_understood=[problem]).to_json()

    def _read_saved(self, image: str, label_id: str) -> Reply:
        datastore = self._datastore()
        find = getattr(datastore, "image_of_label", lambda name, label: name)
        image = find(image, label_id)
        tag = getattr(datastore, "last_saved", {}).get(image, "final")
        if tag == MODEL_TAG:
            told = f"labels with the tag {tag!r} are the model's own: no reading is made of them"
            return Reply(warnings=[told])
        info: Json = datastore.get_label_info(label_id, tag) or {}
        path = Path(datastore.get_label_uri(label_id, tag))
        reply = self.inbox.add_label(_saved_label(image, path, info))
        reply.warnings += [str(text) for text in info.get("warnings", ())]
        return reply


def _saved_label(image: str, path: Path, info: Json) -> SavedLabel:
    """A label with what MONAI Label was told of it; values of another kind count as not said."""
    named = [info.get(name) for name in ("reader", "client_id", "user")]
    reader, client, user = (one if isinstance(one, str) and one else None for one in named)
    reader = reader or client or user or UNKNOWN_READER
    listed = info.get("label_info")
    segments = [e for e in (listed if isinstance(listed, list) else ()) if isinstance(e, dict)]
    return SavedLabel(image, path, reader, client, segments)
