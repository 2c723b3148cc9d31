"""What the page is told of a training before it has written its own status."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from resmtnet.server.page_services import not_begun

AT = "2026-01-31 12:00:00"
AT_S = int(datetime(2026, 1, 31, 12).timestamp())


@pytest.mark.parametrize(
    ("task", "stats", "verdict"),
    [
        (None, {}, None),
        ({"status": "SUBMITTED"}, {}, "starting"),
        ({"status": "RUNNING"}, {"start_ts": AT_S - 60, "verdict": "published"}, "starting"),
        ({"status": "RUNNING"}, {"start_ts": AT_S, "verdict": "published"}, None),
        ({"status": "DONE"}, {}, None),
        ({"status": "ERROR", "details": ["No module", " "]}, {}, "failed"),
        ({"status": "ERROR"}, {"start_ts": AT_S + 1, "verdict": "failed"}, None),
    ],
)
def test_a_training_is_starting_until_it_says_something_itself(
    task: Any, stats: Any, verdict: str | None
) -> None:
    told = not_begun(task and {"start_ts": AT, **task}, stats)
    assert told.get("verdict") == verdict
    if verdict == "failed":
        assert "No module" in told["reason"]
