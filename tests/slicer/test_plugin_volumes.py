"""A volume that a reader opens in 3D Slicer themselves, and submits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugin_process import Plugin, centre_ras, filled, running_plugin, running_site

pytestmark = pytest.mark.server
NAME = "4: LUNG 1.0"


@pytest.fixture(scope="module")
def site(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("site")
    with running_site(folder, checkout) as url:
        yield url, folder / "studies"


@pytest.fixture
def plugin(slicer_python: Path, site: tuple[str, Path], tmp_path: Path) -> Iterator[Plugin]:
    with running_plugin(slicer_python, site[0], tmp_path, "ann") as started:
        yield started


def test_ones_own_ct_is_answered_corrected_and_submitted_twice(
    plugin: Plugin, site: tuple[str, Path]
) -> None:
    file = str(site[1] / "oblique.nrrd")
    for turn in range(2):
        plugin("close")
        plugin("open", file=file, name=NAME)
        seen = plugin("click", ras=centre_ras("oblique", "malignant"), label="benign")
        assert filled(seen) == {"malignant": 75}
        plugin("rename", segment="malignant", to="benign accept" if turn else "benign 2")
        shown = plugin("submit")["dialogs"]
        assert [one["kind"] for one in shown if one["kind"] != "question"] == ["info"], shown
        reply = shown[-1]["details"]
        assert reply["understood"] == ["N1: benign"], "a known nodule, without sizes"
        assert reply["not_understood"] == []
    stored = [path.name for path in site[1].glob("4_*")]
    assert stored == ["4_ LUNG 1.0.nii.gz"]
