"""What became of patients by pathology or follow-up, put beside what readers said of their nodules.

A diagnosis is of a patient, not of a nodule. It is given to the patient's largest nodule, which the
model has no part in choosing; a figure over those nodules is one over patients.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from resmtnet.errors import InputError
from resmtnet.evaluation.records import Answered

CODES: Mapping[str, str | None] = {
    "": None,
    "0": None,
    "1": "benign",
    "2": "malignant",
    "3": "malignant",
    "benign": "benign",
    "malignant": "malignant",
}
"""LIDC codes: 0 unknown, 1 benign or no malignant disease, 2 primary lung cancer, 3 metastasis."""
COLUMNS = ("patient_id", "diagnosis")


def read_diagnoses(path: Path) -> dict[str, str]:
    """Read a table of patients.

    Args:
        path: CSV with the columns patient_id and diagnosis; one row a patient or more, which must
            agree.

    Returns:
        "benign" or "malignant" by patient; patients without a known diagnosis are left out.

    Raises:
        InputError: no such table, an unknown code, or two diagnoses of one patient.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable table ({error})") from error
    missing = [name for name in COLUMNS if rows and name not in rows[0]]
    if missing or not rows:
        raise InputError(f"{path}: a table with the columns {' and '.join(COLUMNS)} is needed")
    found: dict[str, str] = {}
    for row in rows:
        patient, code = (str(row[name] or "").strip() for name in COLUMNS)
        if code.lower() not in CODES:
            allowed = ", ".join(code for code in CODES if code)
            raise InputError(f"{path}: diagnosis {code!r} of {patient}; allowed are {allowed}")
        name = CODES[code.lower()]
        if name and found.setdefault(patient, name) != name:
            raise InputError(f"{path}: patient {patient} is called both benign and malignant")
    return found


def with_diagnoses(answered: Sequence[Answered], diagnoses: Mapping[str, str]) -> list[Answered]:
    """Return the nodules; the largest of each patient with a diagnosis carries it."""
    largest: dict[str, tuple[float, str]] = {}
    for case, _ in answered:
        own = (case.equivalent_diameter_mm, case.id)
        largest[case.patient_id] = max(own, largest.get(case.patient_id, own))
    return [
        (replace(case, diagnosis=diagnoses.get(case.patient_id)), said)
        if largest[case.patient_id][1] == case.id
        else (case, said)
        for case, said in answered
    ]
