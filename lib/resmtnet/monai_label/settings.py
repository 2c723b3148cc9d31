"""The settings of the app: `--conf` strings, parsed once into a frozen dataclass."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from resmtnet import __version__
from resmtnet.errors import ConfigError
from resmtnet.monai_label import setting_values as read
from resmtnet.readings.location import database_in

logger = logging.getLogger(__name__)

ABOUT = {
    "name": "Res-MTNet",
    "description": "Lung nodules in chest CT: what radiologists would say, no diagnosis",
    "version": f"resmtnet {__version__}",
}
"""What /info says of the app; the version of the weights is in each answer."""

MODELS = ("resmtnet", "resmtnet_click", "resmtnet_findings")
"""In the order in which they are registered: Slicer's Auto-run takes the first."""

LOGINS = ("auto", "always")

LOG_FORMATS = ("text", "json")

UMASKS = ("077", "027", "007")

OTHER_APPS_KEYS = (
    "auto_update_scoring",
    "click_type",
    "epistemic_enabled",
    "epistemic_samples",
    "heuristic_planner",
    "multi_gpu",
    "preload",
    "server_mode",
    "skip_scoring",
    "skip_strategies",
    "skip_trainers",
    "use_pretrained_model",
)
"""Keys of MONAI Label, its sample apps and older versions of this one: a command line written for
those still starts."""

STORE_RESULTS = ("off", "on_infer", "on_submit")
"""When results are stored in the PACS."""

CANDIDATES_RANGE = (1, 200)
"""Least and greatest number of findings of a whole-CT run that can be asked for."""


def is_remote(studies: str) -> bool:
    """Whether studies are the URL of a DICOMweb service.

    >>> is_remote("http://pacs/dicom-web"), is_remote("studies")
    (True, False)
    """
    return studies.startswith(("http://", "https://"))


