import io
from dataclasses import replace

import numpy as np
import pytest

from resmtnet.evaluation.occlusion import centres_mm
from resmtnet.evaluation.pictures import SlicePicture, draw


def pixels(picture: SlicePicture) -> np.ndarray:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(draw(picture)))
    return np.asarray(image.convert("RGB"), int)


@pytest.fixture
def picture() -> SlicePicture:
    return SlicePicture(
        "n1", "", np.full((60, 60), -800, np.int16), (0.8, 0.8), centre_px=(30.0, 30.0)
    )


def disc(row: float, column: float, radius: float = 8) -> np.ndarray:
    rows, columns = np.mgrid[:60, :60]
    return np.hypot(rows - row, columns - column) <= radius


def green_or_orange(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    red, green, blue = np.moveaxis(image, -1, 0)
    return (green > red + 60) & (green > blue + 60), (red > green + 60) & (green > blue + 60)


def test_both_outlines_are_drawn_where_they_are(picture):
    shown = replace(picture, readers=disc(20, 30).astype(float), model=disc(40, 30))
    green, orange = green_or_orange(pixels(shown))
    assert green.any()
    assert orange.any()
    assert np.argwhere(green)[:, 0].mean() < np.argwhere(orange)[:, 0].mean()


def test_only_what_half_of_the_readers_marked_is_outlined(picture):
    green, _ = green_or_orange(pixels(replace(picture, readers=disc(30, 30) * 0.4)))
    assert not green.any()


def test_slice_without_a_mask_is_drawn_without_an_outline(picture):
    green, orange = green_or_orange(pixels(replace(picture, model=np.zeros((60, 60), bool))))
    assert not green.any()
    assert not orange.any()


def test_saliency_is_red_where_it_speaks_for_malignant(picture):
    added = np.zeros((len(centres_mm()),) * 2)
    added[:3] = 0.4  # the upper rows
    image = pixels(replace(picture, added=added))
    inside = image[60:380, 60:330]
    redness = (inside[..., 0] - inside[..., 2]).mean(1)
    assert redness[:100].max() > redness[-100:].max() + 20
