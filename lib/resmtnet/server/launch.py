"""Starts MONAI Label's server with defaults for a clinical workstation (`resmtnet serve`)."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from resmtnet.errors import ConfigError, InputError, ResMTNetError

DEFAULT_PORT = 8000
OUR_APP = "resmtnet.server.app:app"
PLAIN_APP = "monailabel.app:app"
"""MONAI Label's own app: each inference blocks the server."""

PLATFORM_DEFAULTS = {
    # Scoring runs in a second process, which writes back its own, stale list of labels.
    "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
    # A new series in the PACS is listed after a minute, not after two hours.
    "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": "60",
    # MLflow writes a folder into the working directory at each training.
    "MONAI_LABEL_TRACKING_ENABLED": "false",
    # OpenMP threads of torch that wait give their core away soon, instead of spinning on it.
    "GOMP_SPINCOUNT": "1000",
}
"""Environment variables of the server; those the user has set come first."""

_POLL_S = 0.2


@dataclass(frozen=True)
class ServerOptions:
    """Checked options to start a server with."""

    studies: str
    """A folder with CTs, or the URL of a DICOMweb service."""

    host: str = "127.0.0.1"
    """Loopback only: there is no authentication yet."""

    port: int = DEFAULT_PORT

    conf: Mapping[str, str] = field(default_factory=dict)
    """Settings of the app (`--conf`); the app checks them."""

    app_dir: Path | None = None
    """Folder of the app; default: `default_app_dir`."""

    uvicorn_app: str = OUR_APP
    """What uvicorn serves, as module:name."""

    def __post_init__(self) -> None:
        check_loopback(self.host)
        if not 0 < self.port < 65536:
            raise ConfigError(f"--port {self.port}: a number from 1 to 65535 is needed.")
        if not self.is_remote and not Path(self.studies).expanduser().is_dir():
            raise InputError(
                f"--studies {self.studies}: there is no such folder; give one with CTs, or the "
                "URL of a DICOMweb service."
            )

    @property
    def is_remote(self) -> bool:
        """Whether the studies are in a PACS."""
        return self.studies.startswith(("http://", "https://"))

    @property
    def url(self) -> str:
        """Address of the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def arguments(self) -> list[str]:
        """Return the arguments of `monailabel`.

        >>> ServerOptions("http://pacs/dicom-web", app_dir=Path("app")).arguments()[:2]
        ['start_server', '--app']
        """
        studies = self.studies if self.is_remote else str(Path(self.studies).expanduser())
        app = str(self.app_dir or default_app_dir())
        conf = [part for key, value in self.conf.items() for part in ("--conf", key, str(value))]
        where = ["--host", self.host, "--port", str(self.port)]
        served = ["--uvicorn_app", self.uvicorn_app]
        return ["start_server", "--app", app, "--studies", studies, *where, *served, *conf]

    def environment(self) -> dict[str, str]:
        """Return the environment of the server: our defaults, overridden by the user's."""
        return {**PLATFORM_DEFAULTS, **os.environ}


def check_loopback(host: str) -> None:
    """Refuse an address where other machines can reach the server.

    Raises:
        ConfigError: the host is no loopback address.

    >>> check_loopback("127.0.0.1")
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"--host {host}: refused, because the server has no authentication yet: anyone who "
            "reaches it could read all studies. Allowed: 127.0.0.1, ::1 and localhost; from "
            f"another machine use a tunnel (ssh -L {DEFAULT_PORT}:127.0.0.1:{DEFAULT_PORT} HOST)."
        )


def default_app_dir() -> Path:
    """Return the app folder: RESMTNET_APP_DIR, else apps/resmtnet of the checkout.

    Raises:
        ConfigError: there is none.
    """
    named = os.environ.get("RESMTNET_APP_DIR")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "apps" / "resmtnet"
    if not (folder / "main.py").is_file():
        raise ConfigError(
            f"{folder} has no main.py: set RESMTNET_APP_DIR to the folder apps/resmtnet of a "
            "checkout; MONAI Label must be able to write to it."
        )
    return folder


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def serve(options: ServerOptions) -> int:
    """Run the server in this process until it is stopped (Ctrl-C, SIGTERM).

    Changes the environment of this process, from which MONAI Label reads its settings.

    Args:
        options: what to serve, and where.

    Returns:
        0 when the user has stopped it.
    """
    os.environ.update(options.environment())
    from monailabel.main import Main

    main = Main(actions="start_server")
    with suppress(KeyboardInterrupt):
        main.action_start_server(main.args_parser().parse_args(options.arguments()))
    return 0


@contextmanager
def running_server(options: ServerOptions, timeout_s: float = 60.0) -> Iterator[str]:
    """Run a server that answers /info inside the block, and stop it afterwards.

    Args:
        options: what to serve, and where.
        timeout_s: how long the start may take.

    Yields:
        Its URL.

    Raises:
        ResMTNetError: it did not start; with the end of its log.
    """
    command = [sys.executable, "-m", "monailabel.main", *options.arguments()]
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command, env=options.environment(), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait_for_answer(process, options.url, timeout_s, log)
            yield options.url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_answer(
    process: subprocess.Popen[bytes], url: str, timeout_s: float, log: IO[str]
) -> None:
    end = time.monotonic() + timeout_s
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > end:
            log.seek(0)
            state = "did not answer" if process.poll() is None else "stopped"
            raise ResMTNetError(f"The server {state}. Its log ends:\n{log.read()[-3000:]}")
        time.sleep(_POLL_S)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/info/", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
