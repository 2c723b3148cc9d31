"""The study that follows a case: it is kept and made ready, and asked for anew where need be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import made_findings
from resmtnet.ct import CTVolume
from resmtnet.page import case_next
from resmtnet.page.case_next import Following
from resmtnet.page.services import Visitor


class Site:
    """Offers studies in turn, and notes which CTs were opened."""

    def __init__(self, *offers: str) -> None:
        self.offers, self.opened, self.read = list(offers), list[str](), set[str]()
        grid = made_findings.small_grid()
        self.ct = CTVolume.from_array(
            np.full(grid.shape_kji, -900, np.int16), grid.spacing_mm[::-1], grid.origin_lps_mm
        )

    def services(self, reader: str = "Ann") -> Any:
        return SimpleNamespace(
            visitor=Visitor("local", reader),
            strategies={"first": "", "second": ""},
            next_study=lambda strategy, reader: self._offer(strategy),
            open_ct=self._open,
            now=lambda: SimpleNamespace(model=SimpleNamespace(info=SimpleNamespace(sha256="a"))),
            inbox=SimpleNamespace(
                images=SimpleNamespace(content_key=lambda image: None),
                answers=SimpleNamespace(given=lambda image, content: []),
                store=SimpleNamespace(images=lambda: self.read, readings=lambda image: []),
            ),
        )

    def _offer(self, strategy: str) -> Any:
        assert strategy == "first"
        return {"id": self.offers.pop(0)} if self.offers else None

    def _open(self, image: str) -> CTVolume:
        self.opened.append(image)
        return self.ct


def test_the_study_that_follows_is_opened_once_and_then_offered() -> None:
    site = Site("b", "c")
    following = Following(site.services(), "a")
    following.prepare()
    following.prepare()
    assert set(site.opened) == {"b"}
    assert (following.kept, following.image(), site.offers) == ("b", "b", ["c"])


def test_one_that_was_read_meanwhile_or_kept_for_too_long_is_asked_for_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site("b", "c")
    following = Following(site.services(), "a")
    following.prepare()
    site.read = {"b"}
    assert following.image() == "c"
    site = Site("b", "c")
    following = Following(site.services(), "a")
    following.prepare()
    monkeypatch.setattr(case_next, "KEPT_S", -1.0)
    assert following.image() == "c"


def test_a_study_that_is_offered_to_be_read_again_stays_the_one_that_follows() -> None:
    site = Site("b", "c")
    site.read = {"b"}
    following = Following(site.services(), "a")
    following.prepare()
    assert following.image() == "b"


@pytest.mark.parametrize(("reader", "offers"), [("", ["b"]), ("Ann", ["a"]), ("Ann", [])])
def test_nothing_is_kept_without_a_name_or_where_nothing_follows(
    reader: str, offers: list[str]
) -> None:
    site = Site(*offers)
    following = Following(site.services(reader), "a")
    following.prepare()
    assert (following.kept, site.opened) == (None, [])
