"""Where this app differs from MONAI Label's: what is refused or confined, and what is set."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from monailabel.config import settings as platform

from resmtnet.ct.cache import cache_folder
from resmtnet.errors import ResMTNetError
from resmtnet.monai_label.infer import BatchInfer
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.request import client_of
from resmtnet.monai_label.request_keys import JSON_ROUTES
from resmtnet.monai_label.retention import start_sweeping
from resmtnet.monai_label.sessions import CheckedSessions
from resmtnet.monai_label.settings import AppSettings, is_remote
from resmtnet.monai_label.trainer import NAME as TRAINER
from resmtnet.readings.inbox import Inbox

CHECKOUT = Path(__file__).resolve().parents[2]
"""Folder that holds the package."""


class RestrictedApp:
    """A mixin beside MONAILabelApp: no code of a client, known strategies, confined sessions."""

    app_dir: str
    inbox: Inbox
    _strategies: dict[str, Any]

    def server_mode(self, mode: bool) -> None:
        """Delete old files from the caches while the server runs."""
        parent: Any = super()
        parent.server_mode(mode)
        if mode:
            start_sweeping(self)

    def init_batch_infer(self) -> BatchInfer:
        """Return MONAI Label's batch inference, which here runs without a GPU too."""
        return BatchInfer()

    def bundle_path(self, model: str) -> str:
        """Return a folder that holds no client's code, in place of the one that a client names.

        MONAI Label puts it on the search path of a training's process.
        """
        return self.app_dir

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer which study to read next; 404 for an unknown strategy."""
        if request.get("strategy") not in self._strategies:
            known = ", ".join(self._strategies)
            raise Refusal(404, f"There is no strategy {request.get('strategy')!r}: {known}.")
        parent: Any = super()
        sample = dict(parent.next_sample(request))
        offered = getattr(parent.datastore(), "offered", lambda image, client: None)
        offered(str(sample.get("id")), client_of(request))
        return sample

    def info(self) -> dict[str, Any]:
        """Return what MONAI Label tells of the app; studies with a reading count as completed."""
        parent: Any = super()
        told: dict[str, Any] = parent.info()
        datastore = parent.datastore()
        with suppress(ResMTNetError):  # the readings database cannot be opened: labels count
            done = self.inbox.store.images() | set(datastore.get_labeled_images())
            told["datastore"]["completed"] = len(done & set(datastore.list_images()))
        return told

    def infer_wsi(self, request: dict[str, Any], datastore: object = None) -> Any:
        """Refuse whole-slide images, for which this app has no model."""
        raise Refusal(404, "This app has no models for whole-slide images.")

    def _load_sessions(self, load: bool = False) -> CheckedSessions | None:
        if not load:
            return None
        return CheckedSessions(
            platform.MONAI_LABEL_SESSION_PATH, platform.MONAI_LABEL_SESSION_EXPIRY
        )


def configure_platform(settings: AppSettings) -> None:
    """Set what MONAI Label reads from its own settings."""
    os.umask(int(settings.umask, 8))
    logging.getLogger("monailabel.datastore").setLevel(logging.WARNING)  # it tells file names
    platform.MONAI_LABEL_AUTO_UPDATE_SCORING = False  # why: see server.launch
    platform.MONAI_LABEL_SESSIONS = settings.sessions
    _stop_telemetry()


def _stop_telemetry() -> None:
    """Keep MLflow, which MONAI loads, from telling its makers that and how it is used."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    client = sys.modules.get("mlflow.telemetry.client")
    if client is not None:
        client.set_telemetry_client()  # which now makes none, and forgets the one there is


def private_folders(settings: AppSettings, app_dir: str, studies: str) -> list[Path]:
    """Return the folders whose paths no client needs to know."""
    found = [Path(app_dir), settings.database(app_dir, studies).parent, cache_folder()]
    found += [Path.home(), Path(tempfile.gettempdir()), Path(sys.prefix), CHECKOUT]
    found += [path for path in (settings.model_dir, settings.archive) if path is not None]
    return found if is_remote(studies) else [Path(studies), *found]


def rules_of(settings: AppSettings, app_dir: str, studies: str) -> dict[str, Any]:
    """Return the fields of `resmtnet.server.rules.ServerRules` for an app of these studies."""
    return {
        "hosts": settings.hosts,
        "origins": settings.origins,
        "login": settings.login,
        "behind_proxy": settings.behind_proxy,
        "insecure": settings.insecure,
        "upload_bytes": settings.upload_mb * 1_000_000,
        "json_keys": JSON_ROUTES,
        "trainers": (TRAINER,),
        "has_pacs": is_remote(studies),
        "has_sessions": settings.sessions,
        "private_folders": tuple(map(str, private_folders(settings, app_dir, studies))),
    }
