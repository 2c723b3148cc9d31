"""README and documentation say what the program does: commands, options, settings, examples."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from pages import CHECKOUT, PAGES, commands, python_examples
from resmtnet import cli
from resmtnet.ct.phantom import Phantom, write_dicom_series
from resmtnet.monai_label.settings import AppSettings

README, SERVER = PAGES["README.md"], PAGES["docs/server.md"]

GROUPS = ("prepare", "model", "export", "readings")
"""Commands of two words."""

POINT = "56.2, 86.2, -115.9"
"""The nodule that the examples ask about."""


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_and_option_that_a_page_shows_exists(
    page: str, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    words = line.split("#")[0].split()
    command = words[:2] if words[0] in GROUPS else words[:1]
    assert cli.run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [word for word in words if word.startswith("--") and word not in shown] == []


def test_readme_and_command_line_page_show_commands() -> None:
    pages = [page for page, _ in commands()]
    assert pages.count("README.md") >= 2
    assert pages.count("docs/cli.md") >= 10


def test_the_table_of_settings_lists_every_key_of_the_app() -> None:
    table = SERVER.split("## Settings of the app")[1].split("## ")[0]
    keys = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    assert keys == [field.name for field in dataclasses.fields(AppSettings)]


def test_the_defaults_of_the_numbers_are_those_of_the_app() -> None:
    for key in ("max_candidates", "ct_cache", "train_after"):
        (shown,) = re.findall(rf"^\| `{key}` \| .*\*\*(\d+)\*\*", SERVER, flags=re.MULTILINE)
        assert int(shown) == getattr(AppSettings(), key)


def test_every_file_that_the_readme_links_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert len(links) > 10
    assert [link for link in links if not (CHECKOUT / link).is_file()] == []


def test_readme_and_python_page_show_an_example() -> None:
    assert [page for page, _ in python_examples()] == ["README.md", "docs/python.md"]


@pytest.mark.parametrize(("page", "code"), python_examples())
def test_the_python_examples_run(
    page: str,
    code: str,
    phantom: Phantom,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_dicom_series(phantom, tmp_path / "ct")
    monkeypatch.chdir(tmp_path)
    x, y, z = phantom.nodules[0].centre_lps_mm
    assert code.count(POINT) == 1
    exec(compile(code.replace(POINT, f"{x}, {y}, {z}"), page, "exec"), {})
    assert re.search("benign|malignant|indeterminate", capsys.readouterr().out)
