"""The MONAI Label app: `monailabel start_server --app apps/resmtnet --studies DIR`."""

from __future__ import annotations

from typing import Any

from monailabel.config import settings as platform
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask

from resmtnet import Characterizer
from resmtnet.monai_label.datastore import StudiesDatastore, VolumePaths
from resmtnet.monai_label.dicomweb import keep_dicom, use_installed_dcmqi
from resmtnet.monai_label.infer import BatchInfer, SharedCharacterizer, make_tasks
from resmtnet.monai_label.replies import as_refusals
from resmtnet.monai_label.request import check_request
from resmtnet.monai_label.settings import AppSettings


class ResMTNetApp(MONAILabelApp):
    """Class, malignancy score, size and mask of lung nodules, as readers would rate them."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str] | None) -> None:
        settings = AppSettings.from_conf(conf or {})
        # Scoring would run in a process that writes back its own, stale list of labels.
        platform.MONAI_LABEL_AUTO_UPDATE_SCORING = False
        model = Characterizer.load(settings.model_dir, settings.device)
        self.shared = SharedCharacterizer(model, settings)
        super().__init__(
            app_dir,
            studies,
            conf or {},
            name="Res-MTNet",
            description="Lung nodules in chest CT: what radiologists would say, no diagnosis",
            version=f"{model.info.name} {model.info.version}",
        )

    def init_datastore(self) -> Datastore:
        """A studies folder, or (through init_remote_datastore) a PACS."""
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        reload = platform.MONAI_LABEL_DATASTORE_AUTO_RELOAD
        return StudiesDatastore(self.studies, reload, platform.MONAI_LABEL_DATASTORE_READ_ONLY)

    def init_remote_datastore(self) -> Datastore:
        """A PACS over DICOMweb, its series kept as DICOM."""
        use_installed_dcmqi()
        return keep_dicom(super().init_remote_datastore())

    def init_infers(self) -> dict[str, InferTask]:
        """The models, in the order in which viewers list them."""
        return make_tasks(self.shared)

    def init_strategies(self) -> dict[str, Any]:
        """None."""
        return {}

    def init_batch_infer(self) -> BatchInfer:
        """MONAI Label's, made to run without a GPU too."""
        return BatchInfer()

    def on_init_complete(self) -> None:
        """Warms up in the background once the server starts."""
        super().on_init_complete()
        if self.shared.settings.warm_up:
            self.shared.start_warm_up()

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Answers a request; what cannot be answered is refused with the reason in one line."""
        store = datastore or self.datastore()
        with as_refusals():
            check_request(request, self._infers, self._folders())
            answer: dict[str, Any] = super().infer(request, VolumePaths(store))
            return answer

    def _folders(self) -> list[str]:
        studies = getattr(self.datastore(), "_datastore_path", self.studies)
        return [studies] + ([self.sessions().store_path] if self.sessions() else [])
