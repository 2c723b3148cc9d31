"""The MONAI Label app: `monailabel start_server --app apps/resmtnet --studies DIR`."""

from typing import Any

from monailabel.config import settings as platform
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.train import TrainTask

from resmtnet.monai_label.datastore import VolumePaths, studies_datastore
from resmtnet.monai_label.dicomweb import keep_dicom, use_installed_dcmqi
from resmtnet.monai_label.infer import BatchInfer, SharedCharacterizer, make_tasks
from resmtnet.monai_label.labels import Submissions
from resmtnet.monai_label.refusals import Refusal, as_refusals
from resmtnet.monai_label.request import checked
from resmtnet.monai_label.request_keys import JSON_ROUTES
from resmtnet.monai_label.served_model import served_model
from resmtnet.monai_label.sessions import CheckedSessions
from resmtnet.monai_label.settings import ABOUT, AppSettings, is_remote
from resmtnet.monai_label.strategy import make_strategies
from resmtnet.monai_label.trainer import NAME as TRAINER
from resmtnet.monai_label.trainer import make_trainers
from resmtnet.monai_label.warm_up import start_warm_up
from resmtnet.server.platform_fixes import guard_platform, mend_platform
from resmtnet.server.rules import ServerRules


class ResMTNetApp(MONAILabelApp):
    """Class, malignancy score, size and mask of lung nodules, as readers would rate them."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str] | None) -> None:
        settings = AppSettings.from_conf(conf or {})
        platform.MONAI_LABEL_AUTO_UPDATE_SCORING = False  # why: see server.launch
        platform.MONAI_LABEL_SESSIONS = settings.sessions
        self.rules = ServerRules(
            hosts=settings.hosts,
            origins=settings.origins,
            upload_bytes=settings.upload_mb * 1_000_000,
            json_keys=JSON_ROUTES,
            trainers=(TRAINER,),
            has_pacs=is_remote(studies),
            has_sessions=settings.sessions,
        )
        self.shared = SharedCharacterizer(served_model(app_dir, studies, settings), settings)
        database = settings.database(app_dir, studies)
        self.submissions = Submissions(database, self.datastore, self.shared.open)
        self.inbox = self.submissions.inbox
        self.shared.on_answer = self.submissions.remember
        super().__init__(app_dir, studies, conf or {}, **ABOUT)

    def init_datastore(self) -> Datastore:
        """A studies folder, or (through init_remote_datastore) a PACS."""
        if is_remote(self.studies):
            return super().init_datastore()
        return studies_datastore(self.studies, lambda: self.inbox.store.images())

    def init_remote_datastore(self) -> Datastore:
        """A PACS over DICOMweb, its series kept as DICOM."""
        use_installed_dcmqi()
        return keep_dicom(super().init_remote_datastore())

    def init_infers(self) -> dict[str, InferTask]:
        """The models, in the order in which viewers list them."""
        return make_tasks(self.shared)

    def init_trainers(self) -> dict[str, TrainTask]:
        """The trainer, over the readings."""
        return make_trainers(self.shared, self.inbox)

    def init_strategies(self) -> dict[str, Any]:
        """The strategies of "next sample"."""
        return make_strategies(self.inbox, self.shared, self.datastore)

    def init_batch_infer(self) -> BatchInfer:
        """MONAI Label's batch inference, which here runs without a GPU too."""
        return BatchInfer()

    def bundle_path(self, model: str) -> str:
        """A folder that holds no client's code, in place of the one that a client names.

        MONAI Label puts it on the search path of a training's process.
        """
        return self.app_dir

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answers which study to read next; 404 for an unknown strategy."""
        if request.get("strategy") not in self._strategies:
            known = ", ".join(self._strategies)
            raise Refusal(404, f"There is no strategy {request.get('strategy')!r}: {known}.")
        return dict(super().next_sample(request))

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> Any:
        """Refuses whole-slide images, for which this app has no model."""
        raise Refusal(404, "This app has no models for whole-slide images.")

    def _load_sessions(self, load: bool = False) -> CheckedSessions | None:
        if not load:
            return None
        return CheckedSessions(
            platform.MONAI_LABEL_SESSION_PATH, platform.MONAI_LABEL_SESSION_EXPIRY
        )

    def server_mode(self, mode: bool) -> None:
        """Puts the checks of requests before MONAI Label's own server when it starts."""
        super().server_mode(mode)
        if mode:
            mend_platform()
            guard_platform(lambda: self.rules)

    def on_init_complete(self) -> None:
        """Warms up in the background; the server answers meanwhile."""
        super().on_init_complete()
        if self.shared.settings.warm_up:
            start_warm_up(self.shared.model)

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Answers a request, or refuses it with the reason in one line."""
        with as_refusals():
            paths = VolumePaths(datastore or self._datastore)
            return dict(super().infer(checked(request, self), paths))

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """Makes readings of a label; the reply says what was understood."""
        return self.submissions.on_save_label(image_id, label_id)
