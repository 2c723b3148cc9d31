"""Serves the series of a PACS over DICOMweb, and keeps them as DICOM files.

A click then decodes only the slices it needs; MONAI Label alone would convert the whole series
first.
"""

from __future__ import annotations

import logging
import os
import shutil
import sysconfig
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from dicomweb_client import DICOMwebClient
from fastapi import HTTPException
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.datastore.utils.dicom import dicom_web_download_series
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from pydicom.dataset import Dataset

from resmtnet.ct import CTVolume
from resmtnet.ct.content_key import downloaded_series_key
from resmtnet.ct.dicom_header import is_uid
from resmtnet.errors import InputError, PacsError
from resmtnet.monai_label.datastore_checks import check_replacement, checked_tag
from resmtnet.monai_label.downloads import Locks
from resmtnet.monai_label.pacs import Pacs, referenced_series
from resmtnet.monai_label.pacs_client import limit_time
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.shared_list import SharedListDatastore
from resmtnet.monai_label.slow_status import SlowStatus
from resmtnet.readings.dicom.identity import Author, new_place
from resmtnet.readings.dicom.seg_write import segment_of_name, write_label_map
from resmtnet.readings.dicom.source_series import SourceSeries
from resmtnet.readings.formats.class_mask import write_ct
from resmtnet.readings.formats.from_mask import possible_names
from resmtnet.readings.formats.label_map import on_voxels_of
from resmtnet.readings.formats.label_map_apart import read_label_map_apart
from resmtnet.readings.formats.regions import values_of

logger = logging.getLogger(__name__)


UNFINISHED = ".download-"
"""How the folder of a download begins, until it is complete."""


def use_installed_dcmqi() -> None:
    """Put the installed dcmqi tools on PATH; else MONAI Label downloads them at each start."""
    scripts = sysconfig.get_path("scripts")
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), scripts])


