"""The settings of the app: `--conf` strings, parsed once into a frozen dataclass."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from resmtnet import __version__
from resmtnet.errors import ConfigError
from resmtnet.guidelines import check_context
from resmtnet.inference.device import check_device
from resmtnet.monai_label.dicom_node import DicomNode
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

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\]")
_ORIGIN = re.compile(rf"https?://({_HOST.pattern})(:[0-9]{{1,5}})?")

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


def parse_context(value: object, name: str) -> str | None:
    """Return the guideline context that a setting or a request names.

    Args:
        value: one of CONTEXTS; None, "" or "none" for no guideline.
        name: of the setting or the field, for the message.

    Raises:
        ConfigError: it is something else.

    >>> parse_context("incidental", "context"), parse_context("none", "context")
    ('incidental', None)
    """
    if value in (None, "", "none"):
        return None
    return check_context(str(value), name)


def parse_count(value: object, name: str, least: int, most: int) -> int:
    """Return a whole number that a setting or a request gives, as a number or as text.

    Raises:
        ConfigError: it is no whole number, or out of its range.

    >>> parse_count("7", "max_candidates", 1, 200)
    7
    """
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise ConfigError(f"{name} {value!r}: a whole number from {least} to {most} is needed.")
    return number


def _models(name: str, text: str) -> tuple[str, ...]:
    names = [one.strip() for one in text.split(",") if one.strip()]
    if names == ["all"]:
        return MODELS
    wrong = sorted(set(names) - set(MODELS))
    if wrong or not names:
        raise ConfigError(f"{name} {text!r}: allowed are {', '.join(MODELS)} or all.")
    return tuple(one for one in MODELS if one in names)


def _folder(name: str, text: str) -> Path | None:
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_dir():
        raise ConfigError(f"{name} {text!r}: there is no such folder.")
    return path


def _database(name: str, text: str) -> Path | None:
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if path.is_dir() or path.suffix not in (".sqlite", ".db"):
        raise ConfigError(
            f"{name} {text!r}: a file ending in .sqlite is needed; it is created if it does not "
            "exist."
        )
    return path


def _device(name: str, text: str) -> str | None:
    if not text or text.lower() == "auto":
        return None
    return check_device(text, name)


def _context(name: str, text: str) -> str | None:
    return parse_context(text, name)


def _whole_number(least: int, most: int) -> Callable[[str, str], int]:
    return lambda name, text: parse_count(text, name, least, most)


def _share(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} {text!r}: a number from 0 to 1 is needed.")
    return value


def _switch(name: str, text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise ConfigError(f"{name} {text!r}: allowed are true and false.")
    return values[text.lower()]


def _store_results(name: str, text: str) -> str:
    if text not in STORE_RESULTS:
        raise ConfigError(f"{name} {text!r}: allowed are {', '.join(STORE_RESULTS)}.")
    return text


def _results_node(name: str, text: str) -> str:
    if text:
        DicomNode.parse(text, name)
    return text


def _hosts(name: str, text: str) -> tuple[str, ...]:
    hosts = _listed(text.lower())
    wrong = [host for host in hosts if not _HOST.fullmatch(host)]
    if wrong:
        raise ConfigError(f"{name} {wrong[0]!r}: host names without port are needed.")
    return hosts


def _origins(name: str, text: str) -> tuple[str, ...]:
    origins = _listed(text.lower().replace("/,", ",").removesuffix("/"))
    wrong = [origin for origin in origins if not _ORIGIN.fullmatch(origin)]
    if wrong:
        raise ConfigError(
            f"{name} {wrong[0]!r}: http:// or https:// and a host, with its port if it is not the "
            "usual one, are needed."
        )
    return origins


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _one_of(*allowed: str) -> Callable[[str, str], str]:
    def parse(name: str, text: str) -> str:
        if text not in allowed:
            raise ConfigError(f"{name} {text!r}: allowed are {' and '.join(allowed)}.")
        return text

    return parse


def _file(name: str, text: str) -> Path | None:
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        raise ConfigError(f"{name} {text!r}: this is a folder; a file is needed.")
    return path


@dataclass(frozen=True)
class AppSettings:
    """What `--conf KEY VALUE` of start_server can set; docs/server.md lists the same.

    A field holds everything about its key: default, meaning, and `parse`, which reads its text.
    """

    models: tuple[str, ...] = field(default=MODELS, metadata={"parse": _models})
    """Models to offer, comma-separated: resmtnet, resmtnet_click, resmtnet_findings."""

    model_dir: Path | None = field(default=None, metadata={"parse": _folder})
    """Folder with the weights; default: RESMTNET_MODEL_DIR, else the weights that are shipped."""

    device: str | None = field(default=None, metadata={"parse": _device})
    """cpu, cuda, cuda:N or auto; default: auto, a GPU where there is one."""

    onnx: Path | None = field(default=None, metadata={"parse": _folder})
    """Folder written by `resmtnet export onnx`: ONNX Runtime runs the networks, on the CPU. A
    version of the model that was not exported there is run by PyTorch."""

    context: str | None = field(default=None, metadata={"parse": _context})
    """Guideline of the answers: screening_baseline, screening_followup (both Lung-RADS v2022),
    incidental (Fleischner 2017) or none. A request can name another."""

    max_candidates: int = field(default=10, metadata={"parse": _whole_number(*CANDIDATES_RANGE)})
    """Greatest number of nodules of a whole-CT run, 1 to 200."""

    candidate_threshold: float | None = field(default=None, metadata={"parse": _share})
    """Least nodule probability of a candidate that is shown, 0 to 1; default: the model's own.
    A model that does not tell nodules from other places shows all."""

    warm_up: bool = field(default=True, metadata={"parse": _switch})
    """Run the network once at the start, so that the first click is as fast as the next."""

    ct_cache: int = field(default=3, metadata={"parse": _whole_number(0, 64)})
    """CTs kept open, 0 to 64; each holds up to 200 MB of decoded slices."""

    readings: Path | None = field(default=None, metadata={"parse": _database})
    """Database of the readers' corrections; default: resmtnet/readings.sqlite in the studies
    folder, for a PACS in the app folder. Published versions of the model lie beside it."""

    train_after: int = field(default=0, metadata={"parse": _whole_number(0, 100_000)})
    """Start a training after so many new readings, up to 100000; 0: only when asked."""

    repeat_share: float = field(default=0.0, metadata={"parse": _share})
    """Share of the studies offered next that the reader has read before, at least 14 days ago, so
    that it can be told how much one reader varies; 0: none."""

    archive: Path | None = field(default=None, metadata={"parse": _folder})
    """Training archive of the shipped model: training with depth full needs its images."""

    sessions: bool = field(default=False, metadata={"parse": _switch})
    """Accept images that a viewer uploads for a while (3D Slicer: a volume that is not in the
    studies). Off, because whoever reaches the server could fill its disk."""

    store_results: str = field(default=STORE_RESULTS[0], metadata={"parse": _store_results})
    """off, on_infer (what the model answers to a click) or on_submit (what a reader says): store
    results in the PACS as DICOM SEG and SR. Candidates that nobody has confirmed never are."""

    results_node: str = field(default="", metadata={"parse": _results_node})
    """AET@HOST:PORT: results are sent there by C-STORE; default: to the DICOMweb service."""

    poll_s: int = field(default=60, metadata={"parse": _whole_number(0, 86_400)})
    """Seconds between two looks for what readers have stored in the PACS beside our results, up
    to 86400; 0: only when asked."""

    hosts: tuple[str, ...] = field(default=(), metadata={"parse": _hosts})
    """Names under which browsers and clients reach the server, comma-separated, without port, in
    addition to those of this machine (localhost, 127.0.0.1). Another name is refused."""

    origins: tuple[str, ...] = field(default=(), metadata={"parse": _origins})
    """Web pages of other servers that may use this one, comma-separated, such as
    https://viewer.example:3000. All others are refused."""

    upload_mb: int = field(default=2048, metadata={"parse": _whole_number(1, 65_536)})
    """Greatest size of an upload, MB, 1 to 65536."""

    login: str = field(default=LOGINS[0], metadata={"parse": _one_of(*LOGINS)})
    """Who needs a token: auto: clients of other machines, and all where a token, a token file,
    hosts or a proxy were named; always: programs of this machine as well."""

    token_file: Path | None = field(default=None, metadata={"parse": _file})
    """File with the tokens, made if there is none; default: RESMTNET_TOKEN, else
    RESMTNET_TOKEN_FILE, else resmtnet/tokens in the user's configuration folder."""

    behind_proxy: bool = field(default=False, metadata={"parse": _switch})
    """A proxy or tunnel brings the requests of other machines, and encrypts: all need a token."""

    insecure: bool = field(default=False, metadata={"parse": _switch})
    """Let other machines ask without encryption: whoever is on the network can read along."""

    log_format: str = field(default=LOG_FORMATS[0], metadata={"parse": _one_of(*LOG_FORMATS)})
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
