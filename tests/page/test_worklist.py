"""The worklist: status, order, search and filters, for readers who may see all and who may not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_findings
from resmtnet.active.study_scores import ScoredStudy
from resmtnet.findings import Finding, Malignancy
from resmtnet.page import worklist as w
from resmtnet.page.blinding import Blinding
from resmtnet.page.worklist import Row, Sources, Worklist
from resmtnet.readings.answer_glance import AnswerGlances
from resmtnet.readings.answer_log import AnswerLog, GivenAnswer
from resmtnet.readings.record import REPEAT, Answered, Reading
from resmtnet.readings.store import ReadingStore

CENTRE = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Listed:
    image: str
    name: str
    date: str = ""


class Site:
    """Four studies in a list, and what is stored of them."""

    def __init__(self, folder: Path) -> None:
        self.studies = [
            Listed(image, f"patient {image}", f"2026-01-0{n}")
            for n, image in enumerate("abcd", start=1)
        ]
        self.store = ReadingStore.open(folder / "readings.sqlite")
        self.log = AnswerLog(folder / "answers")
        self.scores: dict[str, ScoredStudy] = {}
        self.order: list[str] = ["c", "a", "b", "d"]
        self.holders: dict[str, str] = {}
        self.blinding = Blinding(
            folder / "blinding.sqlite", lambda image: self.store.readings(image, every=True)
        )
        self.worklist = Worklist(
            Sources(
                lambda: self.studies,
                lambda: self.store,
                AnswerGlances(folder / "answers"),
                self.scores.get,
                lambda: [i for i in self.order if i not in self.store.images()],
                lambda: self.holders,
            ),
            self.blinding,
        )

    def rows(self, reader: str = "ann", **more: Any) -> list[Row]:
        self.worklist.rows(reader)
        self.worklist.wait_for_order()
        return self.worklist.rows(reader, **more)

    def row(self, image: str, reader: str = "ann") -> Row:
        return next(row for row in self.rows(reader) if row.image == image)

    def order_of(self, order: str, reader: str = "ann", **more: Any) -> str:
        return "".join(row.image for row in self.rows(reader, order=order, **more))

    def say(self, image: str, reader: str = "ann", **more: Any) -> None:
        self.store.add(Reading(image, reader, more.pop("at", CENTRE), **more))

    def score(self, image: str, *scores: float, like: tuple[float, ...] = ()) -> None:
        count = len(scores)
        columns = {
            name: np.zeros(count)
            for name in ("probability_malignant", "score_width", "diameter_mm", "diameter_width")
        }
        columns |= {
            name: np.zeros(count) for name in ("texture", "texture_entropy", "out_of_distribution")
        }
        self.scores[image] = ScoredStudy(
            image,
            None,
            np.zeros((count, 3)),
            np.array(like or [0.9] * count),
            score=np.array(scores),
            embeddings=np.ones((count, 4)),
            **columns,
        )

    def answer(self, image: str, *findings: Finding, sha256: str = "a" * 64) -> None:
        grid = made_findings.small_grid()
        self.log.remember(image, GivenAnswer("ann", "4", sha256, grid, findings))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def found(n: int = 0, score: float = 4.1) -> Finding:
    malignancy = Malignancy(score, (3.0, 5.0), (0.1, 0.1, 0.1, 0.3, 0.4))
    grid = made_findings.small_grid()
    return made_findings.make_finding(grid, (10.0, 10.0, 6.0), n, malignancy=malignancy)


def test_a_study_of_which_nothing_is_known_is_new(site: Site) -> None:
    row = site.row("a")
    assert (row.status, row.readers, row.nodules, row.candidates) == (w.NEW, (), 0, None)
    assert row.name == "patient a"


def test_what_the_model_found_and_nobody_confirmed_are_candidates(site: Site) -> None:
    site.score("a", 2.0, 4.6, 3.0, like=(0.9, 0.1, 0.6))
    row = site.row("a")
    assert (row.status, row.candidates) == (w.CANDIDATES, 2), "one looks like no nodule"
    assert row.highest_score == 3.0


def test_the_answers_that_were_given_count_before_the_scores_of_the_strategy(site: Site) -> None:
    site.score("a", 2.0)
    site.answer("a", found(0, 3.5), found(1, 1.5))
    site.answer("a", found(2, 4.5))
    row = site.row("a")
    assert (row.candidates, row.highest_score) == (2, 4.5)
    site.answer("a", found(0, 1.25), sha256="b" * 64)
    assert site.row("a").highest_score == 1.25, "of the version that answered last"


def test_a_study_without_any_candidate_says_so(site: Site) -> None:
    site.score("a")
    assert (site.row("a").status, site.row("a").candidates) == (w.NEW, 0)


def test_a_reader_who_agrees_has_read_and_one_who_does_not_has_corrected(site: Site) -> None:
    finding = found().to_json()
    answered = Answered("4", "a" * 64, finding)
    site.say("a", class_name=finding["class"]["name"], malignancy=4, answered=answered)
    site.say("b", "bob", class_name="benign", answered=answered)
    site.say("c", "bob", class_name="not_a_nodule", answered=answered)
    assert site.row("a").status == w.READ
    assert (site.row("b").status, site.row("b").readers) == (w.CORRECTED, ("bob",))
    assert (site.row("c").status, site.row("c").nodules) == (w.CORRECTED, 0)


@pytest.mark.parametrize(
    "said",
    [
        {"malignancy": 2},
        {"sizes": {"long_axis_mm": 12.0}},
        {"characteristics": {"texture": 1}},
    ],
)
def test_each_thing_that_a_reader_changes_makes_it_a_correction(
    site: Site, said: dict[str, Any]
) -> None:
    finding = {**found().to_json(), "characteristics": {"texture": {"rating": 4.9}}}
    site.say("a", answered=Answered("4", "a" * 64, finding), **said)
    assert site.row("a").status == w.CORRECTED


def test_a_later_reading_takes_a_correction_back(site: Site) -> None:
    answered = Answered("4", "a" * 64, found().to_json())
    site.say("a", malignancy=1, answered=answered)
    assert site.row("a").status == w.CORRECTED
    site.say("a", malignancy=4, answered=answered)
    assert (site.row("a").status, site.row("a").nodules) == (w.READ, 1)


def test_a_reading_that_was_taken_back_is_none(site: Site) -> None:
    for image in "abcd":
        site.say(image, malignancy=1)
    assert site.row("a").status == w.CORRECTED
    site.say("a", excluded=True, comment="withdrawn")
    assert (site.row("a").status, site.row("a").readers) == (w.NEW, ())


def test_a_repeat_changes_no_row(site: Site) -> None:
    site.say("a", purpose=REPEAT, malignancy=3)
    assert site.row("a").status == w.NEW


def test_what_another_reader_does_is_seen_at_once(site: Site) -> None:
    site.rows("ann")
    before = site.worklist.stamp()
    site.say("d", "bob", malignancy=3)
    site.holders["b"] = "bob"
    assert site.worklist.stamp() != before
    assert site.row("d").readers == ("bob",)
    assert site.row("b").reading_now == "bob"


def test_the_order_is_that_of_the_strategy_and_what_was_read_comes_last(site: Site) -> None:
    site.order = ["c", "a"]
    assert site.order_of("strategy")[:2] == "ca"
    assert [site.row(i).place for i in "ca"] == [1, 2]
    site.say("c", malignancy=3)
    assert site.order_of("strategy")[0] == "a"
    assert site.order_of("strategy")[-1] == "c"


def test_score_and_date_and_name_order_too(site: Site) -> None:
    for image, score in (("a", 2.0), ("b", 4.0), ("c", 3.0)):
        site.score(image, score)
    assert site.order_of("score") == "bcad"
    assert site.order_of("date") == "dcba"
    assert site.order_of("name") == "abcd"


def test_all_words_of_a_search_must_be_found(site: Site) -> None:
    site.say("b", "bob", malignancy=3)
    assert site.order_of("name", search="PATIENT b") == "b"
    assert site.order_of("name", search="bob") == "b"
    assert site.order_of("name", search="2026-01-03") == "c"
    assert site.order_of("name", search="bob nobody") == ""


def test_filters_keep_a_status_or_what_one_has_or_has_not_read(site: Site) -> None:
    site.score("a", 2.0)
    site.say("b", "bob", malignancy=3)
    site.say("c", "ann", malignancy=3)
    assert site.order_of("name", only="candidates") == "a"
    assert site.order_of("name", only="corrected") == "bc", "nodules that no model had found"
    assert site.order_of("name", only="mine") == "c"
    assert site.order_of("name", only="not mine") == "abd"
    assert site.order_of("name", only="all") == "abcd"


def test_a_blinded_reader_learns_nothing_from_a_row_or_its_place(site: Site) -> None:
    for image, score in (("a", 2.0), ("b", 4.0), ("c", 3.0)):
        site.score(image, score)
    site.say("c", "bob", malignancy=5)
    site.blinding.switch("cleo", True)
    rows = {row.image: row for row in site.rows("cleo")}
    assert all(row.hidden for row in rows.values())
    assert {(r.candidates, r.highest_score, r.place, r.nodules) for r in rows.values()} == {
        (None, None, None, None)
    }
    assert [rows[image].status for image in "abcd"] == [w.NEW, w.NEW, w.READ, w.NEW]
    orders = site.order_of("strategy", "cleo"), site.order_of("score", "cleo")
    for image, score in (("a", 4.0), ("b", 1.0), ("d", 5.0)):
        site.score(image, score)
    site.order = ["d", "a", "b"]
    assert (site.order_of("strategy", "cleo"), site.order_of("score", "cleo")) == orders


def test_a_study_that_a_blinded_reader_has_ended_is_shown_as_it_is(site: Site) -> None:
    site.score("a", 2.0)
    site.blinding.switch("ann", True)
    site.say("a", malignancy=3)
    assert (site.row("a").nodules, site.row("a").highest_score) == (1, None)
    site.blinding.show("a", "ann")
    assert (site.row("a").highest_score, site.row("a").hidden) == (2.0, False)


def test_the_score_in_a_row_was_seen(site: Site) -> None:
    site.score("a", 2.0)
    site.rows("ann")
    site.blinding.switch("ann", True)
    assert site.blinding.seen("a", "ann", CENTRE) is None
    assert site.blinding.seen("b", "ann", CENTRE) is False


def test_an_order_that_cannot_be_had_leaves_the_list(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.order_of("strategy")

    def fail() -> list[str]:
        raise OSError("the PACS is down")

    site.worklist._from = Sources(**{**vars(site.worklist._from), "order": fail})
    site.say("d", malignancy=3)
    assert site.order_of("strategy")[-1] == "d"


def test_rows_of_deleted_readings_are_gone(site: Site) -> None:
    site.say("a", study_patient="P")
    site.say("b", malignancy=3)
    assert site.row("b").readers == ("ann",)
    site.store.purge({"P"}, set())
    assert site.row("a").readers == ()
    assert site.row("b").readers == ("ann",)


def test_a_thousand_studies_are_listed_without_reading_anything_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.studies = [Listed(f"i{n}", f"study {n}") for n in range(1000)]
    for n in range(0, 1000, 10):
        site.say(f"i{n}", malignancy=3)
        site.answer(f"i{n + 1}", found())
    began_s = time.process_time()
    site.rows()
    print(f"1,000 rows for the first time: {1e3 * (time.process_time() - began_s):.0f} ms of CPU")
    read: list[object] = []
    monkeypatch.setattr("resmtnet.readings.answer_glance.read_document", read.append)
    monkeypatch.setattr(ReadingStore, "readings", lambda *a, **k: read.append(a))
    began_s = time.process_time()
    rows = site.rows()
    print(f"1,000 rows again: {1e3 * (time.process_time() - began_s):.0f} ms of CPU")
    assert len(rows) == 1000
    assert read == []


def test_a_damaged_answer_is_passed_over(site: Site, tmp_path: Path) -> None:
    site.answer("a", found())
    for path in (tmp_path / "answers").rglob("*.npz"):
        path.write_bytes(b"PK\x03\x04 damaged")
    assert site.row("a").candidates is None
