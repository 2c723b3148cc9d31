from dataclasses import replace

import pytest

from resmtnet.evaluation.metrics import balanced_accuracy, kappa
from resmtnet.evaluation.readers import (
    dice_row,
    one_against_mean,
    one_against_median_class,
    size_bin_rows,
    texture_class_rows,
)
from resmtnet.evaluation.records import Case

NODULE = Case("n", "p", (4, 4, 5), 10.0, 13.0, 4.5, 1.25)


def test_single_reader_has_nobody_to_agree_with():
    alone = replace(NODULE, malignancy=(4,), texture_ratings=(5,))
    assert one_against_mean(alone.malignancy) == []
    assert one_against_median_class(alone) == []
    assert texture_class_rows(alone) == []
    assert dice_row(alone) == []


def test_reader_is_left_out_of_the_mean_that_he_is_held_to():
    rows = one_against_mean((10.0, 20.0, 60.0))
    assert rows == [(40.0, 10.0), (35.0, 20.0), (15.0, 60.0)]


def test_others_that_are_undecided_are_no_truth_of_a_class():
    assert one_against_median_class(replace(NODULE, malignancy=(5, 3, 3))) == [
        (1.0, 3),
        (1.0, 3),
    ]


def test_texture_class_of_one_reader_is_held_to_that_of_the_others_mean():
    rows = texture_class_rows(replace(NODULE, texture_ratings=(1, 5, 5)))
    assert rows == [(2.0, 0.0), (1.0, 2.0), (1.0, 2.0)]
    assert balanced_accuracy(*zip(*rows, strict=True)) == 0


def test_size_classes_are_compared_in_both_directions():
    nodule = replace(
        NODULE, reader_long_axes_mm=(7.0, 9.0, 9.0), reader_short_axes_mm=(5.0, 7.0, 7.0)
    )
    rows = size_bin_rows(nodule)
    assert sorted(rows) == [(1, 2)] * 2 + [(2, 1)] * 2 + [(2, 2)] * 2
    assert kappa(*zip(*rows, strict=True)) == pytest.approx(-0.5)
