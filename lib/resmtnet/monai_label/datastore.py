"""The studies folder as a MONAI Label datastore that also lists DICOM series, .mha and .mhd."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from monailabel.datastore.local import DataModel, ImageLabelModel

from resmtnet.ct.apart import read_apart
from resmtnet.ct.content_key import FileKeys
from resmtnet.ct.image_file import check_whole, image_suffix, is_detached
from resmtnet.ct.series_index import SeriesIndex, split_series
from resmtnet.monai_label.careful_datastore import CarefulDatastore
from resmtnet.monai_label.datastore_checks import (
    check_replacement,
    checked_id,
    checked_tag,
    named,
)
from resmtnet.monai_label.downloads import converted
from resmtnet.monai_label.open_volumes import open_apart
from resmtnet.monai_label.refusals import Refusal, as_refusals
from resmtnet.monai_label.upload_names import UploadNames, candidates, is_same_ct
from resmtnet.readings.location import DATABASE, UPLOAD_NAMES

logger = logging.getLogger(__name__)

VOLUME_PATTERNS = ["*.nii.gz", "*.nii", "*.nrrd", "*.nhdr", "*.mha", "*.mhd"]
SERIES_EXTENSION = ".dicom-series"
"""Marks a DICOM series among the images that MONAI Label keeps by name and extension."""

SITE_FOLDER = DATABASE.parts[0]
"""Folder of the readings and of the published versions, within the studies."""

MODEL_TAG = "original"
"""Labels of this tag are the model's own, kept by MONAI Label's batch inference."""
_CONVERTED = (SERIES_EXTENSION, ".mhd", ".nhdr")
"""Kinds of images that a viewer cannot download as one file."""
_REFRESH_S = 2.0
_FIRST_SCAN_S = 4.0


class StudiesDatastore(CarefulDatastore):
    """Lists each volume file of a folder, and each CT series in it or its subfolders.

    The id of a series is its SeriesInstanceUID. `volume_path` is what is read for inference;
    `get_image_uri` is one file, for viewers that download the image.
    """

    def __init__(
        self,
        studies: str,
        auto_reload: bool = True,
        read_only: bool = False,
        read: Callable[[], Set[str]] = frozenset,
        beside: Path | None = None,
        reader_of: Callable[[str], str | None] = lambda image: None,
        read_again: Callable[[], Set[str]] = frozenset,
    ) -> None:
        """List a studies folder.

        Args:
            studies: the folder; made if it is missing.
            auto_reload: watch for files that are added or removed.
            read_only: do not write the list of images.
            read: returns the images that have a reading, including removed ones.
            beside: folder for the list and labels of studies that cannot be written.
            reader_of: returns who has read an image last.
            read_again: returns the images that are being read again: the model's own labels of
                them, which a viewer opens with the CT, are not handed out meanwhile.

        Raises:
            ConfigError: the studies cannot be written, and `beside` is not outside of them.
        """
        self._read, self._read_again = read, read_again
        self._told: set[tuple[str, ...]] = set()
        self._index = SeriesIndex(Path(studies), left_out=frozenset({"labels", SITE_FOLDER}))
        self._file_keys = FileKeys()
        self._names = UploadNames(Path(studies) / SITE_FOLDER / UPLOAD_NAMES)
        self.last_saved: dict[str, str] = {}
        """Tag of the label that was saved last, by image: MONAI Label does not pass it on."""
        self._index.refresh(_FIRST_SCAN_S)
        self._refreshed_s = time.monotonic()
        super().__init__(
            studies,
            beside,
            reader_of,
            extensions=VOLUME_PATTERNS,
            auto_reload=auto_reload,
            read_only=read_only,
        )

    # -- images ------------------------------------------------------------------------------

    def volume_path(self, image_id: str) -> str:
        """Return what `CTVolume.open` takes for an image; "" for an unknown one.

        Raises:
            Refusal: 400 for a series that no folder holds completely.
        """
        image = self._image(image_id)
        if image is None:
            return ""
        if image.image.ext == SERIES_EXTENSION and image_id in self._index.split:
            raise Refusal(400, split_series(image_id, self._index.split[image_id]))
        name = self._filename(image_id, image.image.ext)
        return os.path.realpath(os.path.join(self._datastore.image_path(), name))

    def content_key(self, image_id: str) -> str | None:
        """Return the key of an image's content, see `ct.content_key`; None if it cannot be read."""
        image = self._image(image_id)
        if image is None:
            return None
        if image.image.ext == SERIES_EXTENSION:
            return self._index.content_keys.get(image_id)
        try:
            return self._file_keys.of(Path(self.volume_path(image_id)))
        except OSError:
            return None

    def get_image_uri(self, image_id: str) -> str:
        """Return one file with the whole image; a series is converted once and kept in a cache.

        Raises:
            Refusal: 400 with the reason if the series cannot be read.
        """
        image = self._image(image_id)
        path = self.volume_path(image_id)
        if image is None or image.image.ext.lower() not in _CONVERTED:
            return path
        return str(converted(Path(path), image_id))

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Return what is known of an image; name and path are those of the file to download."""
        info: dict[str, Any] = super().get_image_info(image_id)
        if info:
            path = self.get_image_uri(image_id)
            info |= {"path": path, "name": os.path.basename(path)}
        return info

    def list_images(self) -> list[str]:
        """Return the ids of all images, including series that were copied in since."""
        self._see_new_series()
        ids: list[str] = super().list_images()
        return ids

    def json(self) -> Any:
        """Return all that is known of all images, including series that were copied in since."""
        self._see_new_series()
        known: Any = super().json()
        for image in self._read_again():
            known["objects"].get(image, {}).get("labels", {}).pop(MODEL_TAG, None)
        return known

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Store an uploaded volume.

        Of a viewer that names itself (`client_id` in `image_info`), any name is taken: a volume
        that is there already is not stored again, and one that only has its name gets another id.

        Raises:
            Refusal: 400 if the id is a path, or the file is of another kind, refers to another
                file, or has no header of a CT of bounded size; 409 if the id is taken, since its
                readings and labels would change meaning.
        """
        name, ext = self._to_id(os.path.basename(image_filename))
        if f"*{ext.lower()}" not in VOLUME_PATTERNS or is_detached(Path(image_filename)):
            allowed = ", ".join(p[1:] for p in VOLUME_PATTERNS if not is_detached(Path(p)))
            raise Refusal(
                400, f"{ext or 'A file without extension'} is not stored; allowed are {allowed}."
            )
        client = image_info.get("client_id")
        if not client:
            self._check_free(checked_id(image_id or name))
        upload = Path(image_filename)
        with as_refusals(), named(upload, f"{image_id or name}{ext}"):
            check_whole(upload)
            with read_apart("resmtnet.ct.image_file:try_header", upload):
                pass
        if client:
            return self._add_of_viewer(image_id or name, image_filename, image_info)
        stored: str = super().add_image(image_id, image_filename, image_info)
        return stored

    def _add_of_viewer(self, name: str, file: str, info: dict[str, Any]) -> str:
        for image_id in candidates(name, Path(file)):
            image = self._image(image_id)
            if image is None:
                with as_refusals():
                    taken = image_id in self._read()
                if taken:
                    continue
                image_id = super().add_image(checked_id(image_id), file, info)
            elif image.image.ext == SERIES_EXTENSION or not self._holds(image_id, file):
                continue
            self._names.remember(str(info["client_id"]), name, image_id)
            return image_id
        raise Refusal(409, f"{name} exists already, with other voxels; give it another name.")

    def _holds(self, image_id: str, file: str) -> bool:
        stored, sent = Path(self.volume_path(image_id)), Path(file)
        with as_refusals():
            open_apart(sent)
            return is_same_ct(stored, sent)

    def image_of(self, name: str, client: str | None) -> str:
        """Return the id of the image that a client means; see `upload_names`."""
        return self._names.image(client, name)

    def image_of_label(self, name: str, label_id: str) -> str:
        """Return the id of the image that a label was saved for; both have the same id here."""
        return label_id

    def offered(self, image_id: str, client: str | None) -> None:
        """Note that a client was offered an image of the studies."""
        if client:
            self._names.forget(client, image_id)

    def _check_free(self, image_id: str) -> None:
        image = self._image(image_id)
        if image is not None and image.image.ext == SERIES_EXTENSION:
            raise Refusal(409, f"{image_id} is a DICOM series; upload under another id.")
        with as_refusals():
            read = image_id in self._read()
        if read:
            raise Refusal(409, f"{image_id} has readings; upload under another id.")
        if image is not None:
            raise Refusal(
                409, f"{image_id} exists already; delete it first, or upload under another id."
            )

    def remove_image(self, image_id: str) -> None:
        """Delete an image file and its labels.

        Raises:
            Refusal: 404 for an unknown image, 400 for a DICOM series, whose files are kept.
        """
        image = self._known_image(image_id)
        if image.image.ext == SERIES_EXTENSION:
            raise Refusal(
                400, "A DICOM series is not deleted by the server; remove it from the folder."
            )
        super().remove_image(image_id)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of an image; 404 for an unknown one."""
        self._known_image(image_id)
        super().update_image_info(image_id, info)

    # -- labels ------------------------------------------------------------------------------

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Store a label.

        Raises:
            Refusal: 404 for an unknown image, 400 for a tag that is a path, and for a file that
                cannot be read where a label would be replaced.
        """
        image_id = self.image_of(image_id, label_info.get("client_id"))
        self._known_image(image_id)
        tag = checked_tag(str(getattr(label_tag, "value", label_tag)))
        if self._datastore.label(image_id, tag) is not None:
            check_replacement(Path(label_filename), image_id)
        label: str = super().save_label(image_id, label_filename, tag, label_info)
        self.last_saved[image_id] = tag
        return label

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Return the file of a label, or "" if there is none; 400 for a tag that is a path."""
        tag = checked_tag(str(getattr(label_tag, "value", label_tag)))
        if tag == MODEL_TAG and label_id in self._read_again():
            return ""
        uri: str = super().get_label_uri(label_id, tag)
        return uri

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known of a label; 404 for an unknown one."""
        if self._datastore.label(label_id, label_tag) is None:
            raise Refusal(404, f"There is no label {label_tag!r} of {label_id!r}.")
        super().update_label_info(label_id, label_tag, info)

    # -- what LocalDatastore leaves to be filled in --------------------------------------------

    def _image(self, image_id: str) -> ImageLabelModel | None:
        found = self._datastore.objects.get(image_id)
        if found is None:
            self._see_new_series(at_once=True)
            found = self._datastore.objects.get(image_id)
        return found

    def _known_image(self, image_id: str) -> ImageLabelModel:
        image = self._image(image_id)
        if image is None:
            raise Refusal(404, f"There is no image {image_id!r}; /datastore lists them.")
        return image

    def _see_new_series(self, at_once: bool = False) -> None:
        if not at_once and time.monotonic() - self._refreshed_s < _REFRESH_S:
            return
        if self._index.refresh(_FIRST_SCAN_S):
            self._reconcile_datastore()
        self._refreshed_s = time.monotonic()

    def _to_id(self, file: str) -> tuple[str, str]:
        """Id and suffix of a file, the suffix as it is written, upper case or not."""
        suffix = image_suffix(Path(file))
        if suffix is None:
            found: tuple[str, str] = super()._to_id(file)
            return found
        return file[: -len(suffix)], suffix

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        """The files of a folder with an allowed suffix in any case; hidden files are no images."""
        allowed = {pattern.lstrip("*") for pattern in patterns}
        return {
            name: name
            for name in sorted(os.listdir(path))
            if not name.startswith(".") and (image_suffix(Path(name)) or "").lower() in allowed
        }

    def _tell_of_same_ids(self) -> None:
        """Warns of files that differ only in their suffix, once: an id can name one of them."""
        files: dict[str, list[str]] = {}
        for name in self._list_files(self._datastore.image_path(), VOLUME_PATTERNS):
            files.setdefault(self._to_id(name)[0], []).append(name)
        for image_id, names in files.items():
            if len(names) < 2 or tuple(names) in self._told:
                continue
            self._told.add(tuple(names))
            known = self._datastore.objects.get(image_id)
            used = image_id + known.image.ext if known else names[0]
            endings = " and ".join(name[len(image_id) :] for name in names)
            logger.warning(  # without the name: it can be that of a patient
                "Files of one name end in %s: an id can name one of them, so only that in %s is "
                "listed, and the readings of the id are of it. Rename the others; `resmtnet doctor "
                "--studies FOLDER` names them.",
                endings,
                used[len(image_id) :],
            )

    def _filename(self, image_id: str, ext: str) -> str:
        if ext != SERIES_EXTENSION:
            return image_id + ext
        file = self._index.series.get(image_id)
        return image_id + ext if file is None else str(file)

    def _remove_non_existing(self) -> int:
        """Forget removed images and their labels, but only after all folders have been read."""
        return super()._remove_non_existing() if self._index.complete else 0

    def _add_non_existing_images(self) -> int:
        added: int = super()._add_non_existing_images()
        self._tell_of_same_ids()
        for uid in sorted(set(self._index.series) - set(self._datastore.objects)):
            info = {"ts": int(time.time()), "name": f"{uid}.nrrd"}
            self._datastore.objects[uid] = ImageLabelModel(
                image=DataModel(info=info, ext=SERIES_EXTENSION)
            )
            added += 1
        return added
