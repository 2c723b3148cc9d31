"""Answers of a running server while its model is replaced under it.

    python benchmarks/hot_swap.py [--requests 1000] [--clients 4] [--publishes 20] [--rollbacks 5]
                                  [--seed 0] [--model DIR] [--json FILE]

A MONAI Label server on a phantom is asked through MONAI Label's client for the same click, over and
over, by several clients at once. Meanwhile this process, which is another than the server's,
publishes versions (the shipped model with other biases in its heads) and rolls back, evenly spread
over the requests. Every answer is held against what its version says when it is asked alone:

    error        the request failed
    mixed        version, checksum and numbers of the answer are not those of one version
    stale        the version was not served at any moment between the request and its answer
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resmtnet import Characterizer, CTVolume
from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom, write_nifti
from resmtnet.findings import ModelInfo
from resmtnet.inference.model_folder import Model, default_model_dir, read_model, write_model
from resmtnet.monai_label.client import AppClient
from resmtnet.readings.location import database_in
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.server.launch import ServerOptions, free_port, running_server
from resmtnet.types import Json

AT_LPS_MM = (-75.0, 0.0, 20.0)
IMAGE = "phantom"
TOLERANCE = 1e-4
"""Of a probability or a distribution; versions differ by more than ten times that."""
SHIFT = 0.5
"""Greatest change of a head's bias from one version to the next."""

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Asked:
    """One request and its answer."""

    began_s: float
    ended_s: float
    sha256: str
    version: str
    numbers: Numbers


@dataclass
class Served:
    """Which version was chosen when, and what each says when it is asked alone."""

    ct: CTVolume
    click_ijk: list[int]
    chosen: list[tuple[float, float, str]] = field(default_factory=list)
    """When the choice began, when it was made, and the sha256 of the version."""
    says: dict[str, tuple[str, Numbers]] = field(default_factory=dict)
    """By sha256: the version string and the numbers."""

    def learn(self, folder: Path) -> None:
        model = Characterizer.load(folder, "cpu")
        at = self.ct.geometry.ijk_to_lps(self.click_ijk)
        document = model.document(self.ct, model(self.ct, [at]))
        self.says[model.info.sha256] = (model.info.version, numbers_of(document))

    def choose(self, act: Callable[[], ModelInfo | None]) -> None:
        began_s = time.monotonic()
        info = act()
        assert info is not None
        self.chosen.append((began_s, time.monotonic(), info.sha256))

    def between(self, began_s: float, ended_s: float) -> set[str]:
        """Versions that may have been served at a moment of this time."""
        found = set()
        for n, (start_s, _, sha256) in enumerate(self.chosen):
            replaced_s = self.chosen[n + 1][1] if n + 1 < len(self.chosen) else np.inf
            if start_s <= ended_s and began_s <= replaced_s:
                found.add(sha256)
        return found


def numbers_of(document: Json) -> Numbers:
    """Return what all heads of one version make together: class, score and characteristics."""
    (nodule,) = document["nodules"]
    probabilities = [nodule["class"]["probabilities"]["malignant"]]
    for characteristic in nodule["characteristics"].values():
        probabilities += characteristic["probabilities"].values()
    return (*probabilities, *nodule["malignancy"]["distribution"])


def changed(model: Model, generator: np.random.Generator) -> list[dict[str, Any]]:
    """Return the members' weights with other biases in the class and malignancy heads."""
    states = [dict(network.state_dict()) for network in model.networks]
    for state in states:
        for name, bias in state.items():
            if name.endswith((".class.bias", ".malignancy.bias")):
                shift = generator.uniform(-SHIFT, SHIFT, tuple(bias.shape))
                state[name] = bias + bias.new_tensor(shift)
    return states


def change_versions(
    versions: ModelRegistry, model: Model, served: Served, args: Any
) -> Iterator[None]:
    """Publish, or roll back, one version at each step."""
    generator = np.random.default_rng(args.seed)
    steps = np.array(["publish"] * args.publishes + ["rollback"] * args.rollbacks)
    steps[1:] = generator.permutation(steps[1:])  # there has to be one to roll back from

    def write(folder: Path) -> ModelInfo:
        states, version = changed(model, generator), versions.next_version()
        info = write_model(folder, version, states, model.config, model.calibration, {})
        served.learn(folder)
        return info

    for step in steps:
        act = (lambda: versions.publish(write)) if step == "publish" else rolled(versions)
        served.choose(lambda act=act: act().info)
        yield


def rolled(versions: ModelRegistry) -> Callable[[], Any]:
    """Return what rolls back one step; at the shipped model, forward to the newest version."""
    return lambda: versions.rollback(
        None if versions.served().name != "shipped" else versions.list()[-1].name
    )


