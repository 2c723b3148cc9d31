"""What a reader does on the page, as readings in the store: nothing is ever deleted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import made_findings
from resmtnet.ct import CTVolume
from resmtnet.errors import InputError
from resmtnet.page import case_actions as actions
from resmtnet.page import case_words as words
from resmtnet.page.case import nodules_of
from resmtnet.page.case_actions import Said
from resmtnet.page.services import Services, Visitor
from resmtnet.readings.answer_log import GivenAnswer
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.record import Reading

IMAGE, SHA256 = "ct", "a" * 64


@dataclass(frozen=True)
class OneImage:
    """A site with one CT of air."""

    ct: CTVolume

    def volume(self, image: str) -> Path:
        return Path("ct.nii.gz")

    def open(self, volume: Path) -> CTVolume:
        return self.ct

    def content_key(self, image: str) -> str | None:
        return "key"


class Desk:
    """The services of one reader, over real readings and answers."""

    def __init__(self, folder: Path) -> None:
        self.grid = made_findings.small_grid()
        hu = np.full(self.grid.shape_kji, -900, np.int16)
        ct = CTVolume.from_array(
            hu, self.grid.spacing_mm[::-1], self.grid.origin_lps_mm, self.grid.direction
        )
        self.inbox = Inbox(folder / "readings.sqlite", OneImage(ct))
        findings = [
            made_findings.make_finding(self.grid, (7, 7, 5), 0, 3.0, source="candidate"),
            made_findings.make_finding(self.grid, (17, 13, 6), 1, 3.0),
        ]
        self.inbox.remember(IMAGE, GivenAnswer("viewer", "4", SHA256, self.grid, tuple(findings)))
        self.ct = ct

    def services(self, reader: str = "Ann") -> Services:
        served = SimpleNamespace(model=SimpleNamespace(info=SimpleNamespace(sha256=SHA256)))
        given: Any = SimpleNamespace(
            visitor=Visitor("local", reader),
            inbox=self.inbox,
            open_ct=lambda image: self.ct,
            now=lambda: served,
        )
        return given  # type: ignore[no-any-return]

    def nodule(self, n: int = 0, reader: str = "Ann") -> Any:
        """By its place, since the order changes with the scores."""
        found = sorted(nodules_of(self.services(reader), IMAGE), key=lambda one: one.centre_lps_mm)
        return found[n]

    def said(self) -> list[Reading]:
        return self.inbox.store.readings(IMAGE)

    def every(self) -> list[Reading]:
        return self.inbox.store.readings(IMAGE, every=True)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_case_lists_what_was_answered_and_what_was_read(desk: Desk) -> None:
    elsewhere = tuple(desk.grid.ijk_to_lps((4, 16, 2)).tolist())
    desk.inbox.store.add(Reading(IMAGE, "Ben", elsewhere, class_name="benign"))
    found = nodules_of(desk.services(), IMAGE)
    assert [one.finding is not None for one in found] == [True, True, False]
    assert [one.is_candidate for one in found] == [True, False, False]
    assert words.status_words(found[0]) == words.UNCONFIRMED
    assert words.status_words(found[2]) == "read by Ben"
    assert [one.name for one in found] == ["1", "2", "3"]


def test_accepting_one_confirms_it_and_accepting_several_is_bulk(desk: Desk) -> None:
    actions.accept(desk.services(), IMAGE, [desk.nodule()])
    (said,) = desk.said()
    assert (said.class_name, said.acceptance, said.source) == ("malignant", "single", "review")
    assert said.answered is not None
    assert said.answered.seen is True
    assert not desk.nodule().is_candidate
    actions.accept(desk.services("Ben"), IMAGE, [desk.nodule(0, "Ben"), desk.nodule(1, "Ben")])
    assert {one.acceptance for one in desk.said() if one.reader == "Ben"} == {"bulk"}


def test_undo_goes_back_step_by_step_and_adds_readings(desk: Desk) -> None:
    services = desk.services()
    actions.correct(services, IMAGE, desk.nodule(), Said(class_name="benign", malignancy=2), True)
    actions.correct(services, IMAGE, desk.nodule(), Said(characteristics={"texture": 5}), True)
    actions.reject(services, IMAGE, desk.nodule(), "a vessel", True)
    seen = []
    for _ in range(3):
        actions.undo(services, IMAGE, desk.nodule())
        said = desk.nodule().said
        seen.append(said and (said.class_name, said.malignancy, dict(said.characteristics)))
    assert seen == [("benign", 2, {"texture": 5}), ("benign", 2, {}), None]
    assert len(desk.every()) == 3 + 2 + 2 + 1
    with pytest.raises(InputError, match="nothing of yours"):
        actions.undo(services, IMAGE, desk.nodule())


def test_what_is_said_after_an_undo_can_be_undone_too(desk: Desk) -> None:
    services = desk.services()
    for rating in (1, 2):
        actions.correct(services, IMAGE, desk.nodule(), Said(malignancy=rating), True)
    actions.undo(services, IMAGE, desk.nodule())
    actions.correct(services, IMAGE, desk.nodule(), Said(malignancy=5), True)
    actions.undo(services, IMAGE, desk.nodule())
    assert desk.nodule().said.malignancy == 1


def test_undo_leaves_what_others_say(desk: Desk) -> None:
    actions.accept(desk.services("Ben"), IMAGE, [desk.nodule(0, "Ben")])
    actions.accept(desk.services(), IMAGE, [desk.nodule()])
    actions.undo(desk.services(), IMAGE, desk.nodule())
    assert [one.reader for one in desk.nodule().others] == ["Ben"]


def test_a_drawn_mask_is_kept_and_gives_the_sizes(desk: Desk) -> None:
    mask, start = made_findings.ball(desk.grid, (7, 7, 5), 5.0)
    grid = desk.grid.sub(start, mask.shape[::-1])
    actions.correct(desk.services(), IMAGE, desk.nodule(), Said(mask=mask, grid=grid), True)
    (said,) = desk.said()
    assert said.mask is not None
    assert (desk.inbox.store.masks / said.mask.file).is_file()
    assert said.sizes["volume_mm3"] == pytest.approx(
        float(mask.sum()) * float(np.prod(desk.grid.spacing_mm)), rel=1e-3
    )


def test_an_empty_mask_and_a_reader_without_a_name_are_refused(desk: Desk) -> None:
    empty = Said(mask=np.zeros((1, 1, 1), np.uint8), grid=desk.grid.sub((0, 0, 0), (1, 1, 1)))
    with pytest.raises(InputError, match="Not a nodule"):
        actions.correct(desk.services(), IMAGE, desk.nodule(), empty, True)
    with pytest.raises(InputError, match="your name"):
        actions.accept(desk.services(""), IMAGE, [desk.nodule()])
    assert desk.every() == []


@pytest.mark.parametrize("seen", [True, False, None])
def test_whether_the_answer_was_seen_is_kept(desk: Desk, seen: bool | None) -> None:
    actions.correct(desk.services(), IMAGE, desk.nodule(), Said(malignancy=3), seen)
    (said,) = desk.said()
    assert said.answered is not None
    assert said.answered.seen is seen


def test_an_answer_that_was_compared_with_an_earlier_ct_says_more_than_a_later_one(
    desk: Desk,
) -> None:
    plain = made_findings.make_finding(desk.grid, (7, 7, 5), 0, 3.0)
    compared = replace(plain, prior={"status": "new", "trend": None})
    for finding in (compared, plain):
        answer = GivenAnswer("viewer", "4", SHA256, desk.grid, (finding,))
        desk.inbox.remember(IMAGE, answer)
    finding = desk.nodule().finding
    assert finding is not None
    assert finding.prior == {"status": "new", "trend": None}
