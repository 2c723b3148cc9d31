"""From a model's predictions to the document of an evaluation, schema resmtnet.metrics/3.

    schema, label_basis
    model        name, version, sha256 of the weights that answered; null for a cross-validation
    predictions  of a cross-validation, its files: file, sha256, nodules, patients; else empty
    data         nodules, patients, protocol (nodules of protocol P by class), context and split
                 (nodules by each), provenance of the archive
    bootstrap    resamples, confidence, seed; patients are drawn
    baselines    null, or source ("kept with the model", "fitted on the other files") and fits:
                 the fitted constants, one entry, or one for each of the predictions
    figures      the headline figures (about 40), each on all nodules of its population, by name:
                 group, label, unit, better, population, stratum (the part of a population that it
                 is; null here), n (nodules that count), patients, missing (nodules for which the
                 model gave no answer), model {value, low, high}, and
                 beside: by column (size_only: by the equivalent diameter, size_only_long_axis,
                 size_only_mean_axis, constant, readers: one against the others) {n, value, low,
                 high, model_minus: {value, low, high}}, paired by the same draws of patients;
                 n counts nodules, of the readers' column those with enough readers
                 binomial: null, or of a coverage {expected, low, high, inside}: the central 95%
                 of the shares that n independent intervals of that coverage give
    details      the same figures on parts of the nodules (by size, texture, slice thickness), by
                 name, in the form of the headline figures
    confusion    classes, and nodules by [the readers' class][the model's class]; at least three
                 readers, a median of 3 is indeterminate
    worst_cases  by class, score, diameter: the nodules with the greatest error
    warnings     what a reader of the figures must know

Numbers are finite or null: null is what is undefined on so few nodules.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

from resmtnet.characteristics import LABEL_NAMES
from resmtnet.errors import InputError
from resmtnet.evaluation.bootstrap import BootstrapConfig, Replicates, Resamples
from resmtnet.evaluation.evidence import Evidence
from resmtnet.evaluation.figure import Figure, Value
from resmtnet.evaluation.figures import FIGURES
from resmtnet.evaluation.records import Case
from resmtnet.evaluation.worst import worst_cases
from resmtnet.findings import LABEL_BASIS, ModelInfo, finite
from resmtnet.types import Array, Json

SCHEMA = "resmtnet.metrics/3"
BINOMIAL = 0.95
"""Central share of the binomial distribution within which a coverage counts as kept."""


def summarise(
    evidence: Evidence,
    model: ModelInfo | None,
    provenance: Mapping[str, Any] | None = None,
    config: BootstrapConfig | None = None,
    predictions: Sequence[Json] = (),
) -> Json:
    """Return the whole document.

    Args:
        evidence: nodules with the model's answers and those of the baselines.
        model: the weights that answered; None for a cross-validation.
        provenance: of the data.
        config: of the bootstrap.
        predictions: the files of a cross-validation.

    Raises:
        InputError: no nodule.
    """
    if not evidence.answered:
        raise InputError("nothing to evaluate: the selection holds no nodule")
    config = config or BootstrapConfig()
    cases = [case for case, _ in evidence.answered]
    baselines = {"source": evidence.source, "fits": [fit.to_json() for fit in evidence.fits]}
    headline, details = (
        {
            f.name: _row(f, evidence, config)
            for f in FIGURES
            if f.is_headline == of_all and _asked_for(f, evidence)
        }
        for of_all in (True, False)
    )
    return {
        "schema": SCHEMA,
        "label_basis": LABEL_BASIS,
        "model": dataclasses.asdict(model) if model else None,
        "predictions": list(predictions),
        "data": _data(cases, provenance or {}),
        "bootstrap": {**dataclasses.asdict(config), "unit": "patient"},
        "baselines": baselines if evidence.fits else None,
        "figures": headline,
        "details": details,
        "confusion": confusion(evidence),
        "worst_cases": worst_cases(evidence.answered),
        "warnings": _warnings(cases, evidence),
    }


def _asked_for(figure: Figure, evidence: Evidence) -> bool:
    return not figure.optional or any(
        figure.answer(answer) is not None for _, answer in evidence.answered
    )


def confusion(evidence: Evidence) -> Json:
    """Return how often the model names each class, by the class of the readers' median."""
    classes = sorted(LABEL_NAMES, key=("benign", "indeterminate", "malignant").index)
    counted: Counter[tuple[str, str]] = Counter()
    for case, answer in evidence.answered:
        if case.enough_readers and case.class_name:
            counted[case.class_name, answer.class_name] += 1
    table = [[counted[readers, model] for model in classes] for readers in classes]
    return {"classes": classes, "table": table}


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


