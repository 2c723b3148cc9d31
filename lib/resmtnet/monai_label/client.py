"""Asks a running app through MONAI Label's own client, as scripts and viewers do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monailabel.client.client import MONAILabelClient, MONAILabelClientException

from resmtnet.errors import ResMTNetError

Json = dict[str, Any]


class AppClient:
    """One server."""

    def __init__(self, url: str, folder: Path) -> None:
        """A client of a server.

        Args:
            url: of the server.
            folder: receives the files of its answers.
        """
        self._client = MONAILabelClient(url, str(folder))

    def models(self) -> dict[str, Json]:
        """What the server says of each of its models."""
        found: dict[str, Json] = self._client.info()["models"]
        return found

    def image_ids(self) -> list[str]:
        """The ids of the images of the studies."""
        return sorted(self._client.datastore()["objects"])

    def infer(
        self,
        model: str,
        image_id: str,
        points_ijk: Sequence[Sequence[int]] = (),
        **parameters: object,
    ) -> tuple[Path, Json]:
        """Ask a model.

        Args:
            model: one of `models`.
            image_id: one of `image_ids`.
            points_ijk: clicks as voxel indices, i first; none: the whole CT.
            parameters: of the model, such as max_candidates.

        Returns:
            The file of the answer, and the findings/1 document.

        Raises:
            ResMTNetError: the server refuses, with its reason.
        """
        asked = {"foreground": [list(point) for point in points_ijk], **parameters}
        try:
            file, document = self._client.infer(model, image_id, asked)
        except MONAILabelClientException as error:
            raise ResMTNetError(f"{model}: {error.msg}") from error
        if isinstance(document, str):
            document = json.loads(document)
        return Path(file), document
