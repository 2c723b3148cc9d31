"""A client of a running app, over MONAI Label's own client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from monailabel.client.client import MONAILabelClient, MONAILabelClientException

from resmtnet.errors import ResMTNetError
from resmtnet.types import Json

TRAINER = "resmtnet"
_UNDER_WAY = ("SUBMITTED", "RUNNING")
_PATIENCE_S = 120.0


class AppClient:
    """Sends requests to one server in the name of one reader."""

    def __init__(self, url: str, folder: Path, reader: str | None = None) -> None:
        """Connect to a server.

        Args:
            url: address of the server.
            folder: where the files of its answers are stored.
            reader: sent as client_id; None: no name.
        """
        self._client = MONAILabelClient(url, str(folder), reader)

    def models(self) -> dict[str, Json]:
        """Return what the server says about each of its models."""
        found: dict[str, Json] = self._client.info()["models"]
        return found

    def image_ids(self) -> list[str]:
        """Return the ids of the images."""
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
        with _refusals(model):
            file, document = self._client.infer(model, image_id, asked)
        if isinstance(document, str):
            document = json.loads(document)
        return Path(file), document

    def save_label(self, image_id: str, file: Path, **parameters: object) -> Json:
        """Submit a label, as the viewers do; returns what was understood (docs/readings.md).

        Args:
            image_id: one of `image_ids`.
            file: a mask, Slicer Markups or a JSON label.
            parameters: such as label_info.

        Raises:
            ResMTNetError: the server refuses, with its reason.
        """
        with _refusals("label"):
            reply: Json = self._client.save_label(image_id, str(file), params=parameters)
        return reply

    def post_reading(self, document: Json) -> Json:
        """Send one reading, schema resmtnet.reading/1; returns what was understood.

        Raises:
            ResMTNetError: the server refuses, with its reason.
        """
        return self._ask("/resmtnet/readings", document)

    def versions(self) -> list[Json]:
        """Return the versions of the model, the oldest first."""
        found: list[Json] = self._ask("/resmtnet/versions")["versions"]
        return found

    def next_study(self, strategy: str) -> Json:
        """Return the study that a strategy offers; empty if there is none.

        Raises:
            ResMTNetError: the server refuses, with its reason.
        """
        with _refusals(strategy):
            offer: Json = self._client.next_sample(strategy, {})
        return offer

    def start_training(self, **options: object) -> None:
        """Start a training.

        Args:
            options: rows of the trainer's form.

        Raises:
            ResMTNetError: the server refuses, with its reason.
        """
        with _refusals("training"):
            self._client.train_start(TRAINER, options)

    def is_training(self) -> bool:
        """Whether the training that was started last still runs."""
        with _refusals("training"):
            return self._client.train_status()["status"] in _UNDER_WAY

    def train_stats(self) -> Json:
        """Return the state of the current or last training."""
        found: Json = self._client.info()["train_stats"][TRAINER]
        return found

    def _ask(self, path: str, document: Json | None = None) -> Json:
        """Call one of our own routes, which MONAI Label's client does not know."""
        request = urllib.request.Request(
            self._client.get_server_url() + path,
            None if document is None else json.dumps(document).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as reply:
                found: Json = json.loads(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                raise ResMTNetError(f"{path}: {error.read().decode()}") from error
        return found


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    try:
        yield
    except MONAILabelClientException as error:
        raise ResMTNetError(f"{what}: {error.msg}") from error
