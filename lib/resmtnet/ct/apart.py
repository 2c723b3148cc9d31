"""Reads files of strangers in a process of its own, with bounds on memory and time.

The libraries that decode images can be crashed, or sent into an endless loop, by a file made for
it. A helper process loads them once and waits; for each file it forks a worker, which alone dies.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from resmtnet import errors
from resmtnet.errors import InputError, VolumeError

MEMORY_BYTES = 6 * 2**30
"""That a worker may take beyond what the helper has; the largest CT that is read takes 4 GB."""
TIME_S = 60.0
BYTES_PER_S = 2_000_000
"""A file gets a second more for so many bytes."""
_STATUS = "status.json"
_POLL_S = 0.003


@contextmanager
def read_apart(function: str, path: Path) -> Iterator[Path]:
    """Let a worker read a file, and give the folder that it has filled.

    Args:
        function: of this package, "module:name", called with the path and that folder. On a system
            that cannot fork it is called here.
        path: the file.

    Yields:
        The folder, which is deleted afterwards.

    Raises:
        InputError: as the function raised it.
        VolumeError: the worker died, or took too much memory or time.
    """
    with tempfile.TemporaryDirectory(prefix="resmtnet-") as name:
        if hasattr(os, "fork"):
            _HELPER.run(function, path, Path(name))
        else:
            _function(function)(path, Path(name))
        yield Path(name)


def start() -> None:
    """Start the helper now, so that the first file does not wait for it."""
    if hasattr(os, "fork"):
        with _HELPER.lock:
            _HELPER.process()


def stop() -> None:
    """End the helper, when no more files will be read."""
    with _HELPER.lock:
        _HELPER.stop()


class _Helper:
    """The helper process of this process; one file at a time."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._inherited: list[subprocess.Popen[bytes] | None] = []
        """Of the process that this one was forked from: neither used nor ended."""

    def run(self, function: str, path: Path, out: Path) -> None:
        """Let a worker call a function; see read_apart."""
        time_s = TIME_S + path.stat().st_size / BYTES_PER_S
        job: dict[str, Any] = {
            "function": function,
            "path": str(path),
            "out": str(out),
            "time_s": time_s,
        }
        job["cache"] = {n: v for n, v in os.environ.items() if n.startswith("RESMTNET_CACHE")}
        with self.lock:
            process = self.process()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:
                answer = b""
            if not answer:  # it was killed, such as by the system for lack of memory
                self.stop()
        if not answer or not json.loads(answer)["ended"]:
            raise VolumeError(
                f"{path.name}: reading it ended a process, or took more than {time_s:.0f} s or "
                f"{MEMORY_BYTES // 2**30} GB: it is damaged or too large"
            )
        status = json.loads((out / _STATUS).read_text())
        if status["error"] is not None:
            kind = getattr(errors, status["error"], VolumeError)
            raise (kind if issubclass(kind, VolumeError) else VolumeError)(status["message"])

    def process(self) -> subprocess.Popen[bytes]:
        """Return the running helper; the lock is held."""
        if self._owner != os.getpid():
            self._inherited.append(self._process)
            self._process, self._owner = None, os.getpid()
        if self._process is None or self._process.poll() is not None:
            self.stop()
            library = str(Path(__file__).resolve().parents[2])
            places = [library, os.environ.get("PYTHONPATH", "")]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from resmtnet.ct.apart import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is the server's; the helper ends with its input
            )
        return self._process

    def stop(self) -> None:
        """End the helper, if it is of this process."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()


_HELPER = _Helper()
atexit.register(lambda: _HELPER.stop())


def serve() -> None:
    """Be the helper: fork a worker for each line of the input, and tell how it ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    _load()
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if not pid:
            _work(job)
        answers.write(json.dumps({"ended": _ended(pid, job["time_s"])}) + "\n")
        answers.flush()


def _load() -> None:
    """Load what decodes images; its parts are loaded when they are first named."""
    import itk
    import nibabel  # noqa: F401

    for name in ("NrrdImageIO", "MetaImageIO", "NiftiImageIO", "ImageFileReader", "VectorImage"):
        getattr(itk, name)


def _ended(pid: int, time_s: float) -> bool:
    """Wait for a worker; return whether it ended by itself and in time."""
    end = time.monotonic() + time_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        time.sleep(_POLL_S)


def _work(job: dict[str, Any]) -> None:
    """Be the worker: call the function, write how it went, and end the process."""
    code = 1
    with suppress(BaseException):
        os.environ.update(job["cache"])
        _limit(job["time_s"])
        status: dict[str, str | None] = {"error": None, "message": None}
        try:
            _function(job["function"])(Path(job["path"]), Path(job["out"]))
        except InputError as error:
            status = {"error": type(error).__name__, "message": str(error)}
        except MemoryError:
            status = {"error": "VolumeError", "message": "it needs too much memory"}
        Path(job["out"], _STATUS).write_text(json.dumps(status))
        code = 0
    os._exit(code)


def _limit(time_s: float) -> None:
    import resource

    held = 0
    with suppress(OSError):  # no Linux
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_AS, held + MEMORY_BYTES),
        (resource.RLIMIT_CPU, int(time_s) + 1),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # a stricter one holds already
            resource.setrlimit(what, (most, most))


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
