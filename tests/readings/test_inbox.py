"""Every way in gives the same record, without any server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import CTVolume, Geometry
from resmtnet.errors import InputError, ReadingError
from resmtnet.readings.answer_log import GivenAnswer
from resmtnet.readings.formats.class_mask import write_mask
from resmtnet.readings.formats.markups_write import markups
from resmtnet.readings.inbox import Inbox, SavedLabel

AT = (8, 8, 5)


class Images:
    """One image, "ct", which can be replaced."""

    def __init__(self, grid: Geometry) -> None:
        hu = np.full(grid.shape_kji, -800, np.int16)
        x, y, z = grid.origin_lps_mm
        self._ct = CTVolume.from_array(hu, grid.spacing_mm[::-1], (x, y, z), grid.direction)
        self.content = "first"

    def volume(self, image: str) -> Path:
        if image != "ct":
            raise ReadingError("image", f"is {image!r}; there is only 'ct'")
        return Path("ct.nrrd")

    def open(self, volume: Path) -> CTVolume:
        return self._ct

    def content_key(self, image: str) -> str | None:
        return self.content


@pytest.fixture
def inbox(tmp_path: Path, grid: Geometry) -> Inbox:
    return Inbox(tmp_path / "resmtnet" / "readings.sqlite", Images(grid))


@pytest.fixture
def answer(grid: Geometry, make_finding: Callable[..., Any]) -> GivenAnswer:
    return GivenAnswer("ann", "2", "ab", grid, (make_finding(grid, AT),))


@pytest.fixture
def label(tmp_path: Path) -> Callable[..., SavedLabel]:
    def make(content: object, name: str = "label.json") -> SavedLabel:
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return SavedLabel("ct", path, "ann", "ann")

    return make


def test_mask_markups_and_documents_give_one_record(
    inbox: Inbox, answer: GivenAnswer, label: Any, grid: Geometry
) -> None:
    inbox.remember("ct", answer)
    renamed = markups(answer.findings, grid)
    renamed["markups"][0]["controlPoints"][0]["label"] = "N1 benign"
    centre = list(answer.findings[0].centre_lps_mm)
    mask = write_mask(answer.findings, grid, ".nrrd")
    segments = [{"name": "malignant", "idx": 1}, {"name": "benign", "idx": 2}]
    labels = {
        "mask": SavedLabel("ct", mask, "ann", "ann", segments),
        "markups": label(renamed, "markups.json"),
        "label": label({"centre_lps_mm": centre, "class": "benign"}),
    }
    for source, saved in labels.items():
        (reading,) = inbox.add_label(replace(saved, reader=source)).readings
        assert reading.source == source
    mask.unlink()
    given = {"image": "ct", "reader": "rest", "centre_lps_mm": centre, "class": "benign"}
    inbox.add_document(given)
    kept = inbox.store.readings()
    assert [reading.source for reading in kept] == ["mask", "markups", "label", "rest"]
    assert {reading.class_name for reading in kept} == {"benign"}
    assert len({reading.nodule for reading in kept}) == 1
    assert all(r.answered and r.answered.finding["id"] == "N1" for r in kept)


def test_an_answer_for_an_image_that_was_replaced_is_not_the_one_that_is_corrected(
    inbox: Inbox, answer: GivenAnswer, label: Any
) -> None:
    centre = list(answer.findings[0].centre_lps_mm)
    inbox.remember("ct", answer)
    (before,) = inbox.add_label(label({"centre_lps_mm": centre, "class": "benign"})).readings
    inbox.images.content = "second"  # type: ignore[attr-defined]
    (after,) = inbox.add_label(label({"centre_lps_mm": centre, "malignancy": 2})).readings
    assert before.answered is not None
    assert after.answered is None


def test_a_label_that_cannot_be_read_says_why(inbox: Inbox, label: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at most 200"):
        inbox.add_label(label([{"class": "benign"}] * 201))
    broken = label(None)
    broken.path.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        inbox.add_label(broken)
    assert inbox.store.count() == 0


def test_a_document_for_no_image_or_outside_it_is_refused_by_its_field(inbox: Inbox) -> None:
    given = {"image": "ct", "reader": "ann", "centre_lps_mm": [900.0, 0.0, 0.0]}
    with pytest.raises(ReadingError, match="outside the CT") as outside:
        inbox.add_document(given)
    with pytest.raises(ReadingError) as no_image:
        inbox.add_document({**given, "image": "other"})
    assert (outside.value.field, no_image.value.field) == ("centre_lps_mm", "image")


def test_the_inbox_imports_no_server_and_no_torch() -> None:
    code = (
        "import sys, resmtnet.readings.inbox; "
        "print([name for name in ('monailabel', 'fastapi', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_fails_after_a_reading_was_kept_does_not_hide_that_it_was(
    inbox: Inbox, label: Any, answer: GivenAnswer
) -> None:
    told: list[int] = []

    def fail(count: int) -> None:
        raise InputError("no training starts")

    inbox.on_kept = fail
    inbox.on_readings = lambda readings: told.append(len(readings))
    centre = list(answer.findings[0].centre_lps_mm)
    document = {"image": "ct", "reader": "ann", "centre_lps_mm": centre, "class": "benign"}
    assert inbox.add_document(document).class_name == "benign"
    assert len(inbox.add_label(label(document)).readings) == 1
    assert inbox.store.count() == 2
    assert told == [1, 1]
