"""What /info says of a PACS does not wait for it, once it has answered."""

from __future__ import annotations

import threading

import pytest

from resmtnet.monai_label import slow_status
from resmtnet.monai_label.slow_status import UNKNOWN, SlowStatus


def test_later_questions_are_answered_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, go_on, asked = [1000.0], threading.Event(), []
    monkeypatch.setattr(slow_status.time, "monotonic", lambda: now_s[0])
    go_on.set()

    def ask() -> dict[str, int]:
        asked.append(1)
        assert go_on.wait(30)
        return {"total": len(asked)}

    status = SlowStatus(ask)
    assert status.read() == {"total": 1}
    now_s[0] += slow_status.AGAIN_S + 1
    go_on.clear()
    assert [status.read() for _ in range(5)] == [{"total": 1}] * 5  # the PACS does not answer
    assert len(asked) <= 2
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "status-of-pacs":
            thread.join(30)
    assert status.read() == {"total": 2}


def test_a_pacs_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_status, "FIRST_S", 30.0)

    def ask() -> dict[str, int]:
        raise OSError("no PACS")

    assert SlowStatus(ask).read() == UNKNOWN
