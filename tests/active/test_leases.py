"""A study is offered to one reader at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from resmtnet.active.leases import Offers


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def offers(tmp_path: Path, clock: Clock) -> Offers:
    return Offers(tmp_path / "site" / "offers.sqlite", lease_s=60, clock=clock)


def taken(offers: Offers, wanted: Sequence[str], client: str) -> str | None:
    offer = offers.take(wanted, client)
    return offer.image if offer else None


def test_two_readers_never_have_the_same_study_at_once(offers: Offers) -> None:
    assert [taken(offers, "abc", client) for client in ("ann", "bob", "cleo")] == ["a", "b", "c"]
    assert taken(offers, "abc", "dora") is None


def test_a_reader_who_asks_again_is_shown_another_study(offers: Offers) -> None:
    assert [taken(offers, "abc", "ann") for _ in range(3)] == ["a", "b", "c"]


def test_skipping_does_not_end_the_list_of_a_reader_with_a_name(
    offers: Offers, clock: Clock
) -> None:
    for _ in range(2):
        taken(offers, "ab", "ann")
        clock.now_s += 1
    assert [taken(offers, "ab", "ann"), taken(offers, "ab", "bob")] == ["a", None]


def test_the_list_of_readers_without_a_name_does_not_run_dry(offers: Offers, clock: Clock) -> None:
    for image in "ab":
        assert taken(offers, "ab", "") == image
        clock.now_s += 1
    assert taken(offers, "ab", "") == "a", "offered longest ago"
    assert taken(offers, "ab", "ann") is None


def test_a_study_is_free_again_when_its_time_is_over(offers: Offers, clock: Clock) -> None:
    taken(offers, "a", "ann")
    clock.now_s += 59
    assert offers.held() == {"a"}
    assert taken(offers, "a", "bob") is None
    clock.now_s += 2
    assert offers.held() == set()
    assert taken(offers, "a", "bob") == "a"


def test_what_was_never_offered_comes_before_what_was_left_unread(
    offers: Offers, clock: Clock
) -> None:
    taken(offers, "a", "ann")
    clock.now_s += 61
    assert taken(offers, "ab", "bob") == "b"


def test_offers_hold_over_processes_and_restarts(
    offers: Offers, tmp_path: Path, clock: Clock
) -> None:
    taken(offers, "ab", "ann")
    again = Offers(tmp_path / "site" / "offers.sqlite", lease_s=60, clock=clock)
    assert taken(again, "ab", "bob") == "b"


def test_many_readers_at_once_get_studies_of_their_own(tmp_path: Path) -> None:
    wanted = [f"study-{n}" for n in range(24)]
    got: list[str | None] = []

    def read(client: str) -> None:
        own = Offers(tmp_path / "offers.sqlite")  # as another process has it
        got.extend(taken(own, wanted, client) for _ in range(6))

    threads = [threading.Thread(target=read, args=(f"reader-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, got)) == sorted(wanted)


def test_where_nothing_can_be_written_offers_are_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    offers = Offers(tmp_path / "file" / "offers.sqlite")
    assert [taken(offers, "ab", client) for client in ("ann", "bob")] == ["a", "b"]
    assert offers.held() == {"a", "b"}


def test_a_damaged_file_of_offers_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "offers.sqlite").write_bytes(b"no database" * 100)
    offers = Offers(tmp_path / "offers.sqlite")
    assert [taken(offers, "ab", client) for client in ("ann", "bob")] == ["a", "b"]
