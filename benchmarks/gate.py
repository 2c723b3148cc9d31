"""Whether the gate keeps wrong corrections out and lets right ones in: seeded runs on real nodules.

    python benchmarks/gate.py [--model DIR] [--runs 100] [--first-seed N] [--scenario NAME ...]
        [--patients N] [--chains N] [--refit] [--json FILE]

The nodules are those that came with the model and that it never trained on: its reference and its
calibration set (262 patients). Each run draws the patients anew: 150 are the reference set, all
others the site (or --patients of them), whose readings are made by a rule (site_readers.py) from
what LIDC's readers said. A fifth of the site's patients is held out; the heads train on the others;
the gate judges.

The calibration set being drawn from, training does without it (warm start). --refit leaves it to
training, as a server does, and draws 112 patients of the reference set as such and 75 as the site.

With --chains N, right corrections arrive in 21 parts, the first with half of the site's patients:
after each part the served version is trained further on all readings so far, and published if the
gate lets it. Told are the losses of the last version against the shipped one, on the reference set
and on patients of neither the site nor the reference set; once with the weights held close to the
shipped version, as training does, and once to the parent.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from resmtnet.data.consensus import malignant_share
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.retraining.candidate import FineTuned, recalibrate
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.retraining.finetune import FineTuneConfig, fine_tune
from resmtnet.retraining.gate import Table, decide
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.noninferiority import losses
from resmtnet.retraining.samples import Sample, split_by_patient
from resmtnet.retraining.verdict import Verdict
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import (
    read_calibration_set,
    read_reference,
    read_replay,
    replay_files,
)
from site_readers import RIGHT, SCENARIOS, WRONG, Rule, samples

REFERENCE_PATIENTS = 150
FEWER_PATIENTS = 112
UNTOUCHED_PATIENTS = 30
PARTS = 21


@dataclass(frozen=True, eq=False)
class Pool:
    """All nodules, with the shipped model's answers."""

    held: list[CachedNodule]
    model: Model
    reference_patients: int = REFERENCE_PATIENTS

    @classmethod
    def of_model(cls, model: Model, folder: Path, *, refit: bool = False) -> Pool:
        """All that a model never trained on; see the top for refit."""
        reference = read_reference(model.folder)
        if refit:
            return cls(LinearHeads.of(model.networks).answer_all(reference), model, FEWER_PATIENTS)
        held = [*reference, *read_calibration_set(model.folder)]
        bare = without_calibration_set(model, folder)
        return cls(LinearHeads.of(model.networks).answer_all(held), bare)

    def shipped(self, nodules: ComparedNodules) -> Predictions:
        """What the shipped version says of some nodules of the pool; asked once."""
        assert not nodules.by_mean.any()
        index = [self.places[case.id.rpartition("/")[2]] for case in nodules.cases]
        return self.answers.rows(np.array(index))

    @cached_property
    def places(self) -> dict[str, int]:
        return {one.case.id: n for n, one in enumerate(self.held)}

    @cached_property
    def answers(self) -> Predictions:
        return Predictions.of(ComparedNodules.of(self.held), self.held, self.model.calibration)

    @property
    def patients(self) -> list[str]:
        return sorted({one.case.patient_id for one in self.held})

    def of(self, patients: Sequence[str]) -> list[CachedNodule]:
        chosen = set(patients)
        return [one for one in self.held if one.case.patient_id in chosen]


def without_calibration_set(model: Model, folder: Path) -> Model:
    """Return the model as if it came without its calibration set."""
    for name, write in replay_files(read_replay(model.folder)).items():
        write(folder / name)
    return replace(model, folder=folder)


def table(
    pool: Pool, nodules: ComparedNodules, held: Sequence[CachedNodule], versions: Sequence[Any]
) -> Table:
    """Ask candidate, parent and shipped version."""
    asked: dict[int, Predictions] = {id(pool.model): pool.shipped(nodules)}
    for version in versions:
        if id(version) not in asked:
            answering = (
                version if isinstance(version, FineTuned) else LinearHeads.of(version.networks)
            )
            said = answering.answer_all(held)
            asked[id(version)] = Predictions.of(nodules, said, version.calibration)
    return Table(nodules, *(asked[id(version)] for version in versions))