def _warnings(cases: Sequence[Case], evidence: Evidence) -> list[str]:
    synthesised = sum(case.context == "none" for case in cases)
    trained = sum(case.split == "train" for case in cases)
    found = []
    if evidence.baseline is None:
        found.append(
            "one file of predictions alone: no others to fit baselines on"
            if evidence.held_out
            else "the model keeps no baselines: nothing to compare the figures with"
        )
    if synthesised:
        found.append(
            f"synthesised context: {synthesised} of {len(cases)} nodules come without the lung "
            "above and below them, which was continued"
        )
    if trained and not evidence.held_out:
        found.append(
            f"{trained} of {len(cases)} nodules are of split train: unless they were held out of "
            "the training of this model, the figures are too good"
        )
    return found


def _row(figure: Figure, evidence: Evidence, config: BootstrapConfig) -> Json:
    answered = evidence.answered
    truths = {
        n: said
        for n, (case, _) in enumerate(answered)
        if figure.population.holds(case) and np.isfinite(said := figure.truth(case))
    }
    values = {n: value for n in truths if _is_given(value := figure.answer(answered[n][1]))}
    index = list(values)
    truth = np.array([truths[n] for n in index], np.float64)
    patients = [answered[n][0].patient_id for n in index]
    resamples = Resamples(patients, config)
    model = resamples.replicate(figure.statistic, truth, _array(list(values.values())))
    beside = {
        **_baselines(figure, evidence, index, truth, resamples),
        **_readers(figure, [answered[n][0] for n in index], config),
    }
    return {
        "group": figure.group,
        "label": figure.label,
        "unit": figure.unit,
        "better": figure.better,
        "population": figure.population.label,
        "stratum": figure.stratum,
        "n": len(index),
        "patients": resamples.patients,
        "missing": len(truths) - len(index),
        "model": _json(model, config),
        "beside": {
            name: {"n": n, **_json(other, config), "model_minus": _json(model - other, config)}
            for name, (n, other) in beside.items()
        },
        "binomial": _binomial(figure, len(index), model.value),
    }


def _baselines(
    figure: Figure, evidence: Evidence, index: list[int], truth: Array, resamples: Resamples
) -> dict[str, tuple[int, Replicates]]:
    """The columns of those baselines that answer for each of these nodules."""
    if evidence.baseline is None or not index:
        return {}
    found = {}
    for name, of in figure.baselines.items():
        answer = of(evidence.baseline)[index]
        if np.isfinite(answer).all():
            found[name] = len(index), resamples.replicate(figure.statistic, truth, answer)
    return found


def _readers(
    figure: Figure, cases: list[Case], config: BootstrapConfig
) -> dict[str, tuple[int, Replicates]]:
    """The column of the readers, from the same draws of patients."""
    if figure.readers is None:
        return {}
    rows = [(case, row) for case in cases for row in figure.readers(case)]
    if not rows:
        return {}
    truth, answer = np.array([row for _, row in rows], np.float64).T
    resamples = Resamples(
        [case.patient_id for case, _ in rows], config, [case.patient_id for case in cases]
    )
    nodules = len({case.id for case, _ in rows})
    return {"readers": (nodules, resamples.replicate(figure.statistic, truth, answer))}


def _binomial(figure: Figure, count: int, value: float) -> Json | None:
    if figure.expected_share is None or not count:
        return None
    bounds = binom.interval(BINOMIAL, count, figure.expected_share)
    low, high = (float(bound) / count for bound in bounds)
    return {
        "expected": figure.expected_share,
        "low": finite(low),
        "high": finite(high),
        "inside": bool(low - 1e-9 <= value <= high + 1e-9),
    }


def _array(values: list[Value]) -> Array:
    return np.array(values, np.float64)


def _is_given(value: Value) -> bool:
    return value is not None and bool(np.isfinite(value).all())


def _json(column: Replicates, config: BootstrapConfig) -> Json:
    estimate = column.estimate(config.confidence)
    return {name: finite(value) for name, value in estimate.to_json().items()}
