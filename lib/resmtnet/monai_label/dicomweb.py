"""A PACS over DICOMweb: MONAI Label's datastore, which here keeps DICOM as it is.

A click then decodes the slices it needs; MONAI Label would convert the whole series first.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
import time
from pathlib import Path
from threading import Lock
from typing import Any

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.datastore.utils.dicom import dicom_web_download_series
from monailabel.interfaces.datastore import Datastore

from resmtnet.ct import CTVolume
from resmtnet.ct.dicom_header import is_uid
from resmtnet.errors import InputError
from resmtnet.monai_label.datastore import checked_tag
from resmtnet.monai_label.replies import Refusal
from resmtnet.monai_label.writers import write_ct


def use_installed_dcmqi() -> None:
    """Puts dcmqi's tools on PATH: MONAI Label downloads them at each start where they are not."""
    scripts = sysconfig.get_path("scripts")
    if scripts not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), scripts])


class DicomWebDatastore(DICOMWebDatastore):  # type: ignore[misc]
    """Series of a PACS, downloaded as DICOM when they are needed; the id is the series UID."""

    def __init__(self, stock: DICOMWebDatastore) -> None:
        """Takes over from the datastore that MONAI Label has made from its own settings.

        Args:
            stock: its client, search filter and cache folder are used.
        """
        self._download_lock = Lock()
        super().__init__(
            client=stock._client,
            search_filter=stock._search_filter,
            cache_path=os.path.dirname(stock._datastore_path),
            fetch_by_frame=stock._fetch_by_frame,
            convert_to_nifti=False,
        )

    def volume_path(self, image_id: str) -> str:
        """The folder of a series, downloaded first if it is not there.

        Raises:
            Refusal: 400 if the id is no UID, 404 if the PACS has no such series, 502 if it does
                not answer.
        """
        folder = Path(self._datastore.image_path(), _checked_uid(image_id)).resolve()
        with self._download_lock:
            if not folder.is_dir():
                self._download(image_id, folder)
        return str(folder)

    def get_image_uri(self, image_id: str) -> str:
        """One NRRD with the whole series, made once; the DICOM folder lies beside it."""
        folder = Path(self.volume_path(image_id))
        target = folder.with_name(f"{folder.name}.nrrd")
        if not target.is_file():
            try:
                write_ct(CTVolume.open(folder), target)
            except InputError as error:
                raise Refusal(400, str(error)) from error
        if image_id not in self._datastore.objects:
            info = self._dicom_info(image_id) | {"ts": int(time.time()), "name": target.name}
            self._datastore.objects[image_id] = ImageLabelModel(
                image=DataModel(info=info, ext=".nrrd")
            )
            self._update_datastore_file()
        return str(target)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What the PACS says of a series; name and path are those of the file to download."""
        self.get_image_uri(image_id)
        info: dict[str, Any] = super().get_image_info(image_id)
        return info

    def save_label(
        self,
        image_id: str,
        label_filename: str,
        label_tag: str,
        label_info: dict[str, Any],
        label_id: str = "",
    ) -> str:
        """Stores a label; with the tag "final" also in the PACS, as a DICOM SEG."""
        _checked_uid(image_id)
        tag = checked_tag(str(getattr(label_tag, "value", label_tag)))
        saved: str = super().save_label(image_id, label_filename, tag, label_info, label_id)
        return saved

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """The file of a label that was saved here; a SEG of the PACS is downloaded for training."""
        tag = checked_tag(str(getattr(label_tag, "value", label_tag)))
        if label_id in self._datastore.objects:
            # DICOMWebDatastore would ask the PACS for a series of the same UID as the image.
            local: str = LocalDatastore.get_label_uri(self, label_id, tag)
            return local
        uri: str = super().get_label_uri(_checked_uid(label_id), tag, image_id)
        return uri

    def _download(self, image_id: str, folder: Path) -> None:
        """Downloads beside the folder, so that it exists only when it is complete."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = tempfile.mkdtemp(dir=folder.parent, prefix=".download-")
        try:
            dicom_web_download_series(None, image_id, partial, self._client, self._fetch_by_frame)
            os.replace(partial, folder)
        except IndexError as error:
            raise Refusal(404, f"The PACS has no series {image_id}.") from error
        except OSError as error:
            raise Refusal(502, f"{self._client.base_url} did not answer: {error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def keep_dicom(datastore: Datastore) -> Datastore:
    """The datastore that MONAI Label made, or the one that keeps DICOM in place of its own."""
    if type(datastore) is not DICOMWebDatastore:
        return datastore
    datastore._observer.stop()
    return DicomWebDatastore(datastore)


def _checked_uid(uid: str) -> str:
    if not is_uid(uid):
        raise Refusal(400, f"{uid!r} is not a SeriesInstanceUID.")
    return uid
