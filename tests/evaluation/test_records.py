import csv
import dataclasses
import math

import pytest

from resmtnet.errors import InputError
from resmtnet.evaluation.records import Case, Prediction, read_predictions, write_predictions


def case(*malignancy: int) -> Case:
    return Case("n1", "p1", malignancy, 10.0, 13.0, 4.5, 1.25)


@pytest.mark.parametrize(
    ("ratings", "in_protocol"),
    [((4, 4, 5), True), ((4, 5), False), ((3, 3, 4), False), ((2, 3, 3, 4), False), ((), False)],
)
def test_protocol_asks_for_three_readers_and_a_median_that_is_not_3(ratings, in_protocol):
    assert case(*ratings).in_protocol is in_protocol


def test_class_comes_from_the_median_and_score_from_the_mean():
    nodule = case(1, 4, 4)
    assert nodule.malignant
    assert nodule.score == 3.0
    assert case().score is None


def test_volume_is_that_of_the_sphere():
    assert case(3).volume_mm3 == pytest.approx(523.6, abs=0.1)


def test_predictions_survive_their_file(tmp_path):
    full = Prediction(
        0.123456789, "benign", 2.5, (1.5, 3.5), 9.9, (8.0, 11.5), 508.0, 12.0, 11.0, 0.3, 0.7,
        "solid", 2, 9.5, (11.0, 13.5), 0.01, 0.83,
    )  # fmt: skip
    empty = Prediction(0.5, "indeterminate", 3.0, (1.0, 5.0))
    unrated = dataclasses.replace(
        case(), texture_rating=None, split="train", fold=3, context="none"
    )
    read = dataclasses.replace(
        case(5, 4),
        texture_ratings=(4, 5),
        reader_volumes_mm3=(500.0, 548.5),
        reader_long_axes_mm=(12.5, 13.5),
        reader_short_axes_mm=(9.0, 10.25),
        reader_dice=0.7,
    )
    answered = [(read, full), (unrated, empty)]
    write_predictions(tmp_path / "predictions.csv", answered)
    assert read_predictions(tmp_path / "predictions.csv") == answered


def test_readers_sizes_give_their_axes_and_diameters():
    nodule = dataclasses.replace(
        case(4), reader_volumes_mm3=(523.6, 4.189), reader_long_axes_mm=(12.0, 15.0),
        reader_short_axes_mm=(8.0, 9.0),
    )  # fmt: skip
    assert nodule.reader_equivalent_diameters_mm == pytest.approx((10.0, 2.0), rel=1e-3)
    assert nodule.reader_mean_axes_mm == (10.0, 12.0)
    assert (nodule.mean_axis_mm, nodule.short_axis_mm) == (11.0, 8.5)
    assert math.isnan(case(4).mean_axis_mm)


def test_file_of_an_earlier_version_is_read_with_what_it_has(tmp_path):
    path = tmp_path / "predictions.csv"
    write_predictions(path, [(case(5), Prediction(0.5, "benign", 3.0, (2.0, 4.0)))])
    new = {f"reader.{f.name}" for f in dataclasses.fields(Case)[10:]}
    new |= {f"model.{f.name}" for f in dataclasses.fields(Prediction)[13:]}
    with path.open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in new} for row in csv.DictReader(file)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    nodule, answer = read_predictions(path)[0]
    assert (nodule, answer.score) == (case(5), 3.0)
    assert answer.mask_dice is None


def test_missing_score_interval_is_read_as_not_a_number(tmp_path):
    path = tmp_path / "predictions.csv"
    write_predictions(path, [(case(5), Prediction(0.5, "benign", 3.0, (math.nan, math.nan)))])
    assert all(math.isnan(bound) for bound in read_predictions(path)[0][1].score_interval)


def test_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv: not a predictions\.csv"):
        read_predictions(path)
