"""From readings to the document of schema resmtnet.agreement/1.

    schema, label_basis
    least      readings and patients below which a figure, and an interval, are left out
    bootstrap  resamples, confidence, seed; patients are drawn
    period     day, week or month
    readings   kept, superseded (the same reader sent something later of the nodule), standing (of
               each nodule, reader and evidence what holds of all of them); of those standing: bulk
               (accepted with many others), excluded (from training), without_answer (answers no
               model), not_a_nodule; their readers, images, nodules, patients; compared: readings
               of which something is; by: how many stand by reader, source, evidence, answer,
               acceptance, class, model_version and period
    groups     one for each evidence (impression, histology, follow_up) and answer ("blinded": the
               reader had not seen the model's answer; "unblinded": had seen it; "unknown"), never
               pooled: evidence, answer, readings, patients,
               figures: by name: label, unit, better, n (readings), patients, model {value, low,
               high} of the readings against the answers, readers {n, value, low, high} the same of
               any two readers of one nodule within the group, or null, left_out (why, or null)
               by_reader, by_model_version, by_period: some of the figures, by part of the group
    warnings   what a reader of the figures must know

A reading is compared if it answers a model, calls it a nodule, and was accepted singly; only what
later readings of the same reader left of it counts.
Numbers are finite or null: null is what is undefined, or left out.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import timezone
from itertools import permutations

from resmtnet.errors import InputError
from resmtnet.evaluation.agreement.measures import (
    MEASURES,
    AgreementMeasure,
    estimate_of,
    patient_of,
)
from resmtnet.evaluation.agreement.repeats import repeats
from resmtnet.evaluation.bootstrap import LEAST_PATIENTS, BootstrapConfig
from resmtnet.findings import LABEL_BASIS
from resmtnet.readings.record import EVIDENCE, REPEAT, Reading
from resmtnet.readings.supersede import by_reader, effective, standing_parts
from resmtnet.types import Json

SCHEMA = "resmtnet.agreement/1"
LEAST_READINGS = 10
"""A figure of fewer readings is left out: chance would decide it."""
ANSWERS = {False: "blinded", True: "unblinded", None: "unknown"}
"""Whether the reader had seen the answer."""
PERIODS = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}


def agreement(
    readings: Sequence[Reading], period: str = "month", config: BootstrapConfig | None = None
) -> Json:
    """Return the whole document.

    Args:
        readings: every single one of a store, in order of arrival.
        period: "day", "week" or "month", by the time of reading in UTC.
        config: of the bootstrap.

    Raises:
        InputError: no reading, or an unknown period.
    """
    if period not in PERIODS:
        raise InputError(f"period is {period!r}; allowed are {', '.join(PERIODS)}")
    if not readings:
        raise InputError("there are no readings to compare with the model")
    config = config or BootstrapConfig()
    groups = [
        _group(members, evidence, answer, period, config)
        for (evidence, answer), members in grouped(readings).items()
    ]
    stand = [effective(chain) for chain in by_reader(readings)]
    return {
        "schema": SCHEMA,
        "label_basis": LABEL_BASIS,
        "least": {"readings": LEAST_READINGS, "patients": LEAST_PATIENTS},
        "bootstrap": {**dataclasses.asdict(config), "unit": "patient"},
        "period": period,
        "readings": {
            "kept": len(readings),
            "superseded": len(readings) - len(stand),
            **_counts(stand),
            "compared": sum(group["readings"] for group in groups),
            "by": _by(stand, period),
        },
        "groups": groups,
        "repeats": repeats(readings, config),
        "warnings": _warnings(stand, groups),
    }


def grouped(readings: Iterable[Reading]) -> dict[tuple[str, str], list[Reading]]:
    """Return what is compared of readings, by evidence and answer; groups without any are out.

    Each reading is reduced to what of it stands: what a reader said before seeing an answer is
    never compared with an answer that was seen later.
    """
    parts = [part for chain in by_reader(readings) for part in standing_parts(chain)]
    members = [part for part in parts if compared(part)]
    found = {
        (evidence, answer): [
            reading
            for reading in members
            if reading.evidence == evidence and answer_of(reading) == answer
        ]
        for evidence in EVIDENCE
        for answer in ANSWERS.values()
    }
    return {key: readings for key, readings in found.items() if readings}


def compared(reading: Reading) -> bool:
    """Return whether a reading that stands is compared with the answer it names."""
    own = reading.acceptance == "single" and reading.purpose != REPEAT
    return reading.answered is not None and reading.class_name != "not_a_nodule" and own


def answer_of(reading: Reading) -> str:
    """Return "blinded", "unblinded", "unknown", or "none" where it answers no model."""
    return "none" if reading.answered is None else ANSWERS[reading.answered.seen]


def version_of(reading: Reading) -> str:
    """Return version and checksum of the model that is answered, or "none"."""
    answered = reading.answered
    return (
        "none" if answered is None else f"{answered.model_version} ({answered.model_sha256[:12]})"
    )


def period_of(reading: Reading, period: str) -> str:
    """Return the period in which it was read, UTC.

    >>> from datetime import datetime, timezone
    >>> read = Reading("ct", "ann", (0, 0, 0), made_at=datetime(2026, 1, 1, tzinfo=timezone.utc))
    >>> [period_of(read, period) for period in PERIODS]
    ['2026-01-01', '2026-W01', '2026-01']
    """
    return reading.made_at.astimezone(timezone.utc).strftime(PERIODS[period])


def pairs(measure: AgreementMeasure, members: Iterable[Reading]) -> list[tuple[float, float, str]]:
    """Return what was said, what was answered, and the patient, where both are there."""
    found = []
    for reading in members:
        said, answered = measure.said(reading), measure.answered(reading)
        if said is not None and answered is not None:
            found.append((said, answered, patient_of(reading)))
    return found


def reader_pairs(
    measure: AgreementMeasure, members: Iterable[Reading]
) -> list[tuple[float, float, str]]:
    """Return what each two readers said of one nodule, both ways round, and the patient."""
    by_nodule: dict[str | None, list[Reading]] = defaultdict(list)
    for reading in members:
        if measure.said(reading) is not None:
            by_nodule[reading.nodule].append(reading)
    return [
        (float(measure.said(one) or 0.0), float(measure.said(other) or 0.0), patient_of(one))
        for of_nodule in by_nodule.values()
        for one, other in permutations(of_nodule, 2)
        if one.reader != other.reader
    ]


def _group(
    members: Sequence[Reading], evidence: str, answer: str, period: str, config: BootstrapConfig
) -> Json:
    parts: dict[str, Callable[[Reading], str]] = {
        "by_reader": lambda reading: reading.reader,
        "by_model_version": version_of,
        "by_period": lambda reading: period_of(reading, period),
    }
    some = [measure for measure in MEASURES if measure.by_part]
    return {
        "evidence": evidence,
        "answer": answer,
        "readings": len(members),
        "patients": len({patient_of(reading) for reading in members}),
        "figures": {measure.name: _figure(measure, members, config) for measure in MEASURES},
        **{
            name: {
                key: {measure.name: _figure(measure, part, config) for measure in some}
                for key, part in _split(members, of).items()
            }
            for name, of in parts.items()
        },
    }


def _split(members: Iterable[Reading], of: Callable[[Reading], str]) -> dict[str, list[Reading]]:
    found: dict[str, list[Reading]] = defaultdict(list)
    for reading in members:
        found[of(reading)].append(reading)
    return dict(sorted(found.items()))


def _figure(measure: AgreementMeasure, members: Sequence[Reading], config: BootstrapConfig) -> Json:
    rows = pairs(measure, members)
    enough = len(rows) >= LEAST_READINGS
    between = reader_pairs(measure, members) if measure.between_readers else []
    model = estimate_of(measure, rows if enough else [], config)
    left_out = None
    if not enough:
        left_out = f"n = {len(rows)}; at least {LEAST_READINGS} readings are needed"
    elif model["value"] is None:
        left_out = "undefined: all readings are of one kind, or the model makes no error"
    return {
        "label": measure.label,
        "unit": measure.unit,
        "better": measure.better,
        "n": len(rows),
        "patients": len({patient for *_, patient in rows}),
        "model": model,
        "readers": {"n": len(between) // 2, **estimate_of(measure, between, config)}
        if len(between) // 2 >= LEAST_READINGS
        else None,
        "left_out": left_out,
    }


def _counts(stand: Sequence[Reading]) -> Json:
    return {
        "standing": len(stand),
        "bulk": sum(reading.acceptance == "bulk" for reading in stand),
        "excluded": sum(reading.excluded for reading in stand),
        "without_answer": sum(reading.answered is None for reading in stand),
        "not_a_nodule": sum(reading.class_name == "not_a_nodule" for reading in stand),
        "readers": len({reading.reader for reading in stand}),
        "images": len({reading.image for reading in stand}),
        "nodules": len({reading.nodule for reading in stand}),
        "patients": len({patient_of(reading) for reading in stand}),
    }


def _by(stand: Sequence[Reading], period: str) -> Json:
    by: dict[str, Callable[[Reading], str]] = {
        "reader": lambda reading: reading.reader,
        "source": lambda reading: reading.source,
        "evidence": lambda reading: reading.evidence,
        "answer": answer_of,
        "acceptance": lambda reading: reading.acceptance,
        "class": lambda reading: reading.class_name or "not given",
        "model_version": version_of,
        "period": lambda reading: period_of(reading, period),
    }
    return {name: dict(sorted(Counter(map(of, stand)).items())) for name, of in by.items()}


def _warnings(stand: Sequence[Reading], groups: Sequence[Json]) -> list[str]:
    found = []
    if not groups:
        found.append("No reading answers a model: there is nothing to compare.")
    small = [f"{g['evidence']}, {g['answer']}" for g in groups if g["readings"] < LEAST_READINGS]
    if small:
        found.append(
            f"Figures are left out where there are fewer than {LEAST_READINGS} readings: "
            f"{'; '.join(small)}."
        )
    if any(group["answer"] != "blinded" for group in groups):
        found.append(
            "Readers who have seen the model's answer tend to agree with it. Only blinded readings "
            "show how good the model is."
        )
    if any(reading.study_patient is None for reading in stand):
        found.append(
            "Some readings have no patient. Each of their images counts as one patient, so the "
            "intervals are too narrow where a patient has several images."
        )
    return found
