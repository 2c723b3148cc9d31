"""How many tokens a client can try, and who is not locked out by others."""

from __future__ import annotations

from typing import Any

import pytest

from resmtnet.server import access
from resmtnet.server.guesses import MOST, WITHIN_S, Guesses
from resmtnet.server.rules import Refused, ServerRules
from resmtnet.server.tokens import Tokens


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def wrong(guesses: Guesses, count: int, address: str = "10.0.0.1") -> None:
    for n in range(count):
        guesses.note(address, f"wrong-{n}", right=False)


def test_after_many_wrong_tokens_an_address_waits_and_others_do_not() -> None:
    guesses = Guesses(Clock())
    wrong(guesses, MOST - 1)
    assert guesses.wait_s("10.0.0.1", "another") == 0
    wrong(guesses, MOST)
    assert guesses.wait_s("10.0.0.1", "another") == WITHIN_S
    assert guesses.wait_s("10.0.0.2", "another") == 0


def test_the_wait_ends() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    wrong(guesses, MOST)
    clock.now_s = WITHIN_S + 1
    assert guesses.wait_s("10.0.0.1", "another") == 0


def test_a_stale_cookie_that_is_sent_often_is_one_guess() -> None:
    guesses = Guesses(Clock())
    news = [guesses.note("10.0.0.1", "stale", right=False) for _ in range(10 * MOST)]
    assert news == [True] + [False] * (10 * MOST - 1)
    assert guesses.wait_s("10.0.0.1", "right") == 0


def test_who_has_logged_in_from_an_address_is_not_locked_out_by_guesses_from_there() -> None:
    guesses = Guesses(Clock())
    guesses.note("10.0.0.1", "right", right=True)
    wrong(guesses, MOST)
    assert guesses.wait_s("10.0.0.1", "right") == 0
    assert guesses.wait_s("10.0.0.1", "another") > 0


def test_the_memory_of_guesses_is_bounded() -> None:
    guesses = Guesses(Clock())
    for n in range(10_000):
        guesses.note(f"10.{n}", "x", right=False)
    assert len(guesses._clients) < 5000


@pytest.mark.parametrize("behind_proxy", [False, True])
def test_behind_a_proxy_clients_are_told_apart_as_the_proxy_does(behind_proxy: bool) -> None:
    scope: dict[str, Any] = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000)}
    headers = {"x-forwarded-for": "1.1.1.1, 10.0.0.7"}  # the first is what the client claims
    rules = ServerRules(behind_proxy=behind_proxy)
    told = access.client_address(scope, headers, rules)
    assert told == ("10.0.0.7" if behind_proxy else "127.0.0.1")


def test_guesses_by_each_way_count_and_the_right_token_comes_too_late() -> None:
    tokens = Tokens({"admin": "a" * 20}, "here", chosen=True)
    rules = ServerRules(tokens=tokens)
    scope: dict[str, Any] = {"client": ("10.0.0.1", 1), "server": ("10.0.0.9", 443)}
    for n in range(MOST):
        way = ("header", "cookie", "page", "client", "address")[n % 5]
        assert access.proven_role(f"wrong-{n}", way, scope, {}, rules) is None
    with pytest.raises(Refused) as refused:
        access.proven_role("a" * 20, "header", scope, {}, rules)
    assert refused.value.status_code == 429
    assert int((refused.value.headers or {})["Retry-After"]) > 0
