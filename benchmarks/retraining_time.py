"""How long retraining of the heads takes on 200 readings whose nodules were looked at before.

    python benchmarks/retraining_time.py [--model DIR] [--readings 200] [--stock]

Counts all that the task does after its start: imports, the model, the readings database, the kept
observations, training, calibration, the gate, and the new version on disk. The process counts its
own CPU time, which is what it takes on a machine that does nothing else, and its wall clock. The
reader is a severe one, each reading of another nodule, so that a version is published.
With --stock, the same process then trains all weights of one network on as many nodules, as MONAI
Label's own BasicTrainTask does (stock_training.py): one epoch is timed, and multiplied.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

STARTED_CPU, STARTED = time.process_time(), time.monotonic()


class Kept:
    """Readings as a store hands them out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def readings(self) -> list:  # type: ignore[type-arg]
        from resmtnet.readings.record import Reading

        return [Reading.from_json(line) for line in json.loads(self.path.read_text())]


def prepare(folder: Path, model_dir: Path | None, count: int) -> None:
    """Keep readings and observations of reference nodules as a site does; not counted."""
    import numpy as np

    from resmtnet.inference.model_folder import read_model
    from resmtnet.retraining.nodule_cache import OBSERVATIONS, NoduleCache
    from resmtnet.retraining.samples import gather
    from resmtnet.training.cached_store import save_cached
    from resmtnet.training.carried_sets import read_reference
    from site_readers import SCENARIOS

    model = read_model(model_dir)
    held = {one.case.id: one for one in read_reference(model.folder)}
    rng = np.random.default_rng(0)
    severe = SCENARIOS["severe"]
    said = [reading for one in held.values() for reading in severe(one.case, rng)][:count]
    site = NoduleCache(folder, model, lambda image: (_ for _ in ()).throw(OSError(image)))
    for one in gather(said):
        path = site._path(OBSERVATIONS, one, ".safetensors", site.heads.trunk)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_cached(path, [held[one.nodule]])
    (folder / "readings.json").write_text(json.dumps([one.to_json() for one in said]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--readings", type=int, default=200)
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--folder", type=Path, help="run on what --prepare left there")
    arguments = parser.parse_args()
    if arguments.folder is None:
        import subprocess
        import sys

        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), arguments.model, arguments.readings)
            model = ["--model", str(arguments.model)] if arguments.model else []
            stock = ["--stock"] * arguments.stock
            command = [sys.executable, __file__, "--folder", folder, *model, *stock]
            subprocess.run(command, check=True)
        return
    nodules = run(arguments.folder, arguments.model)
    ours = time.process_time() - STARTED_CPU
    if arguments.stock:
        compare_with_stock(arguments.folder, arguments.model, nodules, ours)


def compare_with_stock(folder: Path, model_dir: Path | None, nodules: int, ours_s: float) -> None:
    from resmtnet.inference.model_folder import read_model
    from stock_training import epoch_cpu_s, stock_epochs

    model = read_model(model_dir)
    network, stock = model.networks[0], folder / "stock"
    epoch, epochs = epoch_cpu_s(stock, network, model.config, nodules), stock_epochs(stock, network)
    print(
        f"BasicTrainTask, one network, {nodules} nodules: {epoch:.1f} s CPU an epoch, times "
        f"{epochs} epochs = {epochs * epoch:.0f} s; retraining takes {ours_s / epoch / epochs:.1%}"
    )


def run(folder: Path, model_dir: Path | None) -> int:
    """Retrain; return of how many nodules."""
    from resmtnet.inference.model_folder import read_model
    from resmtnet.retraining.choice_of_version import SiteTraining, best_version
    from resmtnet.retraining.finetune import FineTuneConfig
    from resmtnet.retraining.gate import Reference, Site, check_readings
    from resmtnet.retraining.margins import Margins
    from resmtnet.retraining.nodule_cache import NoduleCache
    from resmtnet.retraining.samples import gather
    from resmtnet.training.carried_sets import read_reference

    model, margins = read_model(model_dir), Margins()
    cache = NoduleCache(folder, model, lambda image: None, keep_crops=False)  # type: ignore[arg-type,return-value]
    store = Kept(folder / "readings.json")
    found = cache.samples(gather(store.readings()))
    told("samples", f"{len(store.readings())} readings of {len(found.samples)} nodules")
    site = Site.of(found.samples, model, model)
    reference = Reference.of(model, model, read_reference(model.folder))
    check_readings(site, reference, set(), margins)
    told("checks of the readings")
    config = FineTuneConfig()
    training = SiteTraining(model, model, site, reference, "weights", config, margins)
    candidate, verdicts = best_version(training)
    told("training, calibration and gate, cross-fitted", verdicts[-1].reason)
    if candidate is not None:
        candidate.write(folder / "model", "next")
        told("written")
    return len(found.samples)


def told(what: str, more: str = "") -> None:
    cpu, wall = time.process_time() - STARTED_CPU, time.monotonic() - STARTED
    print(f"{cpu:6.1f} s CPU, {wall:6.1f} s wall after {what} {more}", flush=True)


if __name__ == "__main__":
    main()
