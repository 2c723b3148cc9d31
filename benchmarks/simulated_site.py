"""Sites drawn from stored nodules, their trainings, and what these do for other patients.

Shared by gate.py, which runs many of them, and by the other experiments on learning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resmtnet.characteristics import MALIGNANCY, TEXTURE_CLASS
from resmtnet.data.consensus import malignant_share
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.model_folder import Model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.retraining.candidate import FineTuned
from resmtnet.retraining.choice_of_version import SiteTraining, best_version
from resmtnet.retraining.compared_nodules import ComparedNodules, Predictions
from resmtnet.retraining.evidence import NOTHING, Evidence
from resmtnet.retraining.finetune import FineTuneConfig
from resmtnet.retraining.gate import Reference, Site, check_readings, knowledge, parent_readings
from resmtnet.retraining.linear_heads import LinearHeads
from resmtnet.retraining.margins import Margins
from resmtnet.retraining.noninferiority import AUC
from resmtnet.retraining.reading_checks import complaints
from resmtnet.retraining.samples import Sample
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import (
    read_calibration_set,
    read_reference,
    read_replay,
    replay_files,
)
from site_readers import SCENARIOS, SUB_SOLID, enriched, middle, samples

LEAST_READINGS = 10
DEFAULT = FineTuneConfig()
TEXTURE = TEXTURE_CLASS.name
OF_OTHERS = 1_000_000
"""Added to the seed of the readings of patients who took no part."""


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
        rated = [one.case.malignancy for one in self.held]
        usual = np.array([middle(given) if given else np.nan for given in rated])
        self.usual_error = np.abs(self.says.score - usual)

    def usual_score_mae(self, nodules: Sequence[str]) -> float:
        """The shipped model's error against readers in the middle."""
        return float(np.nanmean(self.usual_error[[self.places[n] for n in nodules]]))

    def read(self, patients: Sequence[str], name: str, rng: np.random.Generator) -> list[Sample]:
        """What the readers of a scenario say of the nodules of patients, in their order."""
        held = self.of(patients)
        said = samples(held, SCENARIOS[name], rng)
        order = {patient: n for n, patient in enumerate(patients)}
        said.sort(key=lambda s: order[s.patient_id])
        return enriched(said) if name == SUB_SOLID else said

    def of(self, patients: Sequence[str]) -> list[CachedNodule]:
        chosen = set(patients)
        return [one for one in self.held if one.case.patient_id in chosen]

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


@dataclass(frozen=True)
class Drawn:
    """The site of one run."""

    read: list[Sample]
    others: list[str]
    """Patients of whom the site knows nothing."""


def draw(half: Half, name: str, seed: int, count: int) -> Drawn:
    """A site of so many patients; only those who are needed are read."""
    rng = np.random.default_rng(seed)
    order = [str(p) for p in rng.permutation(half.patients)]
    # a few patients may have no reading; of solid nodules a sub-solid site has few
    asked = order[: count * 3 if name == SUB_SOLID else count + 5]
    said = half.read(asked, name, rng)
    site = list(dict.fromkeys(s.patient_id for s in said))[:count]
    chosen = set(site)
    return Drawn([s for s in said if s.patient_id in chosen], [p for p in order if p not in chosen])


def run(
    half: Half,
    name: str,
    seed: int,
    count: int,
    margins: Margins,
    *,
    config: FineTuneConfig = DEFAULT,
    checks_only: bool = False,
) -> dict[str, Any]:
    """One training of one site: what came of it, and what that does for the half's others."""
    drawn = draw(half, name, seed, count)
    row: dict[str, Any] = {"nodules": len(drawn.read)}
    model = half.pool.model
    done = train(half, model, drawn.read, margins, config=config, checks_only=checks_only)
    row |= {"outcome": done.outcome, "why": done.why, "checks": done.checks}
    if done.candidate is not None:
        row["habit"] = done.candidate.calibration.habit.to_json()
        others = half.read(drawn.others, name, np.random.default_rng(OF_OTHERS + seed))
        row["others"] = gain(half, done.candidate, others)
    return row


