"""A small run of benchmarks/hot_swap.py: answers while versions are published and rolled back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.server
def test_every_answer_is_of_one_version_while_versions_change(
    checkout: Path, small_model: Path, tmp_path: Path
) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, str(checkout / "benchmarks" / "hot_swap.py")]
    sizes = {"requests": 60, "clients": 4, "publishes": 4, "rollbacks": 2}
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    subprocess.run(
        [*command, *options, "--model", str(small_model), "--json", str(found)],
        env={**os.environ, "PYTHONPATH": str(checkout / "lib")},
        check=True,
        timeout=600,
    )
    figures = json.loads(found.read_text())
    assert {name: figures[name] for name in sizes} == sizes
    assert (figures["errors"], figures["mixed"], figures["stale"]) == (0, 0, 0)
    assert figures["versions"] == 5
    assert figures["versions_that_answered"] >= 3
    assert figures["greatest_difference_from_the_version_alone"] < 1e-5
    assert figures["least_difference_of_versions"] > 1e-3