@dataclass(frozen=True)
class AppSettings:
    """What `--conf KEY VALUE` of start_server can set; docs/server.md lists the same.

    A field holds everything about its key: default, meaning, and `parse`, which reads its text.
    """

    models: tuple[str, ...] = field(default=MODELS, metadata={"parse": read.some_of(*MODELS)})
    """Models to offer, comma-separated: resmtnet, resmtnet_click, resmtnet_findings."""

    model_dir: Path | None = field(default=None, metadata={"parse": read.folder})
    """Folder with the weights; default: RESMTNET_MODEL_DIR, else the weights that are shipped."""

    device: str | None = field(default=None, metadata={"parse": read.device})
    """cpu, cuda, cuda:N or auto; default: auto, a GPU where there is one."""

    onnx: Path | None = field(default=None, metadata={"parse": read.folder})
    """Folder written by `resmtnet export onnx`: ONNX Runtime runs the networks, on the CPU. A
    version of the model that was not exported there is run by PyTorch."""

    context: str | None = field(
        default=None, metadata={"parse": lambda name, text: read.parse_context(text, name)}
    )
    """Guideline of the answers: screening_baseline, screening_followup (both Lung-RADS v2022),
    incidental (Fleischner 2017) or none. A request can name another."""

    max_candidates: int = field(
        default=10, metadata={"parse": read.whole_number(*CANDIDATES_RANGE)}
    )
    """Greatest number of nodules of a whole-CT run, 1 to 200."""

    candidate_threshold: float | None = field(default=None, metadata={"parse": read.share})
    """Least nodule probability of a candidate that is shown, 0 to 1; default: the model's own.
    A model that does not tell nodules from other places shows all."""

    warm_up: bool = field(default=True, metadata={"parse": read.switch})
    """Run the network once at the start, so that the first click is as fast as the next."""

    ct_cache: int = field(default=3, metadata={"parse": read.whole_number(0, 64)})
    """CTs kept open, 0 to 64; each holds up to 200 MB of decoded slices."""

    readings: Path | None = field(default=None, metadata={"parse": read.database})
    """Database of the readers' corrections; default: resmtnet/readings.sqlite in the studies
    folder, for a PACS in the app folder. Published versions of the model lie beside it."""

    train_after: int = field(default=0, metadata={"parse": read.whole_number(0, 100_000)})
    """Start a training after so many new readings, up to 100000; 0: only when asked."""

    repeat_share: float = field(default=0.0, metadata={"parse": read.share})
    """Share of the studies offered next that the reader has read before, at least 14 days ago, so
    that it can be told how much one reader varies; 0: none."""

    archive: Path | None = field(default=None, metadata={"parse": read.folder})
    """Training archive of the shipped model: training with depth full needs its images."""

    sessions: bool = field(default=False, metadata={"parse": read.switch})
    """Accept images that a viewer uploads for a while (3D Slicer: a volume that is not in the
    studies). Off, because whoever reaches the server could fill its disk."""

    store_results: str = field(
        default=STORE_RESULTS[0], metadata={"parse": read.one_of(*STORE_RESULTS)}
    )
    """off, on_infer (what the model answers to a click) or on_submit (what a reader says): store
    results in the PACS as DICOM SEG and SR. Candidates that nobody has confirmed never are."""

    results_node: str = field(default="", metadata={"parse": read.dicom_node})
    """AET@HOST:PORT: results are sent there by C-STORE; default: to the DICOMweb service."""

    poll_s: int = field(default=60, metadata={"parse": read.whole_number(0, 86_400)})
    """Seconds between two looks for what readers have stored in the PACS beside our results, up
    to 86400; 0: only when asked."""

    hosts: tuple[str, ...] = field(default=(), metadata={"parse": read.hosts})
    """Names under which browsers and clients reach the server, comma-separated, without port, in
    addition to those of this machine (localhost, 127.0.0.1). Another name is refused."""

    origins: tuple[str, ...] = field(default=(), metadata={"parse": read.origins})
    """Web pages of other servers that may use this one, comma-separated, such as
    https://viewer.example:3000. All others are refused."""

    upload_mb: int = field(default=2048, metadata={"parse": read.whole_number(1, 65_536)})
    """Greatest size of an upload, MB, 1 to 65536."""

    upload_days: int = field(default=0, metadata={"parse": read.whole_number(0, 36_500)})
    """Days after which an image that a client has uploaded is deleted, if nobody has read or
    labelled it; 0: never."""

    cache_days: int = field(default=30, metadata={"parse": read.whole_number(0, 36_500)})
    """Days after which a CT that was not used is deleted from the caches (decompressed CTs,
    downloads, series of the PACS); 0: never."""

    pacs_cache_gb: int = field(default=100, metadata={"parse": read.whole_number(1, 1_000_000)})
    """Greatest size of the cache of series of the PACS, GB; those not used for longest go first."""

    umask: str = field(default=UMASKS[0], metadata={"parse": read.one_of(*UMASKS)})
    """Permissions that no file of the server has: 077: only its user can read them; 027: its
    group as well; 007: and write."""

    login: str = field(default=LOGINS[0], metadata={"parse": read.one_of(*LOGINS)})
    """Who needs a token: auto: clients of other machines, and all where a token, a token file,
    hosts or a proxy were named; always: programs of this machine as well."""

    token_file: Path | None = field(default=None, metadata={"parse": read.file})
    """File with the tokens, made if there is none; default: RESMTNET_TOKEN, else
    RESMTNET_TOKEN_FILE, else resmtnet/tokens in the user's configuration folder."""

    behind_proxy: bool = field(default=False, metadata={"parse": read.switch})
    """A proxy or tunnel brings the requests of other machines, and encrypts: all need a token."""

    insecure: bool = field(default=False, metadata={"parse": read.switch})
    """Let other machines ask without encryption: whoever is on the network can read along."""

    log_format: str = field(default=LOG_FORMATS[0], metadata={"parse": read.one_of(*LOG_FORMATS)})
    """Lines of the log: text, or json for programs that collect logs."""

    def database(self, app_dir: str | Path, studies: str) -> Path:
        """Return the path of the readings database.

        Args:
            app_dir: folder of the app.
            studies: a folder, or the URL of a DICOMweb service.

        >>> AppSettings().database("app", "http://pacs/dicom-web").as_posix()
        'app/resmtnet/readings.sqlite'
        """
        return self.readings or database_in(Path(app_dir if is_remote(studies) else studies))

    @classmethod
    def from_conf(cls, conf: Mapping[str, str]) -> AppSettings:
        """Parse the strings of `--conf`.

        Args:
            conf: key to value, as MONAI Label hands them to the app.

        Raises:
            ConfigError: an unknown key or an impossible value.

        >>> AppSettings.from_conf({"models": "resmtnet_click", "warm_up": "false"}).models
        ('resmtnet_click',)
        """
        parsers = {key.name: key.metadata["parse"] for key in fields(cls)}
        ignored = sorted(set(conf) & set(OTHER_APPS_KEYS) - {"server_mode"})
        unknown = sorted(set(conf) - set(OTHER_APPS_KEYS) - set(parsers))
        if unknown:
            raise ConfigError(f"Unknown --conf key {unknown[0]!r}. Allowed: {', '.join(parsers)}.")
        if ignored:
            logger.warning("--conf %s is not used by this app and was ignored", ", ".join(ignored))
        return cls(
            **{
                key: parse(f"--conf {key}", str(conf[key]).strip())
                for key, parse in parsers.items()
                if key in conf
            }
        )