@dataclass(frozen=True, eq=False)
class Done:
    """What a training came to."""

    outcome: str
    candidate: FineTuned | None = None
    """Of what was published."""
    why: Sequence[str] = ()
    checks: Sequence[tuple[str, float | None]] = ()
    """Of the readings, each with its value."""


def train(
    half: Half,
    parent: Model,
    read: Sequence[Sample],
    margins: Margins,
    *,
    config: FineTuneConfig = DEFAULT,
    checks_only: bool = False,
) -> Done:
    """What retraining.retrain does, on stored nodules."""
    shipped = half.pool.model
    readings = sum(len(s.consensus.reading_ids) for s in read)
    said = [s.consensus for s in read]
    evidence = Evidence.of(said, readings, LEAST_READINGS, margins)
    if evidence.stage == NOTHING:
        return Done("too few", why=[evidence.missing])
    site = half.site(read, None if parent is shipped else parent)
    reference = half.reference
    if parent is not shipped:
        answers = knowledge(parent, reference.held, reference.nodules)
        reference = replace(reference, parent=answers)
    found = check_readings(site, reference, parent_readings(parent), margins)
    checks = [(one.what, one.value) for one in found]
    wrong = complaints(found)
    if wrong:
        return Done("refused", why=wrong, checks=checks)
    if checks_only:
        return Done("accepted", checks=checks)
    training = SiteTraining(parent, shipped, site, reference, evidence.stage, config, margins)
    candidate, verdicts = best_version(training)
    why = [
        f"{loss.measure.name}, {comparison.name}"
        for verdict in verdicts
        for comparison in verdict.comparisons
        for loss in comparison.losses
        if comparison.refuses(loss, margins)
    ]
    if candidate is None:
        return Done("no habit" if verdicts[-1].insufficient else "worse", why=why, checks=checks)
    return Done("habit alone" if candidate.same_weights else "weights", candidate, why, checks)


def gain(half: Half, candidate: FineTuned, others: Sequence[Sample]) -> dict[str, Any]:
    """Figures before and after on the nodules of patients who took no part."""
    if not others:
        return {}
    site = half.site(others)
    held = candidate.answer_all([s.held for s in others])
    after = Predictions.of(site.nodules, held, candidate.calibration)
    before = [s.held for s in others]
    shipped = half.pool.model.calibration
    return {
        "before": figures(site, site.shipped, before, shipped),
        "after": figures(site, after, held, candidate.calibration),
        # how far the shipped model is from readers in the middle, who have no habit
        "usual_score_mae": half.usual_score_mae([s.consensus.nodule for s in others]),
    }


def figures(
    site: Site, said: Predictions, held: Sequence[CachedNodule], calibration: Calibration
) -> dict[str, float]:
    truth = site.nodules
    score, size = said.score - truth.score, said.log_diameter - truth.log_diameter
    clear = np.isfinite(truth.malignant)
    texture = np.array([str(h.case.texture_class) for h in held])
    told = np.array(
        [
            TEXTURE_CLASS.levels[
                int(np.argmax(calibration.texture.probabilities(h.observation.outputs[TEXTURE])))
            ]
            for h in held
        ]
    )
    subsolid = (texture != "solid") & (texture != "None")
    found = {
        "auc": float(AUC.statistic(truth.malignant[clear], said.probability[clear])),
        "texture": float(np.mean(told[texture != "None"] == texture[texture != "None"])),
        "subsolid_texture": float(np.mean(told[subsolid] == texture[subsolid])),
    }
    for part, rows in {"": np.ones(len(texture), bool), "subsolid_": subsolid}.items():
        found |= {
            f"{part}score_mae": float(np.nanmean(np.abs(score[rows]))),
            f"{part}score_bias": float(np.nanmean(score[rows])),
            f"{part}size_error": float(np.nanmean(np.abs(size[rows]))),
            f"{part}size_bias": float(np.nanmean(size[rows])),
        }
    return found


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
