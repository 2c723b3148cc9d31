"""Whether the gate publishes a site's habits and keeps its mistakes out: seeded, real nodules.

    python benchmarks/gate.py [--model DIR] [--runs 100] [--first-seed N] [--scenario NAME ...]
        [--patients N ...] [--development] [--checks-only] [--chains N] [--json FILE]

The nodules are those that came with the model and that it never trained on: its reference and its
calibration set. Their patients are divided once into two halves. The site is drawn from one, the
other is the reference set. With --development both change places: on those draws limits and margins
were chosen, so that no patient of a reported site took part in choosing them.

Each run draws the site's patients (15, 25, 50 and 100 by default), whose readings are made by a
rule (site_readers.py) from what LIDC's readers said, and does what a training does: check the
readings, train, judge. Told are the outcomes and, for what was published, the figures on the
nodules of the half's other patients, read by the same rule.

With --checks-only nothing is trained: readings that pass the checks are "accepted". What is wrong
is refused there, and of what is accepted hardly anything is kept later.

The calibration set being drawn from, training does without it (warm start).

With --chains N, readings arrive in 21 parts: after each part the served version is trained further
on all readings so far, and published if the gate lets it. Told are the losses of the last version
against the shipped one, on the reference set and on patients who took part in no gate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resmtnet.characteristics import MALIGNANCY
from resmtnet.data.consensus import malignant_share
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.retraining.candidate import FineTuned
from resmtnet.retraining.choice_of_version import best_version
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.retraining.evidence import NOTHING, Evidence
from resmtnet.retraining.finetune import FineTuneConfig
from resmtnet.retraining.gate import Reference, Site, check_readings, knowledge, parent_readings
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.noninferiority import KNOWLEDGE, losses
from resmtnet.retraining.reading_checks import complaints
from resmtnet.retraining.samples import Sample
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import (
    read_calibration_set,
    read_reference,
    read_replay,
    replay_files,
)
from site_readers import RIGHT, SCENARIOS, SUB_SOLID, enriched, samples

PATIENTS = (15, 25, 50, 100)
UNTOUCHED_PATIENTS = 30
PARTS = 21
LEAST_READINGS = 10


@dataclass(frozen=True, eq=False)
class Pool:
    """All nodules, with the shipped model's answers."""

    held: list[CachedNodule]
    model: Model

    @classmethod
    def of_model(cls, model: Model, folder: Path) -> Pool:
        """All that a model never trained on."""
        held = [*read_reference(model.folder), *read_calibration_set(model.folder)]
        bare = without_calibration_set(model, folder)
        return cls(LinearHeads.of(model.networks).answer_all(held), bare)

    @property
    def patients(self) -> list[str]:
        return sorted({one.case.patient_id for one in self.held})

    def halves(self) -> tuple[list[str], list[str]]:
        """Two halves of the patients, by the hash of their names."""
        order = sorted(self.patients, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        return sorted(order[::2]), sorted(order[1::2])

    def of(self, patients: Sequence[str]) -> list[CachedNodule]:
        chosen = set(patients)
        return [one for one in self.held if one.case.patient_id in chosen]


def without_calibration_set(model: Model, folder: Path) -> Model:
    """Return the model as if it came without its calibration set."""
    for name, write in replay_files(read_replay(model.folder)).items():
        write(folder / name)
    return replace(model, folder=folder)


class Half:
    """The reference set and the patients of sites; what the shipped version says is asked once."""

    def __init__(self, pool: Pool, *, development: bool) -> None:
        first, second = pool.halves()
        self.pool = pool
        self.patients = first if development else second
        held = pool.of(second if development else first)
        self.reference = Reference.of(pool.model, pool.model, held)
        self.held = pool.of(self.patients)
        nodules = ComparedNodules.of(self.held)
        assert not nodules.by_mean.any()
        self.places = {one.case.id: n for n, one in enumerate(self.held)}
        self.says = Predictions.of(nodules, self.held, pool.model.calibration)
        logits = [one.observation.outputs[MALIGNANCY.name] for one in self.held]
        self.ratings = np.array(logits) / pool.model.calibration.malignancy_temperature

    def read(self, patients: Sequence[str], name: str, rng: np.random.Generator) -> list[Sample]:
        """What the readers of a scenario say of the nodules of patients, in their order."""
        chosen = set(patients)
        held = [one for one in self.held if one.case.patient_id in chosen]
        said = samples(held, SCENARIOS[name], rng)
        order = {patient: n for n, patient in enumerate(patients)}
        said.sort(key=lambda s: order[s.patient_id])
        return enriched(said) if name == SUB_SOLID else said

    def site(self, read: Sequence[Sample], parent: Model | None = None) -> Site:
        """The site as the served version (by default the shipped one) and the shipped see it."""
        index = np.array([self.places[s.consensus.nodule] for s in read])
        votes = [s.consensus.votes for s in read]
        held = [s.held for s in read]
        nodules = ComparedNodules.of(held, [malignant_share(v) if v else None for v in votes])
        shipped = self.says.rows(index)
        said = shipped
        if parent is not None:
            answered = LinearHeads.of(parent.networks).answer_all(held)
            said = Predictions.of(nodules, answered, parent.calibration)
        return Site(tuple(read), nodules, said, shipped, self.ratings[index])


def draw(
    half: Half, name: str, seed: int, count: int
) -> tuple[list[Sample], list[Sample], list[CachedNodule]]:
    """The readings of a site of so many patients, those of all others, and the others' nodules."""
    rng = np.random.default_rng(seed)
    order = [str(p) for p in rng.permutation(half.patients)]
    said = half.read(order, name, rng)
    chosen = set(list(dict.fromkeys(s.patient_id for s in said))[:count])
    site = [s for s in said if s.patient_id in chosen]
    others = [s for s in said if s.patient_id not in chosen]
    return site, others, [one for one in half.held if one.case.patient_id not in chosen]


def run(
    half: Half, name: str, seed: int, count: int, margins: Margins, *, checks_only: bool = False
) -> dict[str, Any]:
    """One training of one site."""
    started = time.process_time()
    read, others, _ = draw(half, name, seed, count)
    row: dict[str, Any] = {"seed": seed, "patients": count, "nodules": len(read)}
    outcome, candidate, why = train(half, half.pool.model, read, margins, checks_only=checks_only)
    row |= {"outcome": outcome, "why": why}
    if candidate is not None:
        row["habit"] = candidate.calibration.habit.to_json()
        row["others"] = gain(half, candidate, others)
    return row | {"cpu_s": time.process_time() - started}


def train(
    half: Half,
    parent: Model,
    read: Sequence[Sample],
    margins: Margins,
    *,
    checks_only: bool = False,
) -> tuple[str, FineTuned | None, list[str]]:
    """What retraining.retrain does, on stored nodules."""
    shipped = half.pool.model
    readings = sum(len(s.consensus.reading_ids) for s in read)
    said = [s.consensus for s in read]
    evidence = Evidence.of(said, readings, LEAST_READINGS, margins)
    if evidence.stage == NOTHING:
        return "too few", None, [evidence.missing]
    site = half.site(read, None if parent is shipped else parent)
    reference = half.reference
    if parent is not shipped:
        answers = knowledge(parent, reference.held, reference.nodules)
        reference = replace(reference, parent=answers)
    wrong = complaints(check_readings(site, reference, parent_readings(parent), margins))
    if wrong:
        return "refused", None, wrong
    if checks_only:
        return "accepted", None, []
    config = FineTuneConfig()
    candidate, verdicts = best_version(
        parent, shipped, site, reference, evidence.stage, config, margins
    )
    why = [
        f"{loss.measure.name}, {comparison.name}"
        for verdict in verdicts
        for comparison in verdict.comparisons
        for loss in comparison.losses
        if comparison.refuses(loss, margins)
    ]
    if candidate is None:
        return ("no habit" if verdicts[-1].insufficient else "worse"), None, why
    return ("habit alone" if candidate.same_weights else "weights"), candidate, why


def gain(half: Half, candidate: FineTuned, others: Sequence[Sample]) -> dict[str, Any]:
    """Figures before and after on the nodules of patients who took no part."""
    if not others:
        return {}
    site = half.site(others)
    held = candidate.answer_all([s.held for s in others])
    after = Predictions.of(site.nodules, held, candidate.calibration)
    return {"before": figures(site, site.shipped), "after": figures(site, after)}


def figures(site: Site, said: Predictions) -> dict[str, float]:
    truth = site.nodules
    score, size = said.score - truth.score, said.log_diameter - truth.log_diameter
    return {
        "score_mae": float(np.nanmean(np.abs(score))),
        "score_bias": float(np.nanmean(score)),
        "size_error": float(np.nanmean(np.abs(size))),
        "size_bias": float(np.nanmean(size)),
    }


def scenario(
    half: Half,
    name: str,
    count: int,
    seeds: Sequence[int],
    margins: Margins,
    *,
    checks_only: bool = False,
) -> list[dict[str, Any]]:
    rows, outcomes, whys = [], Counter[str](), Counter[str]()
    for seed in seeds:
        row = run(half, name, seed, count, margins, checks_only=checks_only)
        rows.append(row)
        outcomes[row["outcome"]] += 1
        whys.update(row["why"])
    cpu_s = statistics.fmean(row["cpu_s"] for row in rows)
    print(f"{name}, {count}: {dict(outcomes)}; {cpu_s:.2f} s", flush=True)
    for why, number in whys.most_common(4):
        print(f"    {number:4d}  {why}", flush=True)
    changed = [row["others"] for row in rows if row.get("others")]
    if changed:
        for figure in changed[0]["before"]:
            before, after = (
                statistics.fmean(one[when][figure] for one in changed)
                for when in ("before", "after")
            )
            print(f"    {figure} {before:.3f} -> {after:.3f}", flush=True)
    return rows


def chain(half: Half, name: str, seed: int, margins: Margins) -> dict[str, Any]:
    """Readings of one site that arrive in 21 parts, the first with half of its patients."""
    rng = np.random.default_rng(seed)
    order = [str(p) for p in rng.permutation(half.patients)]
    untouched, site = order[:UNTOUCHED_PATIENTS], order[UNTOUCHED_PATIENTS:]
    read = half.read(site, name, rng)
    parent, published = half.pool.model, Counter[str]()
    for end in np.linspace(len(site) / 2, len(site), PARTS).round().astype(int):
        so_far = set(site[:end])
        arrived = [s for s in read if s.patient_id in so_far]
        outcome, candidate, _ = train(half, parent, arrived, margins)
        published[outcome] += 1
        if candidate is not None:
            parent = as_model(candidate)
    last: dict[str, Any] = {"scenario": name, "seed": seed, "outcomes": dict(published)}
    held = {"reference": half.reference.held, "untouched": half.pool.of(untouched)}
    for where, nodules_held in held.items():
        nodules = ComparedNodules.of(nodules_held)
        now, then = (knowledge(m, nodules_held, nodules) for m in (parent, half.pool.model))
        lost = losses(nodules, now, then, KNOWLEDGE, config=margins.bootstrap)
        last[where] = {loss.measure.name: round(loss.value, 4) for loss in lost}
    return last


def as_model(candidate: FineTuned) -> Model:
    """Return a published candidate as the next parent."""
    networks = []
    for state in candidate.states:
        network = ResMTNet(candidate.config.network)
        network.load_state_dict(state)
        networks.append(network.eval().requires_grad_(False))
    info = replace(candidate.parent.info, version=candidate.parent.info.version + "+site")
    return replace(
        candidate.parent,
        info=info,
        networks=tuple(networks),
        calibration=candidate.calibration,
        provenance=candidate.provenance,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--patients", type=int, action="append")
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--checks-only", action="store_true")
    parser.add_argument("--chains", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    margins = Margins()
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool.of_model(read_model(arguments.model), Path(folder))
        half = Half(pool, development=arguments.development)
        print(
            f"model {pool.model.info.version}; {len(pool.held)} nodules of {len(pool.patients)} "
            f"patients, {len(pool.patients) - len(half.patients)} of them the reference set",
            flush=True,
        )
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.runs)
        found: dict[str, Any] = {"model": vars(pool.model.info)}
        for count in arguments.patients or PATIENTS if arguments.runs else ():
            for name in arguments.scenario or SCENARIOS:
                found[f"{name}, {count}"] = scenario(
                    half, name, count, seeds, margins, checks_only=arguments.checks_only
                )
                keep(arguments.json, found)
        for seed in range(arguments.chains):
            for name in arguments.scenario or (RIGHT,):
                found.setdefault("chains", []).append(chain(half, name, seed, margins))
                print(found["chains"][-1], flush=True)
                keep(arguments.json, found)


def keep(path: Path | None, found: Mapping[str, Any]) -> None:
    """Write what is there; long runs may be cut short."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
