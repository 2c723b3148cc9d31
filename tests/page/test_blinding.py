"""What a reader may see before saying his own, and what is then recorded as seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resmtnet.errors import StoreError
from resmtnet.findings import ModelInfo
from resmtnet.page.blinding import Blinding
from resmtnet.readings.record import REPEAT, Reading

NEAR, FAR = (0.0, 0.0, 0.0), (80.0, 0.0, 0.0)
NODULES: list[dict[str, Any]] = [
    {"id": "N1", "centre_lps_mm": list(NEAR)},
    {"id": "N2", "centre_lps_mm": list(FAR)},
]


class Site:
    """The readings of a site in a list, and its blinding."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.readings: list[Reading] = []
        self.file = folder / "site" / "blinding.sqlite"
        self.more = more
        self.blinding = self.restarted()

    def restarted(self) -> Blinding:
        return Blinding(self.file, self.of, **self.more)

    def of(self, image: str) -> list[Reading]:
        return [one for one in self.readings if one.image == image]

    def say(self, reader: str, centre: Any = NEAR, **more: Any) -> None:
        self.readings.append(Reading("ct", reader, centre, malignancy=4, **more))

    def shown(self, reader: str = "ann") -> list[str]:
        return [one["id"] for one in self.blinding.sight("ct", reader).findings(NODULES)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_reader_who_does_not_read_blinded_sees_everything(site: Site) -> None:
    site.say("bob")
    assert site.shown() == ["N1", "N2"]
    assert len(site.blinding.sight("ct", "ann").readings(site.readings)) == 1
    assert site.blinding.hidden(["ct"], "ann") == set()


def test_a_blinded_reader_sees_of_a_nodule_what_is_known_once_he_has_read_it(site: Site) -> None:
    site.blinding.switch("ann", True)
    site.say("bob")
    site.say("bob", FAR)
    assert site.shown() == []
    assert site.blinding.sight("ct", "ann").readings(site.readings) == []
    site.say("ann")
    assert site.shown() == ["N1"]
    told = site.blinding.sight("ct", "ann").readings(site.readings)
    assert [(one.reader, one.centre_lps_mm) for one in told] == [("bob", NEAR), ("ann", NEAR)]
    assert site.blinding.hidden(["ct"], "ann") == {"ct"}


def test_a_comment_alone_shows_nothing(site: Site) -> None:
    site.blinding.switch("ann", True)
    site.readings.append(Reading("ct", "ann", NEAR, comment="what is this?"))
    assert site.shown() == []


def test_who_ends_a_study_sees_all_of_it_and_what_he_says_then_counts_as_seen(site: Site) -> None:
    site.blinding.switch("ann", True)
    assert site.blinding.seen("ct", "ann", FAR) is False
    site.blinding.show("ct", "ann")
    assert site.shown() == ["N1", "N2"]
    assert site.blinding.hidden(["ct", "other"], "ann") == {"other"}
    assert site.blinding.seen("ct", "ann", FAR) is True


def test_of_a_nodule_the_first_word_is_blinded_and_the_next_is_not(site: Site) -> None:
    site.blinding.switch("ann", True)
    model = ModelInfo("m", "1", "a" * 64)
    first = site.blinding.answered("ct", "ann", NODULES[0], model)
    site.say("ann")
    then = site.blinding.answered("ct", "ann", NODULES[0], model)
    other = site.blinding.answered("ct", "ann", NODULES[1], model)
    assert (first.seen, then.seen, other.seen) == (False, True, False)
    assert first.model_sha256 == "a" * 64


def test_what_was_seen_stays_seen_after_a_restart_and_a_switch(site: Site) -> None:
    site.blinding.show("ct", "ann")
    site.blinding.switch("ann", True)
    again = site.restarted()
    assert again.is_on("ann")
    assert again.seen("ct", "ann", NEAR) is True
    assert again.seen("other", "ann", NEAR) is False
    again.switch("ann", False)
    assert not site.restarted().is_on("ann")


def test_who_was_shown_no_answer_but_might_have_been_is_not_called_blinded(site: Site) -> None:
    assert site.blinding.seen("ct", "ann", NEAR) is None
    site.blinding.show_scores(["ct"], "ann")
    site.blinding.switch("ann", True)
    assert site.blinding.seen("ct", "ann", NEAR) is None, "he saw the score in the worklist"
    assert site.blinding.seen("ct", "bob", NEAR) is None
    assert site.shown() == []


def test_an_answer_in_another_viewer_was_seen(tmp_path: Path) -> None:
    site = Site(tmp_path, was_answered=lambda image, reader: reader == "ann")
    site.blinding.switch("ann", True)
    assert site.blinding.seen("ct", "ann", NEAR) is True


def test_a_study_that_is_read_again_hides_the_earlier_words_too(tmp_path: Path) -> None:
    site = Site(tmp_path, is_repeat=lambda image, reader: image == "ct")
    site.say("ann")
    site.blinding.show("ct", "ann")
    assert site.shown() == []
    assert site.blinding.sight("ct", "ann").readings(site.readings) == []
    assert site.blinding.hidden(["ct", "other"], "ann") == {"ct"}
    assert site.blinding.seen("ct", "ann", NEAR) is False
    site.say("ann", purpose=REPEAT)
    assert site.shown() == ["N1"]


def test_a_site_can_ask_everybody_to_read_blinded(tmp_path: Path) -> None:
    site = Site(tmp_path, always=True)
    site.blinding.switch("ann", False)
    assert site.blinding.is_on("ann")
    assert site.shown() == []


def test_what_is_noted_of_a_patient_is_deleted_with_him(site: Site) -> None:
    site.blinding.switch("ann", True)
    site.blinding.show("ct", "ann")
    site.blinding.show_scores(["ct"], "ann")
    site.blinding.forget({"ct"})
    assert site.restarted().seen("ct", "ann", NEAR) is False


def test_where_nothing_can_be_noted_nothing_is_shown(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="no answer is shown"):
        Site(tmp_path).blinding.sight("ct", "ann")
