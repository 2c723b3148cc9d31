import numpy as np
import pytest

from resmtnet.ct.volume import CTVolume
from resmtnet.evaluation.occlusion import BLOCK_MM, centres_mm, occlusion

SPACING_KJI_MM = (2.0, 0.5, 1.0)
SHAPE_KJI = (5, 120, 60)
ORIGIN = (-30.0, -30.0, -4.0)


def volume(spot_xy_mm):
    """Lung with one bright spot of 6 mm, LPS mm."""
    y = np.arange(SHAPE_KJI[1]) * SPACING_KJI_MM[1] + ORIGIN[1]
    x = np.arange(SHAPE_KJI[2]) * SPACING_KJI_MM[2] + ORIGIN[0]
    distance = np.hypot(y[:, None] - spot_xy_mm[1], x - spot_xy_mm[0])
    hu = np.where(distance <= 3, 50, -800).astype(np.int16)
    return CTVolume.from_array(np.repeat(hu[None], SHAPE_KJI[0], 0), SPACING_KJI_MM, ORIGIN)


def brightness(ct, centre):
    """A model that calls what is dense malignant, wherever it is."""
    return float(np.mean(ct.array() > -400) * 100)


def test_spot_that_the_answer_hangs_on_stands_out_where_it_is():
    added = occlusion(brightness, volume((8.0, -12.0)), (0.0, 0.0, 0.0))
    row, column = np.unravel_index(added.argmax(), added.shape)
    assert (centres_mm()[column], centres_mm()[row]) == (8.0, -12.0)
    assert added.max() == pytest.approx(brightness(volume((8.0, -12.0)), None))


def test_spots_far_from_it_add_nothing():
    added = occlusion(brightness, volume((8.0, -12.0)), (0.0, 0.0, 0.0))
    rows, columns = np.meshgrid(centres_mm(), centres_mm(), indexing="ij")
    far = np.maximum(abs(columns - 8), abs(rows + 12)) > BLOCK_MM / 2 + 4 + 3
    assert far.sum() > 20
    assert added[far] == pytest.approx(0, abs=1e-6)


def test_model_is_asked_once_for_each_place_and_once_for_the_whole_at_the_same_point():
    asked = []

    def model(ct, centre):
        asked.append((ct.geometry.size_ijk, ct.image_id, centre))
        return 0.5

    ct = volume((0.0, 0.0))
    added = occlusion(model, ct, (1.0, 2.0, 0.0))
    assert len(asked) == len(centres_mm()) ** 2 + 1
    assert set(asked) == {(ct.geometry.size_ijk, ct.image_id, (1.0, 2.0, 0.0))}
    assert (added == 0).all()


def test_covering_leaves_the_volume_as_it_was():
    ct = volume((0.0, 0.0))
    before = ct.array().copy()
    occlusion(brightness, ct, (0.0, 0.0, 0.0))
    assert (ct.array() == before).all()


def test_places_beyond_the_volume_change_nothing():
    added = occlusion(brightness, volume((0.0, 0.0)), (25.0, 0.0, 0.0))
    assert np.isfinite(added).all()
    assert added[:, -1] == pytest.approx(0, abs=1e-6)
