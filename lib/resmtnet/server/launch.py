"""Starts MONAI Label's server with defaults for a clinical workstation (`resmtnet serve`)."""

from __future__ import annotations

import ipaddress
import json
import logging.config
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from resmtnet.errors import ConfigError, InputError, ResMTNetError
from resmtnet.server.scratch import own_temporary_folder

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
    # It would send how it is used to its makers; where MONAI is, it is loaded.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # OpenMP threads of torch that wait give their core away soon, instead of spinning on it.
    "GOMP_SPINCOUNT": "1000",
}
"""Environment variables of the server; those the user has set come first."""

GRACE_S = 20
"""How long a server that is stopped waits for requests that run, seconds."""

_POLL_S = 0.2


@dataclass(frozen=True)
class ServerOptions:
    """Checked options to start a server with."""

    studies: str
    """A folder with CTs, or the URL of a DICOMweb service."""

    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback one needs encryption, or a proxy that encrypts."""

    port: int = DEFAULT_PORT

    conf: Mapping[str, str] = field(default_factory=dict)
    """Settings of the app (`--conf`); the app checks them."""

    app_dir: Path | None = None
    """Folder of the app; default: `default_app_dir`."""

    uvicorn_app: str = OUR_APP
    """What uvicorn serves, as module:name."""

    tls_cert: Path | None = None
    """Certificate (PEM) to encrypt with."""

    tls_key: Path | None = None
    """Its private key."""

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert and --tls-key: both are needed, or none.")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise ConfigError(f"--tls-cert, --tls-key: there is no file {path}.")
        if not (
            self.tls_cert or any(self.conf.get(n) == "true" for n in ("behind_proxy", "insecure"))
        ):
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
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"http{'s' if self.tls_cert else ''}://{host}:{self.port}"

    def arguments(self) -> list[str]:
        """Return the arguments of `monailabel`.

        >>> ServerOptions("http://pacs/dicom-web", app_dir=Path("app")).arguments()[:2]
        ['start_server', '--app']
        """
        studies = self.studies if self.is_remote else str(Path(self.studies).expanduser())
        app = str(self.app_dir or default_app_dir())
        conf = [part for key, value in self._conf().items() for part in ("--conf", key, str(value))]
        where = ["--host", self.host, "--port", str(self.port)]
        if self.tls_cert and self.tls_key:
            where += ["--ssl_certfile", str(self.tls_cert), "--ssl_keyfile", str(self.tls_key)]
        served = ["--uvicorn_app", self.uvicorn_app]
        return ["start_server", "--app", app, "--studies", studies, *where, *served, *conf]

    def _conf(self) -> dict[str, str]:
        """The settings, with the address among the names under which the server is reached."""
        known = [name for name in self.conf.get("hosts", "").split(",") if name.strip()]
        named = self.host in ("0.0.0.0", "::") or _is_loopback(self.host)
        if named or self.host in known:
            return dict(self.conf)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return {**self.conf, "hosts": ",".join([*known, host])}

    def environment(self) -> dict[str, str]:
        """Return the environment of the server: our defaults, overridden by the user's."""
        return {**PLATFORM_DEFAULTS, **os.environ}


def check_loopback(host: str) -> None:
    """Refuse an address where other machines would send their token without encryption.

    Raises:
        ConfigError: the host is no loopback address.

    >>> check_loopback("127.0.0.1")
    """
    if not _is_loopback(host):
        raise ConfigError(
            f"--host {host}: refused, because other machines would send tokens and images without "
            "encryption. Give --tls-cert and --tls-key; or --behind-proxy, if a proxy encrypts; or "
            "--insecure, if nobody else is on the network. Or stay on 127.0.0.1 and use a tunnel "
            f"(ssh -L {DEFAULT_PORT}:127.0.0.1:{DEFAULT_PORT} HOST) with --behind-proxy."
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
    os.umask(int(options.conf.get("umask", "077"), 8))  # of the log; the app sets it again
    own_temporary_folder()
    import uvicorn
    from monailabel.main import Main

    uvicorn.run = partial(run_uvicorn, uvicorn.run)
    main = Main(actions="start_server")
    with suppress(KeyboardInterrupt):
        main.action_start_server(main.args_parser().parse_args(options.arguments()))
    return 0


def run_uvicorn(run: Callable[..., None], *what: Any, log_config: Any = None, **how: Any) -> None:
    """Run uvicorn as MONAI Label asks for, with an end to waiting and no file left behind.

    MONAI Label lets it wait without end for requests that run when the server is stopped, and
    writes the settings of the log to a temporary file, which nobody deletes. Its usual parser takes
    headers of any size into memory; h11 takes 64 KB.
    """
    file = Path(log_config) if isinstance(log_config, str) else None
    if file is not None and file.suffix == ".json" and file.parent == Path(tempfile.gettempdir()):
        logging.config.dictConfig(json.loads(file.read_text()))  # as uvicorn would
        file.unlink()
        log_config = None
    how |= {"timeout_graceful_shutdown": GRACE_S, "http": "h11"}
    run(*what, log_config=log_config, **how)


def open_when_ready(options: ServerOptions, address: str) -> None:
    """Open a page in the user's browser as soon as the server answers; returns at once."""

    def wait() -> None:
        for _ in range(600):
            if _answers(options.url):
                webbrowser.open(address)
                return
            time.sleep(_POLL_S)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def running_server(options: ServerOptions, timeout_s: float = 60.0) -> Iterator[str]:
    """Run a server that answers inside the block, and stop it afterwards.

    Args:
        options: what to serve, and where.
        timeout_s: how long the start may take.

    Yields:
        Its URL.

    Raises:
        ResMTNetError: it did not start; with the end of its log.
    """
    command = [sys.executable, "-m", "monailabel.main", *options.arguments()]
    with (
        tempfile.TemporaryDirectory(
            prefix="resmtnet-", ignore_cleanup_errors=True
        ) as temporary,  # MONAI Label leaves files in it
        tempfile.TemporaryFile("w+", errors="replace") as log,
    ):
        environment = {**options.environment(), "TMPDIR": temporary}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
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
        # Its certificate may be one that only the clients trust; nothing is sent here.
        trusting = ssl._create_unverified_context() if url.startswith("https") else None
        with urllib.request.urlopen(f"{url}/health", timeout=5, context=trusting) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
