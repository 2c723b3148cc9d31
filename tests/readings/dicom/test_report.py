"""The text for a report: what readers confirmed, and what nobody has looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from made_findings import make_finding
from resmtnet.ct import CTVolume, Geometry
from resmtnet.readings.answer_log import GivenAnswer
from resmtnet.readings.dicom.report_of_image import report_of
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.record import REPEAT, Answered, Reading

PLACES_IJK = ((4, 4, 3), (18, 14, 8))


@pytest.fixture
def inbox(tmp_path: Path, grid: Geometry) -> Inbox:
    """Of a CT with two candidates."""
    hu = np.full(grid.shape_kji, -800, np.int16)
    x, y, z = grid.origin_lps_mm
    ct = CTVolume.from_array(hu, grid.spacing_mm[::-1], (x, y, z), grid.direction)
    images: Any = SimpleNamespace(
        volume=lambda image: tmp_path / "ct.nii",
        open=lambda volume: ct,
        content_key=lambda image: "first",
    )
    inbox = Inbox(tmp_path / "readings.sqlite", images)
    found = [make_finding(grid, at, n, 2.0, source="candidate") for n, at in enumerate(PLACES_IJK)]
    inbox.remember("ct", GivenAnswer("ann", "2", "ab", grid, tuple(found)))
    return inbox


def _reading(grid: Geometry, n: int, **said: Any) -> Reading:
    x, y, z = (float(mm) for mm in grid.ijk_to_lps(PLACES_IJK[n]))
    return Reading("ct", "ann", (x, y, z), **said)


def test_a_candidate_that_was_confirmed_or_denied_is_not_told_as_unconfirmed(
    inbox: Inbox, grid: Geometry
) -> None:
    assert "2 candidates that nobody has confirmed are" in report_of(inbox, "ct")
    inbox.store.add(_reading(grid, 0, class_name="benign"))
    text = report_of(inbox, "ct")
    assert "1 confirmed" in text
    assert "1 candidate that nobody has confirmed is" in text
    inbox.store.add(_reading(grid, 1, class_name="not_a_nodule"))
    text = report_of(inbox, "ct")
    assert "1 confirmed" in text
    assert "nobody has confirmed" not in text


def test_a_repeat_read_changes_nothing_of_a_report(inbox: Inbox, grid: Geometry) -> None:
    kept = inbox.store.add(_reading(grid, 0, class_name="benign"))
    before = report_of(inbox, "ct")
    again = _reading(grid, 0, class_name="malignant", purpose=REPEAT)
    inbox.store.add(replace(again, nodule=kept.nodule))
    assert report_of(inbox, "ct") == before


@pytest.mark.parametrize(
    "finding",
    [
        {"size": [1, 2]},
        {"size": {"long_axis_mm": "9", "short_axis_mm": 10**400, "volume_mm3": True}},
        {"characteristics": {"texture": 5}, "guidelines": ["screening_baseline"]},
        {"characteristics": {"texture": {"rating": None}}, "guidelines": {"context": ["a"]}},
    ],
)
def test_an_answer_that_a_program_made_up_does_not_stop_the_report(
    inbox: Inbox, grid: Geometry, finding: Any
) -> None:
    answered = Answered("1", "ab", finding)
    inbox.store.add(_reading(grid, 0, class_name="benign", answered=answered))
    assert "N1 benign: at LPS" in report_of(inbox, "ct")
