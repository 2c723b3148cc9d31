"""Whether places that a site's readers called no nodule teach the model to show fewer of them.

    python benchmarks/hard_negatives.py --model RESEARCH --places RESEARCH/../negatives.npz
        [--runs 20] [--patients 60] [--development] [--threshold T] [--pull P ...]
        [--least-gain G] [--json FILE]

Model and places come from research_model.py: places in the surroundings of LIDC's nodules that no
reader marked, of patients whom the network never saw. Few are shown at the shipped threshold,
so that the site searches at a lower one (--threshold), and its reader rejects all that is shown
there. Patients are divided as in gate.py; the reference set is the other half. Told are, of the
half's patients who are not of the site, the share of places and of nodules that a search shows, and
how well both are told apart (AUC), before and after. "Nodules rejected" is the same training with
as many nodules of the site among the rejected places: it must be kept. --least-gain is the gain
that must be shown; 0 tells what a version would do that is not published.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resmtnet.evaluation.metrics import auc
from resmtnet.evaluation.records import Case
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.inference.model_folder import Model, read_model
from resmtnet.inference.presence import nodule_logit
from resmtnet.readings.record import Reading
from resmtnet.retraining import nodule_or_not
from resmtnet.retraining.candidate import FineTuned, as_served
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.samples import Sample, gather_rejected, sample_of
from resmtnet.training.cached_nodule import CachedNodule
from simulated_site import Half, Pool
from site_readers import RIGHT

SHARE_OF_NODULES = 0.5
"""Of the rejected places that are nodules, where a reader rejects nodules."""


@dataclass(frozen=True)
class Places:
    """Places without a nodule, as the research model sees them."""

    held: list[CachedNodule]

    @classmethod
    def read(cls, path: Path, heads: LinearHeads) -> Places:
        stored = np.load(path)
        held = []
        rows = zip(
            *(stored[name] for name in ("ids", "patients", "embeddings", "views")), strict=True
        )
        for name, patient, embedding, views in rows:
            case = Case(str(name), str(patient), (), np.nan, np.nan, None, np.nan)
            answers = {k: layer(embedding.astype(float)) for k, layer in heads.layers.items()}
            seen = {k: np.repeat(said[:, None], views.shape[1], 1) for k, said in answers.items()}
            seen["nodule"] = views
            held.append(CachedNodule(case, {}, RawOutputs(seen, embedding), 0.0, None, (), {}))
        return cls(heads.answer_all(held))


def rejected(held: Sequence[CachedNodule]) -> list[Sample]:
    """A reader's "not a nodule" of each."""
    by_id = {one.case.id: one for one in held}
    said = gather_rejected(
        Reading(
            image=one.case.patient_id,
            reader="A",
            nodule=one.case.id,
            centre_lps_mm=(0.0, 0.0, 0.0),
            study_patient=one.case.patient_id,
            class_name="not_a_nodule",
        )
        for one in held
    )
    return [sample_of(one, by_id[one.nodule]) for one in said]


def shown(version: FineTuned, held: Sequence[CachedNodule]) -> tuple[np.ndarray, np.ndarray]:
    """Nodule probability as a candidate, and logit, of each."""
    presence = version.calibration.nodule
    assert presence is not None
    outputs = [one.observation.outputs for one in version.answer_all(held)]
    likely = [presence.probability(one, candidate=True) for one in outputs]
    return np.array(likely), np.array([nodule_logit(one) for one in outputs])


def shown_ones(version: FineTuned, held: Sequence[CachedNodule]) -> list[CachedNodule]:
    """Those that a search would show."""
    presence = version.calibration.nodule
    assert presence is not None
    likely, _ = shown(version, held)
    return [one for one, p in zip(held, likely, strict=True) if p >= presence.candidate_threshold]


