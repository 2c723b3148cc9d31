"""A first user's path for each viewer is short, and names what the viewer really shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import monailabel
import pytest

from pages import DOCS

PLUGIN = Path(sys.prefix) / "monailabel/plugins/slicer/MONAILabel"
OHIF_3_10 = Path(monailabel.__file__).parent / "endpoints/static/ohif"
FEWER_LINES_THAN = 10
PATHS = {
    "Slicer": ("slicer.md", "First study"),
    "PACS and OHIF 3.13": ("ohif.md", "First use"),
    "panel of OHIF 3.10": ("ohif.md", "The MONAI Label panel"),
}
_OF_SLICER_ITSELF = {"MONAI Label", "Edit", "Application Settings"}
"""Of the menus of the desktop, which is not here."""


def steps(page: str, section: str) -> str:
    """The numbered steps of a section."""
    text = (DOCS / page).read_text("utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^(?:\d\..*\n(?: {3}.*\n)*)+", text, flags=re.MULTILINE)
    assert found, f"{page} has no steps under {section!r}"
    return str(found[0])


def named(text: str) -> set[str]:
    """What is in italics: buttons, boxes and menus."""
    return {
        part.strip()
        for name in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", " ".join(text.split()))
        for part in name.split(">")
    }


@pytest.mark.parametrize("viewer", PATHS)
def test_the_path_of_a_first_user_is_short(viewer: str) -> None:
    text = steps(*PATHS[viewer])
    assert len(text.splitlines()) < FEWER_LINES_THAN
    assert len(re.findall(r"^\d\.", text, flags=re.MULTILINE)) < 10


def test_what_the_path_of_slicer_names_is_in_the_plugin() -> None:
    plugin = " ".join(
        path.read_text("utf-8") for path in PLUGIN.rglob("*") if path.suffix in (".ui", ".py")
    ).lower()
    names = named(steps(*PATHS["Slicer"])) - _OF_SLICER_ITSELF
    assert len(names) >= 5
    assert {name for name in names if name.lower() not in plugin} == set()


def test_what_the_path_of_the_panel_names_is_in_ohif() -> None:
    pages = " ".join(path.read_text("utf-8", "replace") for path in OHIF_3_10.glob("*.js"))
    names = named(steps(*PATHS["panel of OHIF 3.10"]))
    assert len(names) >= 4
    assert {name for name in names if name not in pages} == set()
