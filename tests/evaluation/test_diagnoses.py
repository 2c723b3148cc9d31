"""Diagnoses of patients: read from a table, given to the largest nodule, ranked by the class."""

from dataclasses import replace
from pathlib import Path

import pytest

from resmtnet.errors import InputError
from resmtnet.evaluation.diagnoses import read_diagnoses, with_diagnoses
from resmtnet.evaluation.records import Case, Prediction, read_predictions, write_predictions

CASE = Case("N", "P", (3,), 8.0, 9.0, 5.0, 1.0)
SAID = Prediction(0.5, "benign", 3.0, (2.0, 4.0))


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "diagnoses.csv"
    path.write_text(text)
    return path


def test_codes_of_the_collection_and_words_are_read(tmp_path):
    path = table(tmp_path, "patient_id,diagnosis\nA,1\nB,2\nC,3\nD,0\nE,\nF,Malignant\nB,2\n")
    assert read_diagnoses(path) == {
        "A": "benign", "B": "malignant", "C": "malignant", "F": "malignant",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient_id,diagnosis\nA,7\n", "diagnosis '7' of A; allowed are 0, 1"),
        ("patient_id,diagnosis\nA,1\nA,2\n", "A is called both benign and malignant"),
        ("patient,diagnosis\nA,1\n", "with the columns patient_id and diagnosis"),
        ("", "with the columns patient_id and diagnosis"),
    ],
)
def test_a_table_that_says_nothing_clear_is_refused(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        read_diagnoses(table(tmp_path, text))


def test_the_largest_nodule_of_a_patient_carries_the_diagnosis_through_a_file(tmp_path):
    answered = [
        (replace(CASE, id="small", equivalent_diameter_mm=5.0), SAID),
        (replace(CASE, id="large", equivalent_diameter_mm=9.0), SAID),
        (replace(CASE, id="other", patient_id="Q"), SAID),
    ]
    path = tmp_path / "predictions.csv"
    write_predictions(path, with_diagnoses(answered, {"P": "malignant"}))
    found = {case.id: case.diagnosis for case, _ in read_predictions(path)}
    assert found == {"small": None, "large": "malignant", "other": None}
