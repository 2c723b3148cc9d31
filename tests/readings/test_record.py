"""The record of a reading: valid once built, and the same after a way through JSON."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import Any

import pytest

from resmtnet.errors import ReadingError
from resmtnet.readings.record import Answered, MaskReference, Reading

FULL = Reading(
    "ct",
    "ann",
    (1.5, -2.0, 3.0),
    nodule="n1",
    class_name="not_a_nodule",
    malignancy=1,
    sizes={"long_axis_mm": 8.25, "solid_component_mm": 0.0},
    characteristics={"texture": 5, "calcification": 6},
    evidence="follow_up",
    acceptance="bulk",
    excluded=True,
    comment="stable for two years",
    source="dicom_sr",
    mask=MaskReference("a.nrrd", "ab", 2),
    answered=Answered("2", "cd", {"id": "N1"}, seen=False),
    study_patient="p1",
    made_at=datetime(2026, 1, 31, 12, tzinfo=timezone.utc),
    id="r1",
)
LEAST = {"image": "ct", "reader": "ann", "centre_lps_mm": [1, 2, 3]}


def test_a_reading_is_the_same_after_json() -> None:
    assert Reading.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL


def test_fields_that_are_missing_or_null_keep_their_default() -> None:
    reading = Reading.from_json({**LEAST, "malignancy": None, "size": {"volume_mm3": None}})
    assert reading.malignancy is None
    assert reading.sizes == {}
    assert reading.trains
    assert reading.made_at.tzinfo is not None


def test_a_reading_accepted_in_bulk_or_excluded_does_not_train() -> None:
    assert not Reading.from_json({**LEAST, "acceptance": "bulk"}).trains
    assert not Reading.from_json({**LEAST, "excluded": True}).trains


ANSWERED = {"model_version": "2", "model_sha256": "ab", "finding": {}}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"schema": "resmtnet.reading/9"}, "schema"),
        ({"malignacy": 3}, "malignacy"),
        ({"image": " "}, "image"),
        ({"reader": 7}, "reader"),
        ({"made_at": "0001-01-01T00:00:00+23:00"}, "made_at"),
        ({"centre_lps_mm": [1, 2, 10**400]}, "centre_lps_mm"),
        ({"id": {}}, "id"),
        ({"id": ""}, "id"),
        ({"nodule": 3}, "nodule"),
        ({"patient": []}, "patient"),
        ({"centre_lps_mm": None}, "centre_lps_mm"),
        ({"centre_lps_mm": [1, 2]}, "centre_lps_mm"),
        ({"centre_lps_mm": [1, 2, float("inf")]}, "centre_lps_mm"),
        ({"class": "Malignant"}, "class"),
        ({"malignancy": 6}, "malignancy"),
        ({"malignancy": True}, "malignancy"),
        ({"size": {"width_mm": 3}}, "size"),
        ({"size": [3]}, "size"),
        ({"size": {"long_axis_mm": -1}}, "size.long_axis_mm"),
        ({"size": {"long_axis_mm": 501}}, "size.long_axis_mm"),
        ({"characteristics": {"texture": 0}}, "characteristics.texture"),
        ({"characteristics": {"malignancy": 3}}, "characteristics"),
        ({"evidence": "guess"}, "evidence"),
        ({"acceptance": "maybe"}, "acceptance"),
        ({"source": "fax"}, "source"),
        ({"excluded": 1}, "excluded"),
        ({"comment": "x" * 10_001}, "comment"),
        ({"made_at": "yesterday"}, "made_at"),
        ({"mask": {"path": "a"}}, "mask"),
        ({"mask": {"file": "", "sha256": "ab"}}, "mask.file"),
        ({"mask": {"file": "a", "sha256": "ab", "value": 0}}, "mask.value"),
        ({"answered": "N1"}, "answered"),
        ({"answered": {**ANSWERED, "finding": []}}, "answered.finding"),
        ({"answered": {**ANSWERED, "model_version": None}}, "answered.model_version"),
        ({"answered": {**ANSWERED, "seen": "no"}}, "answered.seen"),
    ],
)
def test_a_bad_field_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ReadingError) as refused:
        Reading.from_json({**LEAST, **given})
    assert refused.value.field == field


@pytest.mark.parametrize("missing", ["image", "reader", "centre_lps_mm"])
def test_a_missing_field_is_named(missing: str) -> None:
    document = {name: value for name, value in LEAST.items() if name != missing}
    with pytest.raises(ReadingError, match="is missing") as refused:
        Reading.from_json(document)
    assert refused.value.field == missing


@pytest.mark.parametrize("field", sorted(FULL.to_json()))
def test_null_is_a_field_that_is_missing(field: str) -> None:
    document = {**LEAST, field: None}
    if field in LEAST:
        with pytest.raises(ReadingError, match="is missing") as refused:
            Reading.from_json(document)
        assert refused.value.field == field
    else:
        left_out = {name: value for name, value in document.items() if name != field}
        expected = Reading.from_json(left_out).to_json()
        found = Reading.from_json(document).to_json()
        own = {"id", "made_at"}  # given anew to each
        assert {n: v for n, v in found.items() if n not in own} == {
            n: v for n, v in expected.items() if n not in own
        }


OF_MASK = {"file": "a", "sha256": "ab", "value": 1}


@pytest.mark.parametrize("field", sorted(OF_MASK))
def test_null_in_a_mask_is_named(field: str) -> None:
    with pytest.raises(ReadingError) as refused:
        Reading.from_json({**LEAST, "mask": {**OF_MASK, field: None}})
    assert refused.value.field == f"mask.{field}"


@pytest.mark.parametrize("field", sorted(ANSWERED))
def test_null_in_what_is_answered_is_named(field: str) -> None:
    with pytest.raises(ReadingError) as refused:
        Reading.from_json({**LEAST, "answered": {**ANSWERED, field: None}})
    assert refused.value.field == f"answered.{field}"


WRONG: tuple[Any, ...] = (
    True,
    7,
    -1,
    2.5,
    math.nan,
    1e999,
    "",
    "x",
    "\ud83d",
    [],
    [[]],
    {},
    {"": {}},
)


@pytest.mark.parametrize("field", sorted(FULL.to_json()))
def test_any_value_gives_a_reading_or_an_error_that_names_the_field(field: str) -> None:
    full = FULL.to_json()
    inner = full[field] if isinstance(full[field], dict) else {}
    given = [*WRONG, *({**inner, name: value} for name in inner for value in WRONG)]
    for value in given:
        error = refusal({**full, field: value})
        assert error is None or error.field.split(".")[0] == field
        assert len(str(error)) < 400


def refusal(document: dict[str, Any]) -> ReadingError | None:
    """What is wrong with a document; what is read of a good one is the same after JSON."""
    try:
        reading = Reading.from_json(document)
    except ReadingError as error:
        return error
    assert Reading.from_json(reading.to_json()).to_json() == reading.to_json()
    return None


@pytest.mark.parametrize("document", [None, [], "reading", 3])
def test_what_is_no_object_is_refused(document: Any) -> None:
    with pytest.raises(ReadingError, match="not an object"):
        Reading.from_json(document)


def test_a_time_needs_its_zone() -> None:
    with pytest.raises(ReadingError, match="time zone"):
        Reading("ct", "ann", (0, 0, 0), made_at=datetime(2026, 1, 31))
    assert Reading.from_json({**LEAST, "made_at": "2026-01-31T12:00:00"}).made_at.tzinfo


def test_a_long_text_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ReadingError) as refused:
        Reading.from_json({**LEAST, "comment": "x" * 100_000})
    assert len(str(refused.value)) < 200