def figures(
    version: FineTuned, places: Sequence[CachedNodule], nodules: Sequence[CachedNodule]
) -> dict[str, float]:
    (p_places, l_places), (p_nodules, l_nodules) = (shown(version, h) for h in (places, nodules))
    presence = version.calibration.nodule
    assert presence is not None
    least = presence.candidate_threshold
    truth = np.r_[np.ones(len(l_nodules)), np.zeros(len(l_places))]
    return {
        "places_shown": float(np.mean(p_places >= least)),
        "nodules_shown": float(np.mean(p_nodules >= least)),
        "auc": float(auc(truth, np.r_[l_nodules, l_places])),
    }


def run(half: Half, places: Places, seed: int, patients: int, *, wrongly: bool) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    order = [str(p) for p in rng.permutation(half.patients)]
    site, others = set(order[:patients]), set(order[patients:])
    base = as_served(half.pool.model)
    mine = [one for one in places.held if one.case.patient_id in site]
    hard = shown_ones(base, mine)
    if wrongly:
        own = [one for one in half.held if one.case.patient_id in site]
        count = round(len(hard) * SHARE_OF_NODULES / (1 - SHARE_OF_NODULES))
        hard = [*hard, *(own[n] for n in rng.permutation(len(own))[:count])]
    said = rejected(hard)
    nodules = half.read(sorted(site), RIGHT, rng)
    version, verdict = nodule_or_not.with_rejected(
        base, half.pool.model, said, nodules, half.reference, Margins()
    )
    row: dict[str, Any] = {
        "rejected": len(said),
        "published": version is not None,
        "why": verdict.reason if verdict else "too few",
    }
    if version is not None:
        test = [one for one in places.held if one.case.patient_id in others]
        kept = [one for one in half.held if one.case.patient_id in others]
        for when, what in (("before", base), ("after", version)):
            row[when] = figures(what, test, kept)
        row["test"] = {"places": len(test), "nodules": len(kept)}
    return row


def summary(name: str, rows: Sequence[dict[str, Any]]) -> str:
    done = [row for row in rows if row["published"]]
    lines = [
        f"{name}: published {len(done)} of {len(rows)}, "
        f"{statistics.fmean(row['rejected'] for row in rows):.0f} rejected places a run"
    ]
    for figure in done[0]["before"] if done else ():
        change = [row["after"][figure] - row["before"][figure] for row in done]
        before, after = (
            statistics.fmean(row[when][figure] for row in done) for when in ("before", "after")
        )
        error = statistics.stdev(change) / len(change) ** 0.5 if len(change) > 1 else 0.0
        lines.append(f"    {figure} {before:.3f} -> {after:.3f} (change +- {error:.3f})")
    whys = {row["why"][:150] for row in rows if not row["published"]}
    return "\n".join([*lines, *(f"    kept: {why}" for why in sorted(whys)[:3])])


def searching_at(arguments: argparse.Namespace) -> Model:
    """The model with another threshold of its search."""
    model = read_model(arguments.model)
    assert model.calibration.nodule is not None
    nodule = replace(model.calibration.nodule, candidate_threshold=arguments.threshold)
    return replace(model, calibration=replace(model.calibration, nodule=nodule))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--places", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--threshold", type=float, default=0.01)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--least-gain", type=float, default=nodule_or_not.LEAST_GAIN)
    parser.add_argument("--pull", type=float, action="append")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    nodule_or_not.LEAST_GAIN = arguments.least_gain
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool.of_model(searching_at(arguments), Path(folder))
        half = Half(pool, development=arguments.development)
        places = Places.read(arguments.places, LinearHeads.of(pool.model.networks))
        likely, _ = shown(as_served(pool.model), places.held)
        for least in (0.1, arguments.threshold):
            print(
                f"{np.mean(likely >= least):.3f} of {len(likely)} places reach {least}", flush=True
            )
        for pull in arguments.pull or [nodule_or_not.PULL]:
            nodule_or_not.PULL = pull
            for wrongly in (False, True):
                name = f"pull {pull:g}, {'nodules rejected' if wrongly else 'places rejected'}"
                found[name] = [
                    run(half, places, n, arguments.patients, wrongly=wrongly)
                    for n in range(arguments.runs)
                ]
                print(summary(name, found[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
