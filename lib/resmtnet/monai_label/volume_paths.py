"""A datastore as inference and training see it: the paths of its CTs."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from resmtnet.monai_label.refusals import Refusal


class VolumePaths:
    """A datastore as inference and scoring see it: paths that `CTVolume.open` takes.

    `get_image_uri` of the datastore itself is a file for download, which may have to be made first.
    """

    def __init__(self, datastore: Datastore) -> None:
        """Wrap a datastore.

        Args:
            datastore: of any kind; its `volume_path` and `content_key` are used if it has them.
        """
        self._datastore = datastore

    def get_image_uri(self, image_id: str) -> str:
        """Return the path of an image, downloaded first from a PACS.

        Raises:
            Refusal: 404 for an unknown image.
        """
        find = getattr(self._datastore, "volume_path", self._datastore.get_image_uri)
        path = find(image_id)
        if not path:
            raise Refusal(404, f"There is no image {image_id!r}; /datastore lists them.")
        return str(path)

    def content_key(self, image_id: str) -> str | None:
        """Return a key that changes when the image is replaced under its id.

        None: the image is not on this machine. A datastore that cannot tell gives the same key for
        every content.
        """
        find = getattr(self._datastore, "content_key", lambda image_id: "")
        try:
            key = find(image_id)
        except HTTPException:  # the id is none
            return None
        return None if key is None else str(key)

    def save_label(self, *arguments: Any) -> Any:
        """Store a label in the datastore."""
        return self._datastore.save_label(*arguments)
