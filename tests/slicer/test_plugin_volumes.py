"""A volume that a reader opens in 3D Slicer themselves, and submits."""

from __future__ import annotations

from typing import Any

import pytest

from plugin_process import Plugin, centre_ras, filled

pytestmark = pytest.mark.server
NAME = "4: LUNG 1.0"


def test_ones_own_ct_is_answered_corrected_and_submitted_twice(
    plugin: Plugin, plugin_site: Any
) -> None:
    file = str(plugin_site.studies / "oblique.nrrd")
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
    stored = [path.name for path in plugin_site.studies.glob("4_*")]
    assert stored == ["4_ LUNG 1.0.nii.gz"]
