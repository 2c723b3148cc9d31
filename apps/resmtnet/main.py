"""The MONAI Label app: `monailabel start_server --app apps/resmtnet --studies DIR`."""

from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.train import TrainTask

from resmtnet.monai_label.dicomweb import keep_dicom, use_installed_dcmqi
from resmtnet.monai_label.infer import SharedCharacterizer, make_tasks
from resmtnet.monai_label.labels import Submissions
from resmtnet.monai_label.refusals import as_refusals
from resmtnet.monai_label.request import checked
from resmtnet.monai_label.restricted_app import RestrictedApp, configure_platform, rules_of
from resmtnet.monai_label.results_app import results_in_pacs
from resmtnet.monai_label.served_model import served_model
from resmtnet.monai_label.settings import ABOUT, AppSettings, is_remote
from resmtnet.monai_label.strategy import make_strategies
from resmtnet.monai_label.studies import studies_datastore
from resmtnet.monai_label.trainer import make_trainers
from resmtnet.monai_label.volume_paths import VolumePaths
from resmtnet.monai_label.warm_up import start_warm_up
from resmtnet.server.guarded_app import GuardedApp
from resmtnet.server.rules import ServerRules


class ResMTNetApp(RestrictedApp, GuardedApp, MONAILabelApp):
    """Class, malignancy score, size and mask of lung nodules, as readers would rate them."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str] | None) -> None:
        settings = AppSettings.from_conf(conf or {})
        configure_platform(settings)
        self.rules = ServerRules(**rules_of(settings, app_dir, studies))
        self.shared = SharedCharacterizer(served_model(app_dir, studies, settings), settings)
        database = settings.database(app_dir, studies)
        self.submissions = Submissions(database, self.datastore, self.shared.open)
        self.inbox = self.submissions.inbox
        self.submissions.listen_to(self.shared)
        super().__init__(app_dir, studies, conf or {}, **ABOUT)
        self.pacs = results_in_pacs(self.datastore(), self.submissions, settings)

    def init_datastore(self) -> Datastore:
        """A studies folder, or (through init_remote_datastore) a PACS."""
        if is_remote(self.studies):
            return super().init_datastore()
        return studies_datastore(self.studies, self.inbox)

    def init_remote_datastore(self) -> Datastore:
        """A PACS over DICOMweb, its series kept as DICOM."""
        use_installed_dcmqi()
        return keep_dicom(super().init_remote_datastore())

    def init_infers(self) -> dict[str, InferTask]:
        """The models, in the order in which viewers list them."""
        return make_tasks(self.shared, neutral_click=is_remote(self.studies))

    def init_trainers(self) -> dict[str, TrainTask]:
        """The trainer, over the readings."""
        return make_trainers(self.shared, self.inbox)

    def init_strategies(self) -> dict[str, Any]:
        """The strategies of "next sample"."""
        return make_strategies(self.inbox, self.shared, self.datastore)

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
