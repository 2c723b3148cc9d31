"""The server's log: one line an event, with the request, without patients."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from resmtnet.audit import CALLER
from resmtnet.errors import StoreError, VolumeError
from resmtnet.server.logs import JsonLines, RequestIds, TextLines, without_patient
from resmtnet.server.metrics import route_label


def record(text: str, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("resmtnet.x", logging.WARNING, "x.py", 1, text, None, None)
    made.__dict__.update(more)
    return made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot read /studies/Smith_John.nii.gz: damaged", "cannot read [path] damaged"),
        ("C:\\studies\\Smith.nrrd is no CT", "[path] is no CT"),
        ("series 1.2.840.113619.2.55.3 is damaged", "series [uid] is damaged"),
        ("took 0.25 s", "took 0.25 s"),
        ("first\nsecond /secret", "first"),
    ],
)
def test_paths_and_uids_are_left_out(text: str, told: str) -> None:
    assert without_patient(record(text)) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Path("/studies/Smith John.nii.gz"), "it: [path]"),
        (VolumeError("Smith John.nii.gz is damaged"), "it: VolumeError"),
        (ValueError("Smith^John"), "it: ValueError"),
        (
            OSError(28, "No space left on device", "Smith John.nii.gz"),
            "it: No space left on device",
        ),
        (StoreError("the database is locked"), "it: the database is locked"),
    ],
)
def test_what_a_message_is_filled_with_names_no_patient(value: object, told: str) -> None:
    filled = logging.LogRecord("x", logging.WARNING, "x.py", 1, "it: %s", (value,), None)
    assert without_patient(filled) == told


def test_an_error_tells_where_but_not_its_text() -> None:
    try:
        raise ValueError("Smith^John")
    except ValueError:
        failed = record("The request failed", exc_info=sys.exc_info())
    held = CALLER.set({"request_id": "abc"})
    RequestIds().filter(failed)
    CALLER.reset(held)
    told = json.loads(JsonLines().format(failed))
    assert told["request_id"] == "abc"
    assert told["error"][0] == "ValueError"
    assert "test_logs.py" in told["error"][1]
    assert "Smith" not in json.dumps(told)
    assert "Smith" not in TextLines().format(failed)
    assert "[abc]" in TextLines().format(failed)


def test_labels_of_figures_are_bounded_whatever_clients_ask_for() -> None:
    asked = [f"/smith-{n}" for n in range(50)] + ["/datastore/image/smith", "/proxy/dicom/x/1.2.3"]
    assert {route_label(path) for path in asked} == {"other", "/datastore", "/proxy"}