class Clients:
    """Several clients that ask one after the other until enough was asked."""

    def __init__(self, url: str, click: list[int], args: Any) -> None:
        self.url, self.click, self.left = url, click, args.requests
        self.asked: list[Asked] = []
        self.errors: list[str] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(args.clients)]

    @property
    def done(self) -> int:
        return len(self.asked) + len(self.errors)

    @contextmanager
    def working(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        with tempfile.TemporaryDirectory() as files:
            client = AppClient(self.url, Path(files))
            while self._one_more():
                try:
                    self.asked.append(self._ask(client))
                except Exception as error:
                    self.errors.append(f"{type(error).__name__}: {error}")

    def _one_more(self) -> bool:
        with self._lock:
            self.left -= 1
            return bool(self.left >= 0)

    def _ask(self, client: AppClient) -> Asked:
        began_s = time.monotonic()
        file, document = client.infer("resmtnet_click", IMAGE, [self.click])
        ended_s = time.monotonic()
        file.unlink()
        by = document["model"]
        return Asked(began_s, ended_s, by["sha256"], by["version"], numbers_of(document))


def is_of_one_version(asked: Asked, served: Served) -> bool:
    """Whether version, checksum and numbers are those of one version, and of no other."""
    version, _ = served.says.get(asked.sha256, ("", ()))
    near = {
        sha256
        for sha256, (_, numbers) in served.says.items()
        if np.allclose(asked.numbers, numbers, rtol=0, atol=TOLERANCE)
    }
    return asked.version == version and near == {asked.sha256}


def write_phantom(folder: Path) -> Phantom:
    nodule = NoduleSpec(10.0, "solid", centre_lps_mm=AT_LPS_MM)
    phantom = make_phantom(3, (64, 80, 80), nodules=[nodule], centre_lps_mm=AT_LPS_MM)
    write_nifti(phantom, folder / f"{IMAGE}.nii.gz")
    return phantom


def run(scratch: Path, args: Any) -> Json:
    studies = scratch / "studies"
    studies.mkdir()
    phantom = write_phantom(studies)
    shipped = args.model or default_model_dir()
    model = read_model(shipped)
    versions = ModelRegistry.beside(database_in(studies), shipped)
    click = [round(float(x)) for x in phantom.geometry.lps_to_ijk(AT_LPS_MM)]
    served = Served(CTVolume.open(studies / f"{IMAGE}.nii.gz"), click)
    served.learn(shipped)
    served.chosen.append((-np.inf, -np.inf, model.info.sha256))
    conf = {"model_dir": str(shipped), "device": "cpu"}
    options = ServerOptions(str(studies), port=free_port(), conf=conf)
    changes = args.publishes + args.rollbacks
    with running_server(options, timeout_s=300.0) as url:
        clients = Clients(url, click, args)
        start_s = time.monotonic()
        with clients.working():
            steps = change_versions(versions, model, served, args)
            for n, _ in enumerate(steps, start=2):
                while clients.done < min(args.requests, n * args.requests // (changes + 1)):
                    time.sleep(0.005)
        took_s = time.monotonic() - start_s
    return figures(clients, served, took_s) | {
        "clients": args.clients,
        "publishes": args.publishes,
        "rollbacks": args.rollbacks,
    }


def figures(clients: Clients, served: Served, took_s: float) -> Json:
    asked = clients.asked
    waited_ms = sorted(1e3 * (one.ended_s - one.began_s) for one in asked)
    during = [
        1e3 * (a.ended_s - a.began_s)
        for a in asked
        if any(a.began_s <= made_s <= a.ended_s for _, made_s, _ in served.chosen)
    ]
    numbers = np.array([numbers for _, numbers in served.says.values()])
    apart = np.abs(numbers[:, None] - numbers[None]).max(-1)
    return {
        "requests": clients.done,
        "errors": len(clients.errors),
        "first_errors": clients.errors[:3],
        "mixed": sum(not is_of_one_version(one, served) for one in asked),
        "stale": sum(one.sha256 not in served.between(one.began_s, one.ended_s) for one in asked),
        "versions": len(served.says),
        "versions_that_answered": len({one.sha256 for one in asked}),
        "least_difference_of_versions": float(apart[~np.eye(len(apart), dtype=bool)].min()),
        "greatest_difference_from_the_version_alone": max(
            float(np.abs(np.subtract(one.numbers, served.says[one.sha256][1])).max())
            for one in asked
            if one.sha256 in served.says
        ),
        "median_ms": statistics.median(waited_ms),
        "p99_ms": waited_ms[int(0.99 * (len(waited_ms) - 1))],
        "requests_during_a_change": len(during),
        "median_during_a_change_ms": statistics.median(during) if during else None,
        "slowest_ms": waited_ms[-1],
        "seconds": took_s,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--publishes", type=int, default=20, help="at least 1")
    parser.add_argument("--rollbacks", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="default: the shipped model")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("RESMTNET_CACHE_DIR", str(Path(scratch) / "cache"))
        found = run(Path(scratch), args)
    for name, value in found.items():
        print(f"{name:44s} {value:.3g}" if isinstance(value, float) else f"{name:44s} {value}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["errors"] or found["mixed"] or found["stale"] else 0


if __name__ == "__main__":
    sys.exit(main())
