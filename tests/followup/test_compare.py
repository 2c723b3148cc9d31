"""Comparing two CTs: who is whose partner, what is new, vanished or not covered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resmtnet.ct import CTVolume, Geometry
from resmtnet.errors import InputError, VolumeError
from resmtnet.findings import Finding
from resmtnet.followup import compare as module
from resmtnet.followup.compare import Comparison, compare, compare_findings
from resmtnet.followup.picture import save_picture
from resmtnet.followup.registration import Lungs, Registration
from resmtnet.followup.text import comparison_lines
from resmtnet.followup.tracking import nodules_with_tracking
from resmtnet.followup.visit import Visit
from resmtnet.inference.candidates.blobs import Candidate
from resmtnet.inference.candidates.grid import SearchGrid
from resmtnet.inference.candidates.lungs import LEFT, RIGHT
from resmtnet.inference.postprocessing import PROBABLY_NOT
from scripted_model import AIR_HU, NODULE_HU, ScriptedModel

GRID = Geometry((120, 40, 40), (1.0, 1.0, 1.0), (-60.0, -20.0, -20.0), np.eye(3))
SHIFT_MM = np.array([3.0, 2.0, -4.0])
"""From the prior to the current CT."""
DAYS = (Visit("prior", date(2024, 1, 1)), Visit("current", date(2024, 6, 29)))


def ct(*balls: tuple[Sequence[float], float]) -> CTVolume:
    """A CT with balls: centre in LPS mm, and diameter."""
    hu = np.full(GRID.shape_kji, AIR_HU, np.int16)
    index = np.stack(np.meshgrid(*map(np.arange, GRID.size_ijk), indexing="ij"), axis=-1)
    places = GRID.ijk_to_lps(index).transpose(2, 1, 0, 3)
    for centre, mm in balls:
        hu[np.linalg.norm(places - centre, axis=-1) <= mm / 2] = NODULE_HU["malignant"]
    return CTVolume.from_array(hu, GRID.spacing_mm[::-1], GRID.origin_lps_mm, GRID.direction)


class PlaceModel(ScriptedModel):
    """Says of a point what lies there, or that it is probably no nodule."""

    def __call__(
        self, ct: CTVolume, centres_mm: Sequence[Any], context: str | None = None
    ) -> list[Finding]:
        answers = super().__call__(ct, centres_mm) if self.find(ct) else []
        told = []
        for n, point in enumerate(centres_mm):
            place = tuple(float(mm) for mm in point)
            near = answers and np.linalg.norm(np.subtract(answers[n].centre_lps_mm, place)) < 6
            if near:
                told.append(answers[n])
            else:
                empty = super().__call__(MADE, [point])[0]
                told.append(
                    replace(
                        empty,
                        id=f"N{n + 1}",
                        centre_lps_mm=place,
                        centroid_lps_mm=None,
                        warnings=(PROBABLY_NOT,),
                    )
                )
        return told


MADE = ct(((0.0, 0.0, 0.0), 6.0))


@pytest.fixture(autouse=True)
def shifted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Registers every two CTs as SHIFT_MM apart; the list holds the overlap of the lungs."""
    overlap = [0.97]
    small = Geometry((30, 10, 10), (4.0, 4.0, 4.0), (-58.5, -18.5, -18.5), np.eye(3))
    sides = np.where(np.arange(30) < 15, RIGHT, LEFT).astype(np.uint8)
    labels = np.broadcast_to(sides, small.shape_kji).copy()
    lungs = Lungs(SearchGrid(np.zeros(small.shape_kji, np.float32), small), labels, labels)
    moved = np.broadcast_to(SHIFT_MM.astype(np.float32), (*small.shape_kji, 3)).copy()

    def register(prior: CTVolume, current: CTVolume) -> Registration:
        return Registration(lungs, lungs, moved, overlap[0])

    monkeypatch.setattr(module, "register", register)
    monkeypatch.setattr("resmtnet.followup.look.find_candidates", _search)
    return overlap


def _search(ct: CTVolume, *, maximum: int = 10) -> list[Candidate]:
    found = ScriptedModel().find(ct)
    return [Candidate(f.centre_lps_mm, 1.0, 6.0) for f in found]


RIGHT_ONE, LEFT_ONE = (-40.0, 0.0, 0.0), (35.0, 2.0, 3.0)


def moved(place: Sequence[float], by: float = 0.0) -> tuple[float, float, float]:
    x, y, z = np.asarray(place) + SHIFT_MM + by
    return float(x), float(y), float(z)


