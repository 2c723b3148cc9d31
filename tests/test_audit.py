"""The log of what was done: whole lines, from any process, and readable by this user alone."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest

from resmtnet.audit import CALLER, FILE, audit, keep_audit_log


def test_an_event_is_one_line_with_the_caller(tmp_path: Path) -> None:
    path = keep_audit_log(tmp_path / "site")
    assert keep_audit_log(tmp_path / "site") == path  # again: no line is written twice
    held = CALLER.set({"request_id": "abc", "role": "reader"})
    audit("reading kept", reading="r1", name="two\nlines")
    CALLER.reset(held)
    (line,) = path.read_text().splitlines()
    told = json.loads(line)
    assert (told["event"], told["reading"], told["role"]) == ("reading kept", "r1", "reader")
    assert told["name"] == "two\nlines"
    assert told["time"].endswith("+00:00")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_site_has_a_log_of_its_own(tmp_path: Path) -> None:
    first, second = keep_audit_log(tmp_path / "a"), keep_audit_log(tmp_path / "b")
    audit("login")
    assert not first.exists()
    assert len(second.read_text().splitlines()) == 1


def test_a_log_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).mkdir()
    keep_audit_log(tmp_path)
    with caplog.at_level(logging.ERROR):
        audit("login")
    assert "cannot be written" in caplog.text
