"""Servers that start in a second or two, for benchmarks that start hundreds: the real one, forked.

A parent process imports what the server needs, which takes most of a start, and forks a child for
each server; the child then does what `resmtnet serve` does. The model is the shipped one, or a
small one that answers at once, where the web server and not the model is what is tried.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resmtnet.server.launch import OUR_APP, ServerOptions, free_port

CHECKOUT = Path(__file__).resolve().parents[1]
SUPPORT = CHECKOUT / "tests" / "support"
IMPORTS_S, START_S = 300.0, 120.0


def small_app(folder: Path) -> Path:
    """Write an app over a model that says what the voxels show; return its folder."""
    sys.path.append(str(SUPPORT))
    from scripted_model import write_app

    return write_app(folder, CHECKOUT)


class Forks:
    """The parent process, and the servers that it forks."""

    def __init__(self, environment: Mapping[str, str] | None = None, served: str = OUR_APP) -> None:
        """Start the parent.

        Args:
            environment: of all servers, beside that of this process.
            served: what uvicorn serves, as module:name.
        """
        self._parent = subprocess.Popen(
            [sys.executable, __file__, served],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**ServerOptions(".").environment(), **(environment or {})},
        )
        self._ask({})

    def start(self, options: ServerOptions, log: Path) -> Server:
        """Start a server; it answers when this returns.

        Raises:
            RuntimeError: it did not start; with the end of its log.
        """
        began_s = time.monotonic()
        server = Server(self, int(self._ask({"start": options.arguments(), "log": str(log)})), log)
        server.url = options.url
        while not server.answers():
            if time.monotonic() > began_s + START_S or not server.lives():
                raise RuntimeError(f"The server did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        server.start_s = time.monotonic() - began_s
        return server

    def reap(self, pid: int, wait: bool) -> int | None:
        """Return the exit code of a server that has ended; None if it runs."""
        code: int | None = self._ask({"reap": pid, "wait": wait})
        return code

    def stop(self) -> None:
        """End the parent, which ends its servers."""
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        try:
            self._parent.wait(60)
        except subprocess.TimeoutExpired:
            self._parent.kill()

    def _ask(self, what: dict[str, Any]) -> Any:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(what) + "\n")
        self._parent.stdin.flush()
        return json.loads(self._parent.stdout.readline())


class Server:
    """One server."""

    url = ""
    start_s = 0.0

    def __init__(self, forks: Forks, pid: int, log: Path) -> None:
        self._forks, self.pid, self.log = forks, pid, log
        self.code: int | None = None

    def answers(self) -> bool:
        """Whether it is healthy."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def lives(self) -> bool:
        """Whether the process runs."""
        if self.code is None:
            self.code = self._forks.reap(self.pid, wait=False)
        return self.code is None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; return the exit code, negative for a signal."""
        if self.lives():
            os.kill(self.pid, number)
            self.code = self._forks.reap(self.pid, wait=True)
        assert self.code is not None
        return self.code

    def rss_bytes(self) -> int:
        """Memory that the process holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")


@contextmanager
def one_server(
    studies: Path | str,
    folder: Path,
    conf: Mapping[str, str] | None = None,
    small_model: bool = True,
    served: str = OUR_APP,
) -> Iterator[Server]:
    """Run one server inside the block, whose caches, tokens and temporary files are in a folder."""
    forks = Forks(private(folder), served)
    app = small_app(folder / "app") if small_model else None
    options = ServerOptions(
        str(studies), port=free_port(), conf=conf or {}, app_dir=app, uvicorn_app=served
    )
    try:
        server = forks.start(options, folder / "server.log")
        yield server
        server.end()
    finally:
        forks.stop()


def private(folder: Path) -> dict[str, str]:
    """Return an environment with folders for caches, tokens, keys and temporary files."""
    places = {
        "RESMTNET_CACHE_DIR": "cache",
        "XDG_CONFIG_HOME": "config",
        "TMPDIR": "temporary",
        "MONAI_LABEL_SESSION_PATH": "sessions",
    }
    for name in places.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    key = {"RESMTNET_SIGNING_KEY": str(folder / "config" / "signing-key.pem")}
    return {name: str(folder / place) for name, place in places.items()} | key


def _be_parent() -> None:
    """Fork a server for each line of the input; end them when the input ends."""
    import importlib

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in ("monailabel.main", sys.argv[1].partition(":")[0], "resmtnet.server.guarded_app"):
        importlib.import_module(name)
    running: set[int] = set()
    for line in sys.stdin:
        asked = json.loads(line)
        told: Any = None
        if "start" in asked:
            told = os.fork()
            if not told:
                _be_server(asked["start"], asked["log"])
            running.add(told)
        elif "reap" in asked:
            pid, status = os.waitpid(asked["reap"], 0 if asked["wait"] else os.WNOHANG)
            if pid:
                running.discard(pid)
                told = os.waitstatus_to_exitcode(status)
        answers.write(json.dumps(told) + "\n")
        answers.flush()
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _be_server(arguments: list[str], log: str) -> None:
    from functools import partial

    import uvicorn
    from monailabel.main import Main

    from resmtnet.server.launch import run_uvicorn
    from resmtnet.server.scratch import own_temporary_folder

    with open(log, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        tempfile.tempdir = None
        own_temporary_folder()
        uvicorn.run = partial(run_uvicorn, uvicorn.run)
        main = Main(actions="start_server")
        main.action_start_server(main.args_parser().parse_args(arguments))
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _be_parent()