def compared(prior: CTVolume, current: CTVolume, **options: Any) -> Comparison:
    return compare(PlaceModel(), prior, current, visits=DAYS, **options)


def test_nodules_of_both_cts_are_paired_by_their_mapped_places() -> None:
    prior = ct((RIGHT_ONE, 8.0), (LEFT_ONE, 8.0))
    current = ct((moved(LEFT_ONE), 10.0), (moved(RIGHT_ONE), 8.0))
    found = compared(
        prior,
        current,
        prior_points=[RIGHT_ONE, LEFT_ONE],
        points=[moved(LEFT_ONE), moved(RIGHT_ONE)],
    )
    assert [f.prior["nodule_id"] for f in found.current if f.prior] == ["N2", "N1"]
    assert found.gone == []
    first = found.current[0].prior
    assert first is not None
    assert first["status"] == "paired"
    assert first["distance_mm"] < 1.0
    assert first["interval_days"] == 180
    assert first["change"]["volume_mm3"]["percent"] > 60


def test_a_nodule_of_the_prior_alone_is_looked_for_at_its_mapped_place() -> None:
    found = compared(
        ct((RIGHT_ONE, 8.0)), ct((moved(RIGHT_ONE, 1.0), 8.0)), prior_points=[RIGHT_ONE]
    )
    assert len(found.current) == 1
    assert found.current[0].prior is not None
    assert found.current[0].prior["nodule_id"] == "N1"


def test_a_nodule_further_off_than_a_click_is_found_by_the_search() -> None:
    off = (*moved(RIGHT_ONE)[:2], moved(RIGHT_ONE)[2] + 9.0)
    found = compared(ct((RIGHT_ONE, 8.0)), ct((off, 8.0)), prior_points=[RIGHT_ONE])
    assert found.current[0].prior is not None
    assert found.current[0].prior["distance_mm"] == pytest.approx(9, abs=0.5)


def test_a_nodule_of_the_current_ct_alone_is_looked_for_in_the_prior() -> None:
    found = compared(ct((RIGHT_ONE, 8.0)), ct((moved(RIGHT_ONE), 8.0)), points=[moved(RIGHT_ONE)])
    assert [f.id for f in found.prior] == ["N1"]
    assert found.current[0].prior is not None
    assert found.current[0].prior["status"] == "paired"


def test_what_is_not_there_any_more_is_told_to_have_vanished() -> None:
    found = compared(
        ct((RIGHT_ONE, 8.0), (LEFT_ONE, 8.0)),
        ct((moved(LEFT_ONE), 8.0)),
        prior_points=[RIGHT_ONE, LEFT_ONE],
    )
    assert [(one.prior.id, one.status) for one in found.gone] == [("N1", "vanished")]
    assert found.gone[0].place_lps_mm == pytest.approx(moved(RIGHT_ONE), abs=0.5)


def test_a_nodule_that_is_given_twice_has_not_vanished() -> None:
    twice = [RIGHT_ONE, (RIGHT_ONE[0] + 1.0, *RIGHT_ONE[1:])]
    prior, current = ct((RIGHT_ONE, 8.0)), ct((moved(RIGHT_ONE), 8.0))
    found = compared(prior, current, prior_points=twice)
    assert [one.status for one in found.gone] == ["shared"]
    text = "\n".join(comparison_lines(found.to_json(PlaceModel(), prior, current)))
    assert "paired with another one of the prior" in text
    back = compared(prior, current, points=[moved(one) for one in twice])
    assert [f.prior["status"] for f in back.current if f.prior] == ["paired", "shared"]


def test_what_was_not_there_before_is_new() -> None:
    found = compared(
        ct((LEFT_ONE, 8.0)),
        ct((moved(LEFT_ONE), 8.0), (moved(RIGHT_ONE), 8.0)),
        points=[moved(LEFT_ONE), moved(RIGHT_ONE)],
    )
    assert [f.prior["status"] for f in found.current if f.prior] == ["paired", "new"]


def test_what_the_other_ct_does_not_show_is_neither_new_nor_vanished() -> None:
    edge = (-40.0, 0.0, -18.0)  # the current CT ends 2 mm below
    found = compared(ct((edge, 3.0)), ct((moved(LEFT_ONE), 8.0)), prior_points=[edge])
    assert [one.status for one in found.gone] == ["not_covered"]


