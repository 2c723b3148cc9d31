"""The `--conf` strings of the app, parsed once into a frozen dataclass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from resmtnet import __version__
from resmtnet.errors import ConfigError
from resmtnet.guidelines import check_context
from resmtnet.inference.device import check_device
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

CLICK_TYPES = ("deepgrow", "deepedit")

OTHER_APPS_KEYS = (
    "auto_update_scoring",
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
"""Keys of MONAI Label and its sample apps: a command line written for those still starts."""


@dataclass(frozen=True)
class AppSettings:
    """What `--conf KEY VALUE` of start_server can set; docs/server.md lists the same."""

    models: tuple[str, ...] = MODELS
    """Models to offer, comma-separated: resmtnet, resmtnet_click, resmtnet_findings."""

    model_dir: Path | None = None
    """Folder with the weights; default: RESMTNET_MODEL_DIR, else the weights that are shipped."""

    device: str | None = None
    """cpu, cuda or cuda:N; default: cuda where there is one."""

    context: str | None = None
    """Guideline of the answers: screening_baseline, screening_followup (both Lung-RADS v2022),
    incidental (Fleischner 2017) or none. A request can name another."""

    max_candidates: int = 10
    """Most nodules of a whole-CT run, 1 to 200."""

    warm_up: bool = True
    """Run the network once at the start, so that the first click is as fast as the next."""

    ct_cache: int = 3
    """CTs kept open, 0 to 64; each holds up to 200 MB of decoded slices."""

    click_type: str = "deepgrow"
    """Type that resmtnet_click announces, deepgrow or deepedit. For 3D Slicer, deepedit puts each
    mask into the segment of its class; deepgrow shows in the selected segment what is benign."""

    readings: Path | None = None
    """Database of the readers' corrections; default: resmtnet/readings.sqlite in the studies
    folder, for a PACS in the app folder. Published versions of the model lie beside it."""

    train_after: int = 0
    """Train by itself after so many new readings, up to 100000; 0: only when asked."""

    archive: Path | None = None
    """Training archive of the shipped model: training with depth full needs its images."""

    def database(self, app_dir: str | Path, studies: str) -> Path:
        """Where the readings lie.

        Args:
            app_dir: folder of the app.
            studies: a folder, or the URL of a DICOMweb service.

        >>> AppSettings().database("app", "http://pacs/dicom-web").as_posix()
        'app/resmtnet/readings.sqlite'
        """
        return self.readings or database_in(Path(app_dir if is_remote(studies) else studies))

    @classmethod
    def from_conf(cls, conf: Mapping[str, str]) -> AppSettings:
        """Parses the strings of `--conf`.

        Args:
            conf: key to value, as MONAI Label hands them to the app.

        Raises:
            ConfigError: an unknown key or an impossible value.

        >>> AppSettings.from_conf({"models": "resmtnet_click", "warm_up": "false"}).models
        ('resmtnet_click',)
        """
        valid = tuple(field.name for field in fields(cls))
        ignored = sorted(set(conf) & set(OTHER_APPS_KEYS) - {"server_mode"})
        unknown = sorted(set(conf) - set(OTHER_APPS_KEYS) - set(valid))
        if unknown:
            raise ConfigError(f"Unknown --conf key {unknown[0]!r}. Allowed: {', '.join(valid)}.")
        if ignored:
            logger.warning("--conf %s has no meaning in this app: ignored", ", ".join(ignored))
        parsed = {key: _PARSERS[key](key, str(conf[key]).strip()) for key in valid if key in conf}
        return cls(**parsed)


def is_remote(studies: str) -> bool:
    """Whether studies are those of a DICOMweb service.

    >>> is_remote("http://pacs/dicom-web"), is_remote("studies")
    (True, False)
    """
    return studies.startswith(("http://", "https://"))


def _models(key: str, text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return MODELS
    wrong = sorted(set(names) - set(MODELS))
    if wrong or not names:
        raise ConfigError(f"--conf {key} {text!r}: allowed are {', '.join(MODELS)} or all.")
    return tuple(name for name in MODELS if name in names)


def _folder(key: str, text: str) -> Path | None:
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_dir():
        raise ConfigError(f"--conf {key} {text!r}: there is no such folder; give one with weights.")
    return path


def _database(key: str, text: str) -> Path | None:
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if path.is_dir() or path.suffix not in (".sqlite", ".db"):
        raise ConfigError(
            f"--conf {key} {text!r}: a file ending in .sqlite is needed; it is made where there "
            "is none."
        )
    return path


def _device(key: str, text: str) -> str | None:
    if not text or text.lower() == "auto":
        return None
    return check_device(text, f"--conf {key}")


def _context(key: str, text: str) -> str | None:
    return parse_context(text, f"--conf {key}")


def parse_context(value: object, name: str) -> str | None:
    """The guideline context that a setting or a request names.

    Args:
        value: one of CONTEXTS; None, "" or "none" for no guideline.
        name: what is parsed, for the message.

    Raises:
        ConfigError: it is something else.

    >>> parse_context("incidental", "context"), parse_context("none", "context")
    ('incidental', None)
    """
    if value in (None, "", "none"):
        return None
    return check_context(str(value), name)


def parse_count(value: object, name: str, least: int, most: int) -> int:
    """A whole number that a setting or a request gives, as a number or as text.

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


def _switch(key: str, text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise ConfigError(f"--conf {key} {text!r}: allowed are true and false.")
    return values[text.lower()]


def _click_type(key: str, text: str) -> str:
    if text not in CLICK_TYPES:
        raise ConfigError(f"--conf {key} {text!r}: allowed are {' and '.join(CLICK_TYPES)}.")
    return text


MOST_CANDIDATES = 200

_PARSERS: dict[str, Callable[[str, str], Any]] = {
    "models": _models,
    "model_dir": _folder,
    "device": _device,
    "context": _context,
    "max_candidates": lambda key, text: parse_count(text, f"--conf {key}", 1, MOST_CANDIDATES),
    "warm_up": _switch,
    "ct_cache": lambda key, text: parse_count(text, f"--conf {key}", 0, 64),
    "click_type": _click_type,
    "readings": _database,
    "train_after": lambda key, text: parse_count(text, f"--conf {key}", 0, 100_000),
    "archive": _folder,
}
