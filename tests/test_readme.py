"""The README says what the program does: its commands, options and settings exist."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from resmtnet import cli
from resmtnet.monai_label.settings import AppSettings

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^ {4}(?:\.venv/bin/)?resmtnet (.*)$", README, flags=re.MULTILINE)


GROUPS = ("prepare", "model", "export", "readings")
"""Commands of two words."""


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_option_of_the_readme_exists(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    words = line.split("#")[0].split()
    command = words[:2] if words[0] in GROUPS else words[:1]
    assert cli.run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [word for word in words if word.startswith("--") and word not in shown] == []


def test_the_table_of_settings_lists_every_key_of_the_app() -> None:
    table = README.split("### Settings of the app")[1].split("## ")[0]
    keys = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    assert keys == [field.name for field in dataclasses.fields(AppSettings)]


def test_the_defaults_of_the_numbers_are_those_of_the_app() -> None:
    for key in ("max_candidates", "ct_cache"):
        (shown,) = re.findall(rf"^\| `{key}` \| .*\*\*(\d+)\*\*", README, flags=re.MULTILINE)
        assert int(shown) == getattr(AppSettings(), key)


def test_every_file_that_the_readme_links_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert [link for link in links if not (CHECKOUT / link).is_file()] == []


def test_the_python_example_compiles() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    compile(example, "README.md", "exec")