def test_a_poor_registration_is_told_and_nothing_is_called_vanished(shifted: list[float]) -> None:
    shifted[0] = 0.5
    found = compared(ct((RIGHT_ONE, 8.0)), ct((moved(LEFT_ONE), 8.0)), prior_points=[RIGHT_ONE])
    assert [one.status for one in found.gone] == ["unclear"]
    assert "poorly" in found.warnings[0]


def test_nothing_is_paired_across_the_lungs() -> None:
    before, now = (-5.0, 0.0, 0.0), (4.0, 2.0, -4.0)
    found = compared(ct((before, 6.0)), ct((now, 6.0)), prior_points=[before], points=[now])
    assert found.current[0].prior is not None
    assert found.current[0].prior["status"] != "paired"


def test_without_points_both_cts_are_searched() -> None:
    found = compared(ct((RIGHT_ONE, 8.0)), ct((moved(RIGHT_ONE), 8.0)))
    assert [f.source for f in found.current] == ["candidate"]
    assert found.current[0].prior is not None
    assert found.current[0].prior["status"] == "paired"


def test_findings_that_are_there_already_get_their_prior() -> None:
    current = ct((moved(RIGHT_ONE), 8.0))
    model = PlaceModel()
    findings = model(current, [moved(RIGHT_ONE)])
    told = compare_findings(
        model, ct((RIGHT_ONE, 8.0)), current, findings, context=None, visits=DAYS
    )
    assert [f.id for f in told] == ["N1"]
    assert told[0].prior is not None
    assert told[0].to_json()["prior"]["status"] == "paired"
    assert Finding.from_json(told[0].to_json()).prior == told[0].prior


def test_two_patients_are_refused_before_anything_is_computed() -> None:
    visits = Visit("a", patient="P"), Visit("b", patient="Q")
    with pytest.raises(InputError, match="different patients"):
        compare(PlaceModel(), MADE, MADE, points=[(0, 0, 0)], visits=visits)


def test_a_ct_without_lungs_is_refused() -> None:
    with pytest.raises(VolumeError, match="the prior CT: no lungs"):
        Lungs.of(CTVolume.from_array(np.zeros((9, 9, 9), np.int16), (3, 3, 3)), "the prior CT")


def test_the_document_tells_all_and_the_text_says_it_in_words() -> None:
    prior = ct((RIGHT_ONE, 8.0), (LEFT_ONE, 8.0))
    current = ct((moved(LEFT_ONE), 10.0))
    found = compared(prior, current, prior_points=[RIGHT_ONE, LEFT_ONE])
    document = found.to_json(PlaceModel(), prior, current)
    assert document["schema"] == "resmtnet.comparison/1"
    assert document["current"]["schema"] == document["prior"]["schema"] == "resmtnet.findings/1"
    assert document["dates"] == ["2024-01-01", "2024-06-29"]
    text = "\n".join(comparison_lines(document))
    assert document["acquisition"]["prior"]["slice_mm"] == 1.0
    (unknown,) = document["warnings"]
    assert unknown in document["current"]["nodules"][0]["prior"]["notes"]
    assert "are not known" in unknown
    assert unknown not in text  # told once, among the warnings
    assert "180 days" in text
    assert "volume doubling time" in text
    assert "N1 of the prior CT" in text
    assert "not seen any more" in text


def test_a_paired_nodule_keeps_the_tracking_uid_of_its_prior() -> None:
    prior, current = ct((RIGHT_ONE, 8.0)), ct((moved(RIGHT_ONE), 8.0), (moved(LEFT_ONE), 8.0))
    first = compared(prior, current, points=[moved(RIGHT_ONE), moved(LEFT_ONE)])
    old, new = nodules_with_tracking(first)
    assert first.current[0].prior is not None
    assert old.tracking_uid == first.current[0].prior["tracking_uid"]
    assert new.tracking_uid != old.tracking_uid
    again = nodules_with_tracking(compared(prior, current, points=[moved(RIGHT_ONE)]))
    assert again[0].tracking_uid == old.tracking_uid


def test_the_picture_has_a_row_for_each_nodule(tmp_path: Path) -> None:
    prior, current = ct((RIGHT_ONE, 8.0), (LEFT_ONE, 8.0)), ct((moved(LEFT_ONE), 10.0))
    found = compared(prior, current, prior_points=[RIGHT_ONE, LEFT_ONE])
    save_picture(tmp_path / "a.png", found, prior, current)
    with Image.open(tmp_path / "a.png") as image:
        assert image.height > image.width * 0.9
