"""From cases and answers to the document of schema resmtnet.metrics/1.

    schema, label_basis
    model        name, version, sha256
    data         nodules, patients, protocol (nodules of protocol P by class), context and split
                 (nodules by each), provenance of the archive
    bootstrap    resamples, confidence, seed; patients are drawn
    baselines    the fitted constants, or null
    figures      by name: group, label, unit, better, population, n (nodules that count),
                 patients, missing (nodules for which the model gave no answer), and model,
                 size_only, constant, model_minus_size_only: each {value, low, high} or null
    worst_cases  by class, score, diameter: the nodules with the greatest error
    warnings     what a reader of the figures must know

Numbers are finite or null: null is what is undefined on so few nodules.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from resmtnet.errors import InputError
from resmtnet.evaluation.baselines import BaselineAnswers, Baselines
from resmtnet.evaluation.bootstrap import Array, BootstrapConfig, Replicates, Resamples
from resmtnet.evaluation.figures import FIGURES, POPULATIONS, Figure, OfBaseline, Value
from resmtnet.evaluation.records import Answered, Case, Prediction
from resmtnet.findings import LABEL_BASIS, Json, ModelInfo, finite

SCHEMA = "resmtnet.metrics/1"
WORST = 10
"""Nodules in each list of worst cases."""


def summarise(
    answered: Sequence[Answered],
    model: ModelInfo,
    baselines: Baselines | None,
    provenance: Mapping[str, Any] | None = None,
    config: BootstrapConfig | None = None,
) -> Json:
    """Return the whole document.

    Args:
        answered: nodules with the model's answers.
        model: the weights that answered.
        baselines: fitted on other nodules; None leaves their columns null.
        provenance: of the data.
        config: of the bootstrap.

    Raises:
        InputError: no nodule.
    """
    if not answered:
        raise InputError("nothing to evaluate: the selection holds no nodule")
    config = config or BootstrapConfig()
    cases = [case for case, _ in answered]
    baseline = baselines.predict(cases) if baselines else None
    known: dict[tuple[str, ...], Resamples] = {}
    return {
        "schema": SCHEMA,
        "label_basis": LABEL_BASIS,
        "model": dataclasses.asdict(model),
        "data": _data(cases, provenance or {}),
        "bootstrap": {**dataclasses.asdict(config), "unit": "patient"},
        "baselines": baselines.to_json() if baselines else None,
        "figures": {f.name: _row(f, answered, baseline, config, known) for f in FIGURES},
        "worst_cases": worst_cases(answered),
        "warnings": _warnings(cases, baselines),
    }


def _data(cases: Sequence[Case], provenance: Mapping[str, Any]) -> Json:
    protocol = [case for case in cases if case.in_protocol]
    malignant = sum(case.malignant for case in protocol)
    return {
        "nodules": len(cases),
        "patients": len({case.patient_id for case in cases}),
        "protocol": {"benign": len(protocol) - malignant, "malignant": malignant},
        "context": dict(Counter(case.context for case in cases)),
        "split": dict(Counter(case.split for case in cases)),
        "provenance": dict(provenance),
    }


def _warnings(cases: Sequence[Case], baselines: Baselines | None) -> list[str]:
    synthesised = sum(case.context == "none" for case in cases)
    trained = sum(case.split == "train" for case in cases)
    found = []
    if baselines is None:
        found.append("the model keeps no baselines: nothing to compare the figures with")
    if synthesised:
        found.append(
            f"synthesised context: {synthesised} of {len(cases)} nodules come without the lung "
            "above and below them, which was continued"
        )
    if trained:
        found.append(
            f"{trained} of {len(cases)} nodules are of split train: unless they were held out of "
            "the training of this model, the figures are too good"
        )
    return found


def _row(
    figure: Figure,
    answered: Sequence[Answered],
    baseline: BaselineAnswers | None,
    config: BootstrapConfig,
    known: dict[tuple[str, ...], Resamples],
) -> Json:
    chosen = [n for n, (case, _) in enumerate(answered) if POPULATIONS[figure.population](case)]
    values = [(n, figure.answer(answered[n][1])) for n in chosen]
    given = [(n, value) for n, value in values if _is_given(value)]
    index = [n for n, _ in given]
    truth = np.array([figure.truth(answered[n][0]) for n in index], np.float64)
    model = np.array([value for _, value in given], np.float64)
    patients = tuple(answered[n][0].patient_id for n in index)
    if patients not in known:
        known[patients] = Resamples(patients, config)
    resamples = known[patients]

    def replicate(answer: Array | None) -> Replicates | None:
        return None if answer is None else resamples.replicate(figure.statistic, truth, answer)

    def of_baseline(answer: OfBaseline | None) -> Replicates | None:
        return replicate(answer(baseline)[index]) if answer and baseline else None

    columns = {
        "model": replicate(model),
        "size_only": of_baseline(figure.size_only),
        "constant": of_baseline(figure.constant),
    }
    ours, size_only = columns["model"], columns["size_only"]
    columns["model_minus_size_only"] = ours - size_only if ours and size_only else None
    row: Json = {
        name: getattr(figure, name) for name in ("group", "label", "unit", "better", "population")
    }
    row |= {"n": len(index), "patients": resamples.patients, "missing": len(chosen) - len(index)}
    return row | {name: _json(column, config) for name, column in columns.items()}


def _is_given(value: Value) -> bool:
    return value is not None and bool(np.isfinite(value).all())


def _json(column: Replicates | None, config: BootstrapConfig) -> Json | None:
    if column is None:
        return None
    estimate = column.estimate(config.confidence)
    return {name: finite(value) for name, value in estimate.to_json().items()}


def worst_cases(answered: Sequence[Answered], count: int = WORST) -> dict[str, list[Json]]:
    """Return the nodules with the greatest errors, the worst first.

    Args:
        answered: nodules with the model's answers.
        count: length of each list.

    Returns:
        By "class" (probability, protocol P), "score" and "diameter" (mm).
    """

    def listed(
        population: str,
        truth: Callable[[Case], float | None],
        answer: Callable[[Prediction], float | None],
    ) -> list[Json]:
        rows = []
        for case, prediction in answered:
            readers, given = truth(case), answer(prediction)
            if POPULATIONS[population](case) and readers is not None and given is not None:
                rows.append(_worst_row(case, readers, given))
        return sorted(rows, key=lambda row: -abs(row["error"]))[:count]

    return {
        "class": listed(
            "protocol P", lambda c: float(c.malignant), lambda p: p.probability_malignant
        ),
        "score": listed("rated", lambda c: c.score, lambda p: p.score),
        "diameter": listed(
            "all", lambda c: c.equivalent_diameter_mm, lambda p: p.equivalent_diameter_mm
        ),
    }


def _worst_row(case: Case, readers: float, given: float) -> Json:
    return {
        "id": case.id,
        "malignancy": list(case.malignancy),
        "equivalent_diameter_mm": finite(case.equivalent_diameter_mm),
        "texture": case.texture_class,
        "slice_thickness_mm": finite(case.slice_thickness_mm),
        "readers": finite(readers),
        "model": finite(given),
        "error": finite(given - readers),
    }
