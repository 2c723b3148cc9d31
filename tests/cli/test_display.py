"""Findings for people: the table, the warnings and the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest
from rich.console import Console

from resmtnet.cli.display import findings_table, save_overlay, warning_lines
from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom

CENTRE_LPS_MM = (-75.0, 0.0, 20.0)


def document(*nodules: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"name": "resmtnet", "version": "7"},
        "image": {"id": "phantom"},
        "nodules": list(nodules),
        "warnings": ["coarse slices"],
    }


def nodule(identifier: str, name: str = "malignant", **size: float | None) -> dict[str, Any]:
    sizes = ("long_axis_mm", "short_axis_mm", "mean_diameter_mm", "volume_mm3")
    return {
        "id": identifier,
        "class": {"name": name, "probabilities": {"benign": 0.17, "malignant": 0.83}},
        "malignancy": {"score": 4.1, "interval_90": [3.3, 4.8]},
        "size": {key: size.get(key) for key in sizes} | {"interval_90": {"volume_mm3": [400, 600]}},
        "guidelines": {"lung_rads": {"category": "4A", "range": ["3", "4A"]}, "fleischner": None},
        "centre_lps_mm": list(CENTRE_LPS_MM),
        "centroid_lps_mm": None,
        "warnings": ["cut"],
    }


def printed(content: object) -> str:
    console = Console(width=80, file=None, record=True, quiet=False)
    with console.capture() as captured:
        console.print(content)
    return captured.get()


def test_a_name_of_an_image_neither_steers_the_terminal_nor_colours_the_table() -> None:
    content = document(nodule("N1", long_axis_mm=9.0))
    content["image"]["id"] = "a\x1b[2J[red]b[/red]"
    text = printed(findings_table(content))
    assert "\x1b[2J" not in text
    assert "a [2J[red]b[/red]" in text


def test_table_shows_each_nodule_with_its_numbers_and_intervals() -> None:
    sizes = {"long_axis_mm": 10.04, "short_axis_mm": 9.0, "volume_mm3": 523.6}
    text = printed(findings_table(document(nodule("N1", **sizes), nodule("N2", "benign"))))
    for part in ("N1", "N2", "malignant", "benign", "0.83", "4.1", "3.3-4.8", "10.0 x 9.0"):
        assert part in text
    for part in ("524", "400-600", "4A"):
        assert part in text


def test_table_fits_a_terminal_of_80_columns() -> None:
    sizes = {"long_axis_mm": 32.8, "short_axis_mm": 24.1, "volume_mm3": 12345.0}
    text = printed(findings_table(document(nodule("N10", "indeterminate", **sizes))))
    assert max(map(len, text.splitlines())) <= 80
    for part in ("indeterminate", "32.8 x 24.1", "12345", "Lung-RADS 4A"):
        assert part in text


def test_what_is_missing_is_a_dash() -> None:
    assert "- x -" in printed(findings_table(document(nodule("N1"))))


def test_warnings_name_their_nodule() -> None:
    assert warning_lines(document(nodule("N2"))) == ["coarse slices", "N2: cut"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_picture_shows_mask_and_axis_at_their_place_in_any_orientation(
    order: tuple[int, int, int], phantom: Phantom, tmp_path: Path
) -> None:
    """The picture of a permuted CT is the same: it is drawn in LPS mm."""
    pictures = []
    for axes in ((0, 1, 2), order):
        hu = phantom.hu.transpose(axes)
        mask = (phantom.label_map() > 0).astype(np.uint8).transpose(axes)
        ijk = [2 - axis for axis in axes[::-1]]  # which ijk axis of the phantom each one is
        spacing_kji = tuple(phantom.geometry.spacing_mm[axis] for axis in ijk)[::-1]
        direction = phantom.geometry.direction[:, ijk]
        ct = CTVolume.from_array(hu, spacing_kji, phantom.geometry.origin_lps_mm, direction)
        path = tmp_path / f"{''.join(map(str, axes))}.png"
        ends = {"N1": [(-80.0, 0.0, 20.0), (-70.0, 0.0, 20.0)]}
        save_overlay(path, ct, document(nodule("N1")), mask, ends)
        pictures.append(itk.array_from_image(itk.imread(str(path))).astype(float))
    plain, other = pictures
    assert plain.shape == other.shape
    assert np.abs(plain - other).mean() < 1.0
    red = (plain[..., 0] > 200) & (plain[..., 1] < 80)
    cyan = (plain[..., 1] > 200) & (plain[..., 0] < 80)
    assert red.sum() > 50
    assert cyan.sum() > 20


def test_picture_of_a_point_without_a_mask_is_drawn(phantom: Phantom, tmp_path: Path) -> None:
    geometry = phantom.geometry
    ct = CTVolume.from_array(phantom.hu, geometry.spacing_mm[::-1], geometry.origin_lps_mm)
    save_overlay(tmp_path / "p.png", ct, document(nodule("N1")), np.zeros(ct.shape_kji, np.uint8))
    assert (tmp_path / "p.png").stat().st_size > 1000
