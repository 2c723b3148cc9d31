"""How the studies of a cohort are worked off: in this process, or by the workers of a Ray cluster.

Both run the same `Scorer`; this process alone writes to the results folder.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Protocol

from resmtnet.cohort.ledger import Ledger
from resmtnet.cohort.scorer import Load, Scorer, Task, failed
from resmtnet.errors import ConfigError, ModelError, ResMTNetError
from resmtnet.findings import ModelInfo
from resmtnet.inference.protocol import NoduleModel
from resmtnet.types import Json

WAVE = 2000
"""Studies that are handed to Ray at once: bounds what waits in its object store."""
STORE_BYTES = 128 * 2**20
"""Size of Ray's object store: it holds tasks and findings, and never an image."""
STARTS = 3
"""How often a start of Ray is tried."""
TRIES = 2
"""How often a study is given to a worker that dies of it."""
DIED = (
    f"WorkerDied: {TRIES} processes died while they scored it; the image is damaged, or too large "
    "for the memory of a process"
)
_USAGE = "RAY_USAGE_STATS_ENABLED"

Scored = tuple[Task, Json | None]
"""A task, and its record: None where the study was finished before."""


class Engine(Protocol):
    """Works tasks off, in any order."""

    def __call__(self, tasks: Iterable[Task], model: NoduleModel, load: Load) -> Iterator[Scored]:
        """Give every task with its record.

        Args:
            tasks: to work off.
            model: in this process.
            load: loads the same model in another process.
        """


@dataclass(frozen=True)
class InThisProcess:
    """Works tasks off one after the other; a study of which two processes died is left out."""

    ledger: Ledger
    """Holds which study is being scored."""

    def __call__(self, tasks: Iterable[Task], model: NoduleModel, load: Load) -> Iterator[Scored]:
        """Give every task with its record."""
        del load
        scorer = Scorer(model)
        for task in tasks:
            died = self.ledger.begin(task.study)
            try:
                record = failed(task, DIED) if died >= TRIES else scorer(task)
            finally:  # what kills this process does not come here
                self.ledger.ended(task.study)
            yield task, record


TMP, SHORT = "/tmp", 20
"""The folder for temporary files where the configured one has a longer path than this."""


@dataclass(frozen=True)
class OnRay:
    """Works tasks off by a pool of workers, each of which holds the model."""

    workers: int
    """Processes with a model."""
    threads: int = 1
    """Cores that each worker reserves, and threads of PyTorch in it."""
    gpus: float = 0.0
    """GPUs that each worker reserves; 0.5 is a GPU for two workers."""
    address: str | None = None
    """Of a cluster; None: one is started on this machine, and stopped at the end."""
    load: Load | None = None
    """Loads the model in a worker; None: as in this process."""

    def __call__(self, tasks: Iterable[Task], model: NoduleModel, load: Load) -> Iterator[Scored]:
        """Give every task with its record; a study that two workers died of gets that as reason."""
        import ray

        with TemporaryDirectory(
            prefix="ray-", dir=_short_folder(), ignore_cleanup_errors=True
        ) as scratch:
            self._start(ray, scratch)
            try:
                self._check_room(ray.cluster_resources())
                waiting = iter(tasks)
                while wave := list(islice(waiting, WAVE)):
                    yield from self._wave(wave, self.load or load, model.info)
            except ray.exceptions.RayError as error:  # no worker could start, or the cluster went
                last = str(error).strip().splitlines()[-1]
                raise ResMTNetError(
                    f"Ray gave up: {last}; what is finished is kept: start the same command again"
                ) from error
            finally:
                ray.shutdown()

    def _start(self, ray: Any, scratch: str) -> None:
        os.environ.setdefault(_USAGE, "0")  # nothing is sent to the makers of Ray
        settings: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
        if self.address is not None:
            settings |= {"address": self.address}
        else:
            settings |= {
                "num_cpus": self.workers * self.threads,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": scratch,
                # Ray's own is 15: on a busy machine its workers would get next to nothing.
                "_system_config": {"worker_niceness": 0},
            }
        _init(ray, settings)
        from ray.data import DataContext

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a lost study is told by us
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # a worker that dies must not end the run
        limits = context.execution_options.resource_limits
        context.execution_options.resource_limits = limits.copy(object_store_memory=STORE_BYTES)

    def _check_room(self, has: Mapping[str, float]) -> None:
        """Refuse more workers than there is room for: they would be waited for for ever."""
        for kind, each, option in (("CPU", self.threads, "threads"), ("GPU", self.gpus, "gpus")):
            if self.workers * each <= has.get(kind, 0.0) + 1e-6:
                continue
            where = "the cluster" if self.address else "this machine"
            raise ConfigError(
                f"{self.workers} workers with --{option} {each:g} need {self.workers * each:g} "
                f"{kind}s, {where} has {has.get(kind, 0.0):g}: give fewer --workers, or a smaller "
                f"--{option}"
            )

    def _wave(self, wave: Sequence[Task], load: Load, expected: ModelInfo) -> Iterator[Scored]:
        from ray import data

        # One study a block: it is given back when it is done, and it alone is lost with a worker.
        numbers = data.from_items(
            [{"number": n} for n in range(len(wave))], override_num_blocks=len(wave)
        )
        pool = data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=1)
        with warnings.catch_warnings():
            # Ray 2.64 will name max_task_retries otherwise; without it, a study that kills its
            # worker is tried for ever.
            warnings.filterwarnings("ignore", message=".*ray_remote_args")
            scored = numbers.map(
                _Worker,
                fn_constructor_args=[list(wave), load, expected, self.threads],
                compute=pool,
                num_cpus=self.threads,
                num_gpus=self.gpus or None,
                max_task_retries=TRIES - 1,
            )
        left = dict(enumerate(wave))
        for row in scored.iter_rows():
            task = left.pop(row["number"], None)
            if task is not None:  # None: its worker died after it had answered, and it was repeated
                yield task, json.loads(row["record"])
        for task in left.values():
            yield task, failed(task, DIED)


def _short_folder() -> str | None:
    """Return where Ray's sockets can lie: of the 107 bytes of their paths it needs 70."""
    return None if len(gettempdir()) <= SHORT or not Path(TMP).is_dir() else TMP


def _init(ray: Any, settings: Json) -> None:
    """Start or join Ray; its start gives up after half a minute, which a busy machine may need."""
    for left in reversed(range(STARTS)):
        try:
            ray.init(**settings)
            return
        except Exception as error:  # Ray raises plain ones
            ray.shutdown()
            if not left:
                raise ResMTNetError(
                    f"Ray does not start: {error} --engine local needs no Ray"
                ) from error


class _Worker:
    """What a worker holds: the model, and the tasks of the wave."""

    def __init__(
        self, tasks: Sequence[Task], load: Load, expected: ModelInfo, threads: int
    ) -> None:
        self._tasks = tasks
        import torch

        torch.set_num_threads(threads)
        model = load()
        if model.info != expected:
            raise ModelError(
                f"this worker loaded model {model.info}, the run is of {expected}: give all "
                "machines the same model folder"
            )
        self._scorer = Scorer(model)

    def __call__(self, row: Json) -> Json:
        """Return the number of a task, and its record as text."""
        number = int(row["number"])
        return {"number": number, "record": json.dumps(self._scorer(self._tasks[number]))}