class DicomWebDatastore(SharedListDatastore, DICOMWebDatastore):  # type: ignore[misc]
    """Series of a PACS, downloaded as DICOM when they are needed; the id is the series UID."""

    def __init__(self, stock: DICOMWebDatastore) -> None:
        """Replace the datastore that MONAI Label has made from its own settings.

        Args:
            stock: its client, search filter and cache folder are used.
        """
        self._locks = Locks()
        self._status = SlowStatus(super().status)
        self.stores_masks = True
        """Whether a mask with the tag "final" is stored in the PACS when it is saved."""
        self.last_saved: dict[str, str] = {}
        """Tag of the label that was saved last, by image: MONAI Label does not pass it on."""
        if isinstance(stock._client, DICOMwebClient):
            limit_time(stock._client)
        super().__init__(
            client=stock._client,
            search_filter=stock._search_filter,
            cache_path=os.path.dirname(stock._datastore_path),
            fetch_by_frame=stock._fetch_by_frame,
            convert_to_nifti=False,
        )

    def status(self) -> dict[str, Any]:
        """Return what is known of the images and labels; /info does not wait for the PACS."""
        return self._status.read()

    def volume_path(self, image_id: str) -> str:
        """Return the folder of a series, downloaded first if it is missing.

        A request waits only for the download of its own series, and not at all if that is there.

        Raises:
            Refusal: 400 if the id is no UID, 404 if the PACS has no such series, 502 if it does
                not answer.
        """
        folder = self._folder(image_id)
        if not folder.is_dir():  # it appears in one step, when all files are there
            with self._locks.of(image_id):
                if not folder.is_dir():
                    self._download(image_id, folder)
        with suppress(OSError):  # deleted just now; the time tells which were not used for long
            os.utime(folder)
        return str(folder)

    @property
    def cache_of_pacs(self) -> str:
        """The folder of the series that were downloaded."""
        return str(self._datastore.image_path())

    def _remove_non_existing(self) -> int:
        """Forget no image whose file was deleted from the cache: it is in the PACS, and has labels.

        Returns:
            0: nothing was removed.
        """
        return 0

    def content_key(self, image_id: str) -> str | None:
        """Return the key of a downloaded series, see `ct.content_key`; None if it is not there."""
        try:
            return downloaded_series_key(self._folder(image_id))
        except OSError:
            return None

    def ct_of(self, image_id: str) -> str:
        """Return the id of the CT that a SEG or SR refers to; any other id is returned as it is.

        OHIF sends the UID of whatever it shows in front, which may be a result.
        """
        folder = self._folder(image_id)
        if folder.is_dir():
            return image_id
        try:
            found = Pacs(self._client).series(SeriesInstanceUID=image_id)
            if not found or found[0].modality not in ("SEG", "SR"):
                return image_id
            (entry, *_) = found
            (instance, *_) = self._client.retrieve_series_metadata(entry.study_uid, entry.uid)
        except (PacsError, OSError, ValueError) as error:
            logger.warning("What %s refers to is not known: %s", image_id, error)
            return image_id
        return next(referenced_series(Dataset.from_json(instance)), image_id)

    def _folder(self, image_id: str) -> Path:
        return Path(self._datastore.image_path(), _checked_uid(image_id)).resolve()

    def get_image_uri(self, image_id: str) -> str:
        """Return one NRRD file with the whole series, made once beside its DICOM folder."""
        folder = Path(self.volume_path(image_id))
        target = folder.with_name(f"{folder.name}.nrrd")
        with self._locks.of(target.name):
            if not target.is_file():
                try:
                    write_ct(CTVolume.open(folder), target)
                except InputError as error:
                    raise Refusal(400, str(error)) from error
        self._list(image_id)
        return str(target)

    def _list(self, image_id: str) -> None:
        """Add an image to the list of labels.

        Raises:
            Refusal: 404 if the PACS has no such series, 502 if it does not answer.
        """
        if image_id in self._datastore.objects:
            return
        try:
            info = self._dicom_info(image_id)
        except IndexError as error:
            raise Refusal(404, f"The PACS has no series {image_id}.") from error
        except OSError as error:
            raise _no_answer(error) from error
        info |= {"ts": int(time.time()), "name": f"{image_id}.nrrd"}
        self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=".nrrd"))
        self._update_datastore_file()

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Return what the PACS says of a series; name and path are of the file to download."""
        self.get_image_uri(image_id)
        info: dict[str, Any] = super().get_image_info(image_id)
        return info

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refuse an upload, 405: MONAI Label would write it to the path that the id names."""
        raise Refusal(405, "Images are stored in the PACS; send them there, not to this server.")

    def remove_image(self, image_id: str) -> None:
        """Refuse to delete an image, 405: MONAI Label would delete what the id names."""
        raise Refusal(405, "Images are stored in the PACS; delete them there.")

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known of an image; 404 for one that the PACS does not have."""
        self._list(_checked_uid(image_id))
        super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known of a label; 404 for an unknown one."""
        if self._datastore.label(_checked_uid(label_id), label_tag) is None:
            raise Refusal(404, f"There is no label {label_tag!r} of {label_id!r}.")
        super().update_label_info(label_id, label_tag, info)

    def save_label(
        self,
        image_id: str,
        label_filename: str,
        label_tag: str,
        label_info: dict[str, Any],
        label_id: str = "",
    ) -> str:
        """Store a label; a mask with the tag "final" also in the PACS, as a DICOM SEG.

        A mask that cannot become a SEG, such as an empty one, is stored only here; its info has
        the reason under "warnings".
        """
        _checked_uid(image_id)
        tag = checked_tag(str(getattr(label_tag, "value", label_tag)))
        self._list(image_id)
        if self._datastore.label(image_id, tag) is not None:
            check_replacement(Path(label_filename), image_id)
        is_json = label_filename.lower().endswith(".json")
        if tag != DefaultLabelTag.FINAL or is_json:
            saved: str = LocalDatastore.save_label(self, image_id, label_filename, tag, label_info)
        else:
            saved = self._save_final(image_id, label_filename, tag, label_info, label_id)
        self.last_saved[image_id] = tag
        return saved

    def _save_final(
        self, image_id: str, file: str, tag: str, info: dict[str, Any], label_id: str
    ) -> str:
        del label_id
        if self.stores_masks:
            try:
                self._store_mask(image_id, Path(file), info)
            except HTTPException:
                raise
            except Exception as error:
                logger.exception("No DICOM SEG was made of the label of %s", image_id)
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                told = f"the label was stored on this server, but not in the PACS: {reason}"
                info["warnings"] = [*info.get("warnings", ()), told]
        saved: str = LocalDatastore.save_label(self, image_id, file, tag, info)
        return saved

    def _store_mask(self, image_id: str, file: Path, info: dict[str, Any]) -> None:
        """Store a label map in the PACS as DICOM SEG; segments without voxels are left out."""
        folder = Path(self.volume_path(image_id))
        ct = CTVolume.open(folder)
        label_map = read_label_map_apart(file, ct.geometry)
        voxels = on_voxels_of(label_map, ct.geometry)
        source = SourceSeries.open(folder, ct)
        pacs = Pacs(self._client)
        listed = listed_by_value(file, info.get("label_info") or [])
        segments = {
            int(entry["idx"]): segment_of_name(str(entry["name"]), int(entry["idx"]), image_id)
            for entry in listed
        }
        reader = str(info.get("reader") or info.get("client_id") or info.get("user") or "unknown")
        numbers = [one.number for one in pacs.series(StudyInstanceUID=source.study_uid)]
        seg = write_label_map(
            voxels, segments, source, Author(reader=reader), new_place(max([0, *numbers]))
        )
        pacs.store([seg])
        info["SeriesInstanceUID"] = str(seg.SeriesInstanceUID)
        info["StudyInstanceUID"] = source.study_uid

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """Return the file of a label; a SEG of the PACS is downloaded first."""
        tag = checked_tag(str(getattr(label_tag, "value", label_tag)))
        if label_id in self._datastore.objects:
            # DICOMWebDatastore would ask the PACS for a series of the same UID as the image.
            local: str = LocalDatastore.get_label_uri(self, label_id, tag)
            return local
        uri: str = super().get_label_uri(_checked_uid(label_id), tag, image_id)
        return uri

    def _download(self, image_id: str, folder: Path) -> None:
        """Download to a draft folder, so that the final one exists only when it is complete."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = tempfile.mkdtemp(dir=folder.parent, prefix=UNFINISHED)
        try:
            dicom_web_download_series(None, image_id, partial, self._client, self._fetch_by_frame)
            try:
                os.replace(partial, folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
        except IndexError as error:
            raise Refusal(404, f"The PACS has no series {image_id}.") from error
        except OSError as error:
            raise _no_answer(error) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def keep_dicom(datastore: Datastore) -> Datastore:
    """Return MONAI Label's datastore, or for DICOMweb the one above in its place."""
    if type(datastore) is not DICOMWebDatastore:
        return datastore
    datastore._observer.stop()
    return DicomWebDatastore(datastore)


def listed_by_value(file: Path, listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the segments that have voxels, in the order of their values.

    Args:
        file: the label map.
        listed: label_info of the request.
    """
    label_map = read_label_map_apart(file)
    values = values_of(label_map.mask)
    exact, entries = bool(label_map.segments), [*(label_map.segments or listed)]
    names = possible_names(values, entries, exact=exact)[0]
    by_name = {entry.get("name"): entry for entry in listed}
    return [
        by_name.get(names[value], {}) | {"name": names[value] or "unknown", "idx": value}
        for value in values
    ]


def _no_answer(error: OSError) -> Refusal:
    """Return what a client is told, without the address of the PACS."""
    logger.warning("The PACS did not answer: %s", type(error).__name__)
    return Refusal(502, f"The PACS did not answer ({type(error).__name__}).")


def _checked_uid(uid: str) -> str:
    if not is_uid(uid):
        raise Refusal(400, f"{uid!r} is not a SeriesInstanceUID.")
    return uid
