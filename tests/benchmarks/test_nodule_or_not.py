"""Nodules and other places: figures by kind, and a cut that leaves the point where it is."""

import numpy as np
import pytest

from nodule_or_not import NODULE, Place, figures


def ball(radius_mm: float) -> Place:
    z, y, x = np.indices((41, 64, 64)) - np.array([20, 32, 32])[:, None, None, None]
    inside = z**2 + y**2 + x**2 <= radius_mm**2
    hu = np.where(inside, 30, -850).astype(np.int16)
    painted = (inside * 255).astype(np.uint8)
    return Place(NODULE, hu, (1.0, 1.0, 1.0), (20.0, 32.0, 32.0), painted)


def test_a_cut_keeps_the_nodule_and_its_centre_and_makes_up_the_rest():
    whole = ball(5.0)
    cut = whole.cut(np.random.default_rng(0))
    assert len(cut.hu) == 11 + 2 * 14
    assert cut.centre_kji == (19.0, 32.0, 32.0)
    assert cut.hu[19, 32, 32] == 30
    assert (cut.hu[14:25] == whole.hu[15:26]).all()
    assert cut.hu[:8, 32, 32].max() < -500


def test_a_place_without_a_nodule_keeps_some_slices_around_the_point():
    lung = ball(5.0)
    vessel = Place("vessel", lung.hu, lung.spacing_kji_mm, lung.centre_kji, lung.painted)
    cut = vessel.cut(np.random.default_rng(1))
    k = round(cut.centre_kji[0])
    assert (cut.hu[k] == lung.hu[20]).all()
    assert len(cut.hu) < 28 + 16


def test_figures_tell_shares_by_kind_and_what_a_cut_changes():
    told = figures(
        [NODULE, NODULE, "vessel", "pleura"], [0.9, 0.4, 0.1, 0.6], [0.9, 0.9, 0.95, 0.2]
    )
    as_asked = {"plain": 0.5, "clicked": 1.0, "candidate": 0.0}
    assert told["right"][NODULE] == {"places": 2, "cut": 1.0, **as_asked}
    as_asked = {"plain": 1.0, "clicked": 0.0, "candidate": 1.0}
    assert told["right"]["vessel"] == {"places": 1, "cut": 0.0, **as_asked}
    assert told["auc"]["nodules plain, others plain"] == pytest.approx(0.75)
    assert told["auc"]["nodules cut, others plain"] == pytest.approx(1.0)