def run(
    pool: Pool,
    rule: Rule,
    seed: int,
    config: FineTuneConfig,
    margins: Margins,
    site_patients: int | None = None,
) -> tuple[Verdict, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    patients = [str(p) for p in rng.permutation(pool.patients)]
    reference = pool.of(patients[: pool.reference_patients])
    site = samples(pool.of(patients[pool.reference_patients :][:site_patients]), rule, rng)
    train, out = split_by_patient(site, seed=seed)
    started = time.process_time()
    candidate = recalibrate(fine_tune(pool.model, train, config))
    trained = time.process_time()
    verdict = judged(pool, candidate, pool.model, pool.model, reference, train, out, margins)
    counts = {
        "trained": len(train),
        "held_out": len(out),
        "held_out_patients": len({s.patient_id for s in out}),
        "training_cpu_s": trained - started,
        "judging_cpu_s": time.process_time() - trained,
    }
    return verdict, counts


def judged(
    pool: Pool,
    candidate: FineTuned,
    parent: Any,
    shipped: Model,
    reference: Sequence[CachedNodule],
    train: Sequence[Sample],
    out: Sequence[Sample],
    margins: Margins,
) -> Verdict:
    site = [*train, *out]
    shares = [malignant_share(s.consensus.votes) if s.consensus.votes else None for s in site]
    held = [s.held for s in site]
    versions = (candidate, parent, shipped)
    return decide(
        table(pool, ComparedNodules.of(reference), reference, versions),
        table(pool, ComparedNodules.of(held, shares), held, versions),
        site,
        len(train),
        margins,
    )


def chains(pool: Pool, count: int, first_seed: int) -> list[dict[str, Any]]:
    """Publish 20 times in a row, `count` times, with each anchor."""
    found = []
    for seed in range(first_seed, first_seed + count):
        for anchor in ("shipped", "parent"):
            found.append(chain(pool, seed, anchor))
            print(found[-1], flush=True)
    return found


def chain(pool: Pool, seed: int, anchor: str) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    patients = [str(p) for p in rng.permutation(pool.patients)]
    reference = pool.of(patients[: pool.reference_patients])
    neither = pool.of(patients[pool.reference_patients :][:UNTOUCHED_PATIENTS])
    site = patients[pool.reference_patients + UNTOUCHED_PATIENTS :]
    read = samples(pool.of(site), SCENARIOS[RIGHT], rng)
    shipped, published = pool.model, 0
    parent: Model = shipped
    ends = np.linspace(len(site) / 2, len(site), PARTS).round().astype(int)
    for end in ends:
        so_far = set(site[:end])
        train, out = split_by_patient([s for s in read if s.patient_id in so_far], 0.25, seed)
        held_to = shipped if anchor == "shipped" else None
        candidate = recalibrate(fine_tune(parent, train, FineTuneConfig(), anchor=held_to))
        verdict = judged(pool, candidate, parent, shipped, reference, train, out, Margins())
        if verdict.published:
            published += 1
            parent = as_model(candidate)
    last: dict[str, Any] = {"seed": seed, "anchor": anchor, "published": published}
    for name, held in {"reference": reference, "neither": neither}.items():
        nodules = ComparedNodules.of(held)
        at = table(pool, nodules, held, (parent, parent, shipped))
        lost = losses(nodules, at.candidate, at.shipped, config=Margins().bootstrap)
        last[name] = {loss.measure.name: round(loss.value, 4) for loss in lost}
    return last


def as_model(candidate: FineTuned) -> Model:
    """Return a published candidate as the next parent."""
    networks = []
    for state in candidate.states:
        network = ResMTNet(candidate.config.network)
        network.load_state_dict(state)
        networks.append(network.eval().requires_grad_(False))
    return replace(candidate.parent, networks=tuple(networks), calibration=candidate.calibration)


def in_short(verdict: Verdict) -> str:
    return "insufficient" if verdict.insufficient else verdict.outcome


def scenario(
    pool: Pool,
    name: str,
    seeds: Sequence[int],
    config: FineTuneConfig,
    margins: Margins,
    site_patients: int | None = None,
) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    whys: Counter[str] = Counter()
    rows = []
    for seed in seeds:
        verdict, counts = run(pool, SCENARIOS[name], seed, config, margins, site_patients)
        outcomes[in_short(verdict)] += 1
        whys.update(reasons(verdict))
        rows.append(
            {"seed": seed, "outcome": in_short(verdict), "reason": verdict.reason, **counts}
        )
        done = sum(outcomes.values())
        if done == len(seeds) or done % 20 == 0:
            print(f"{name}: {done} of {len(seeds)} {dict(outcomes)}", flush=True)
    for why, count in whys.most_common(8):
        print(f"    {count:4d}  {why}")
    return {"outcomes": dict(outcomes), "whys": dict(whys), "runs": rows}


def reasons(verdict: Verdict) -> set[str]:
    """Return what a verdict rests on, without its numbers."""
    found = {check.complaint for check in verdict.readings if check.complaint}
    if found or verdict.published:
        return found
    margins = Margins()
    pairs = ((c, loss) for c in verdict.comparisons for loss in c.losses)
    refused = {f"{loss.measure.name}, {c.name}" for c, loss in pairs if c.refuses(loss, margins)}
    return refused or {verdict.reason}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--patients", type=int, help="of the site; all that are left by default")
    parser.add_argument("--chains", type=int, default=0)
    parser.add_argument("--refit", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool.of_model(read_model(arguments.model), Path(folder), refit=arguments.refit)
        print(
            f"model {pool.model.info.version}; {len(pool.held)} nodules of {len(pool.patients)} "
            f"patients, {pool.reference_patients} of them the reference set",
            flush=True,
        )
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.runs)
        found: dict[str, Any] = {"model": vars(pool.model.info)}
        for name in arguments.scenario or [*WRONG, RIGHT]:
            found[name] = scenario(
                pool, name, seeds, FineTuneConfig(), Margins(), arguments.patients
            )
            keep(arguments.json, found)
        if arguments.chains:
            found["publishes in a row"] = chains(pool, arguments.chains, arguments.first_seed)
            keep(arguments.json, found)


def keep(path: Path | None, found: Mapping[str, Any]) -> None:
    """Write what is there; long runs may be cut short."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
