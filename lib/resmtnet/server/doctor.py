"""What is installed and works on this machine: one page for a mail to whoever helps."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sqlite3
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from resmtnet import __version__
from resmtnet.ct.cache import cache_folder
from resmtnet.ct.image_file import image_suffix
from resmtnet.errors import ResMTNetError
from resmtnet.readings.location import database_in
from resmtnet.server.launch import default_app_dir
from resmtnet.server.tokens import default_file

PACKAGES = ("torch", "monai", "monailabel", "pydicom", "itk", "numpy", "highdicom", "fastapi")
GOOD, POOR, BAD = "ok", "note", "problem"
LEAST_FREE_GB = 2.0
_PACS_S = 5.0


@dataclass(frozen=True)
class Check:
    """One line of the page."""

    name: str
    state: str
    """ok, note or problem."""
    told: str


def examine(studies: str, port: int, model: Path | None = None) -> list[Check]:
    """Look at everything that a server of these studies needs; nothing is changed.

    Args:
        studies: a folder, or the URL of a DICOMweb service.
        port: that the server would listen on.
        model: folder of the weights; None: the default one.
    """
    remote = studies.startswith(("http://", "https://"))
    looks: list[tuple[str, Callable[[], tuple[str, str]]]] = [
        ("resmtnet", lambda: (GOOD, f"{__version__}, Python {platform.python_version()}")),
        ("system", lambda: (GOOD, f"{platform.platform()}, {os.cpu_count()} cores")),
        ("packages", _packages),
        ("device", _device),
        ("model", lambda: _model(model, database_in(_home(studies, remote)))),
        ("studies", (lambda: _pacs(studies)) if remote else (lambda: _studies(Path(studies)))),
        ("readings", lambda: _readings(_home(studies, remote))),
        ("disk", lambda: _disk(_home(studies, remote))),
        ("cache", lambda: _disk(cache_folder())),
        ("tokens", _tokens),
        ("port", lambda: _port(port)),
    ]
    found = []
    for name, look in looks:
        try:
            state, told = look()
        except Exception as error:  # told as what it is
            state, told = BAD, f"{type(error).__name__}: {' '.join(str(error).split())}"
        found.append(Check(name, state, told))
    return found


def _home(studies: str, remote: bool) -> Path:
    return default_app_dir() if remote else Path(studies).expanduser()


def _packages() -> tuple[str, str]:
    told, missing = [], []
    for name in PACKAGES:
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if sys.version_info[:2] not in ((3, 10), (3, 11)):
        return BAD, "Python 3.10 or 3.11 is needed"
    if missing:
        return BAD, f"missing: {', '.join(missing)}; do: pip install -r requirements.txt"
    return GOOD, ", ".join(told)


def _device() -> tuple[str, str]:
    import torch

    count = torch.cuda.device_count()
    if not count:
        return GOOD, f"CPU, {torch.get_num_threads()} threads; PyTorch finds no GPU"
    gpus = [torch.cuda.get_device_properties(n) for n in range(count)]
    free = [torch.cuda.mem_get_info(n)[0] for n in range(count)]
    return GOOD, "; ".join(
        f"{gpu.name}, {left / 1e9:.1f} of {gpu.total_memory / 1e9:.1f} GB free"
        for gpu, left in zip(gpus, free, strict=True)
    )


def _model(folder: Path | None, database: Path) -> tuple[str, str]:
    from resmtnet.inference.model_folder import default_model_dir, read_model
    from resmtnet.retraining.registry import ModelRegistry

    shipped = folder or default_model_dir()
    info = read_model(shipped).info
    served = ModelRegistry.beside(database, shipped).served()
    told = f"{info.name} {info.version}, {info.sha256[:12]}, is whole; served: {served.name}"
    return (POOR, f"{told}; {served.warning}") if served.warning else (GOOD, told)


def _studies(folder: Path) -> tuple[str, str]:
    folder = folder.expanduser()
    if not folder.is_dir():
        return BAD, f"there is no folder {folder}"
    if not os.access(folder, os.R_OK | os.X_OK):
        return BAD, f"{folder} cannot be read"
    entries = sum(not path.name.startswith(".") for path in folder.iterdir())
    writable = os.access(folder, os.W_OK)
    told = f"{folder}, {entries} entries"
    twice = _of_one_id(folder)
    if twice:
        return (
            POOR,
            f"{told}; of {', '.join(twice)} only one file each is listed: rename the others",
        )
    advice = "; read-only: name a database elsewhere with --conf readings=FILE"
    return (GOOD, told) if writable else (POOR, told + advice)


def _of_one_id(folder: Path) -> list[str]:
    """Return the names under which several images lie in a folder, with different suffixes."""
    ids = Counter(
        path.name[: -len(suffix)]
        for path in folder.iterdir()
        if not path.name.startswith(".") and (suffix := image_suffix(path)) is not None
    )
    return sorted(name for name, count in ids.items() if count > 1)


def _pacs(url: str) -> tuple[str, str]:
    name = os.environ.get("MONAI_LABEL_DICOMWEB_USERNAME", "")
    secret = os.environ.get("MONAI_LABEL_DICOMWEB_PASSWORD", "")
    keys = urllib.request.HTTPPasswordMgrWithPriorAuth()
    if name:
        keys.add_password(None, url, name, secret, is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(keys))
    request = urllib.request.Request(
        f"{url.rstrip('/')}/studies?limit=1", headers={"Accept": "application/dicom+json"}
    )
    try:
        with opener.open(request, timeout=_PACS_S) as reply:
            return GOOD, f"{url} answers a search ({reply.status})"
    except urllib.error.HTTPError as error:
        return BAD, f"{url} answers {error.code} to a search"
    except OSError as error:
        return BAD, f"{url} does not answer within {_PACS_S:.0f} s: {error}"


def _readings(home: Path) -> tuple[str, str]:
    path = database_in(home)
    if not path.exists():
        return GOOD, f"{path}: none yet"
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        (verdict,) = database.execute("PRAGMA quick_check").fetchone()
        (count,) = database.execute("SELECT count(*) FROM readings").fetchone()
    state = GOOD if verdict == "ok" else BAD
    return state, f"{path}: {count} readings, quick_check {verdict}"


def _disk(folder: Path) -> tuple[str, str]:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free_gb = shutil.disk_usage(there).free / 1e9
    state = GOOD if free_gb >= LEAST_FREE_GB else POOR
    return state, f"{folder}: {free_gb:.1f} GB free"


def _tokens() -> tuple[str, str]:
    path = default_file()
    if not path.exists():
        return GOOD, f"{path}: made at the first start"
    mode = path.stat().st_mode & 0o777
    return (GOOD if not mode & 0o077 else POOR), f"{path}, mode {mode:04o}"


def _port(port: int) -> tuple[str, str]:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            return POOR, f"{port} on 127.0.0.1: {error.strerror}; a server may run already"
    return GOOD, f"{port} on 127.0.0.1 is free"


def summary(checks: list[Check]) -> str:
    """Return the page as text.

    >>> summary([Check("port", "ok", "8000 is free")])
    'ok       port       8000 is free'
    """
    return "\n".join(f"{c.state:8} {c.name:10} {c.told}" for c in checks)


def check_all_good(checks: list[Check]) -> None:
    """Tell which checks found a problem.

    Raises:
        ResMTNetError: naming them.
    """
    bad = [check.name for check in checks if check.state == BAD]
    if bad:
        raise ResMTNetError(f"Problems with: {', '.join(bad)}. The page above says which.")
