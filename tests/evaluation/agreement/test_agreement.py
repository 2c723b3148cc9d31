"""Agreement of model and readers: what is compared with what, kept apart, and left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from resmtnet.errors import InputError
from resmtnet.evaluation.agreement.document import LEAST_READINGS, agreement
from resmtnet.evaluation.agreement.page import write_agreement
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.readings.record import Answered, Reading
from resmtnet.types import Json

FAST = BootstrapConfig(resamples=50)
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def finding(score: float = 3.0, probability: float = 0.5, long_axis_mm: float = 10.0) -> Json:
    return {
        "class": {"name": "benign", "probabilities": {"malignant": probability}},
        "malignancy": {"score": score},
        "size": {"long_axis_mm": long_axis_mm, "volume_mm3": 500.0, "short_axis_mm": None},
    }


def reading(number: int, *, seen: bool | None = False, **fields: Any) -> Reading:
    """Make a reading of a nodule of its own; `answer` are arguments of finding."""
    answer = fields.pop("answer", {})
    answered = None if answer is None else Answered("2", "ab" * 32, finding(**answer), seen)
    given = {
        "reader": "ann",
        "centre_lps_mm": (0.0, 0.0, 0.0),
        "nodule": f"n{number}",
        "malignancy": 3,
        "study_patient": f"p{number}",
        "made_at": START + timedelta(days=number),
        "answered": answered,
        **fields,
    }
    return Reading(f"ct{number}", **given)


def document(readings: Iterable[Reading], period: str = "month") -> Json:
    return agreement(list(readings), period, FAST)


def group(given: Json, evidence: str = "impression", answer: str = "blinded") -> Json:
    (found,) = (
        entry
        for entry in given["groups"]
        if (entry["evidence"], entry["answer"]) == (evidence, answer)
    )
    return found


def test_readings_that_saw_the_answer_are_kept_apart_from_those_that_did_not() -> None:
    readings = [
        reading(n + 20 * off, seen=seen, malignancy=3 + off)
        for seen, off in ((False, 2), (True, 0), (None, 1))
        for n in range(12)
    ]
    found = document(readings)
    errors = {
        answer: group(found, answer=answer)["figures"]["score_mae"]["model"]["value"]
        for answer in ("blinded", "unblinded", "unknown")
    }
    assert errors == {"blinded": 2.0, "unblinded": 0.0, "unknown": 1.0}
    assert found["readings"]["by"]["answer"] == {"blinded": 12, "unblinded": 12, "unknown": 12}
    assert any("Only blinded" in text for text in found["warnings"])


def test_what_was_said_blinded_is_not_compared_with_an_answer_that_was_seen_later() -> None:
    blinded = [reading(n, malignancy=5, sizes={"long_axis_mm": 12.0}) for n in range(12)]
    unblinded = [reading(n, seen=True, malignancy=4) for n in range(12)]
    found = document([*blinded, *unblinded])
    sizes = [
        group(found, answer=answer)["figures"]["long_axis_mae_mm"]
        for answer in ("blinded", "unblinded")
    ]
    assert [row["n"] for row in sizes] == [12, 0]
    assert sizes[0]["model"]["value"] == 2.0
    scores = [
        group(found, answer=answer)["figures"]["score_mae"]["n"]
        for answer in ("blinded", "unblinded")
    ]
    assert scores == [0, 12]
    counts = found["readings"]
    assert (counts["kept"], counts["superseded"], counts["standing"]) == (24, 12, 12)
    assert counts["compared"] == 24


def test_histology_is_never_pooled_with_impressions() -> None:
    impressions = [reading(n, class_name="benign") for n in range(12)]
    proven = [
        reading(n, class_name="malignant", malignancy=None, evidence="histology") for n in range(12)
    ]
    found = document([*impressions, *proven])
    assert group(found)["figures"]["class_brier"]["n"] == 12
    assert group(found, "histology")["figures"]["class_brier"]["n"] == 12
    assert group(found, "histology")["figures"]["score_mae"]["n"] == 0


@pytest.mark.parametrize("count", [LEAST_READINGS - 1, LEAST_READINGS])
def test_a_figure_of_too_few_readings_is_left_out_and_says_so(count: int) -> None:
    found = document([reading(n) for n in range(count)])
    row = group(found)["figures"]["score_mae"]
    assert row["n"] == count
    if count < LEAST_READINGS:
        assert row["model"] == {"value": None, "low": None, "high": None}
        assert row["left_out"] == "n = 9; at least 10 readings are needed"
        assert any("fewer than 10" in text for text in found["warnings"])
    else:
        assert row["model"]["value"] == 0.0
        assert row["left_out"] is None


def test_what_is_not_compared_is_counted() -> None:
    plain = [reading(n) for n in range(10)]
    others = [
        reading(20, acceptance="bulk"),
        reading(21, answer=None),
        reading(22, class_name="not_a_nodule"),
        reading(23, excluded=True),
    ]
    found = document([reading(0), *plain, *others])
    counts = found["readings"]
    assert group(found)["readings"] == counts["compared"] == 11
    assert {name: counts[name] for name in ("kept", "superseded", "standing")} == {
        "kept": 15,
        "superseded": 1,
        "standing": 14,
    }
    for name in ("bulk", "without_answer", "not_a_nodule", "excluded"):
        assert counts[name] == 1, name


def test_the_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    ratings, scores = rng.integers(1, 6, 60), rng.uniform(1, 5, 60)
    found = document(
        reading(n, malignancy=int(rating), answer={"score": float(score)})
        for n, (rating, score) in enumerate(zip(ratings, scores, strict=True))
    )
    expected = cohen_kappa_score(ratings, np.floor(scores + 0.5).astype(int), weights="linear")
    row = group(found)["figures"]["rating_weighted_kappa"]
    assert row["model"]["value"] == pytest.approx(expected, abs=1e-4)
    assert row["model"]["low"] < expected < row["model"]["high"]


def test_the_differences_of_a_size_are_model_less_reader() -> None:
    differences = np.linspace(-1, 2, 12)
    found = document(
        reading(n, sizes={"long_axis_mm": 8.0}, answer={"long_axis_mm": 8.0 + float(difference)})
        for n, difference in enumerate(differences)
    )
    figures = group(found)["figures"]
    assert figures["long_axis_bias_mm"]["model"]["value"] == pytest.approx(0.5)
    spread = 1.96 * differences.std(ddof=1)
    assert figures["long_axis_upper_limit_mm"]["model"]["value"] == pytest.approx(
        0.5 + spread, abs=1e-4
    )
    assert figures["long_axis_lower_limit_mm"]["model"]["value"] == pytest.approx(
        0.5 - spread, abs=1e-4
    )
    assert figures["short_axis_mae_mm"]["n"] == 0


def test_two_readers_of_a_nodule_are_compared_with_each_other() -> None:
    ann = [reading(n, malignancy=2) for n in range(12)]
    bob = [replace(each, reader="bob", malignancy=4, id=each.id + "b") for each in ann]
    row = group(document([*ann, *bob]))["figures"]["score_mae"]
    assert row["readers"]["n"] == 12
    assert row["readers"]["value"] == 2.0
    assert row["model"]["value"] == 1.0
    assert group(document(ann))["figures"]["score_mae"]["readers"] is None


def test_a_rating_decides_the_class_where_none_was_given() -> None:
    ratings = [1, 2, 3, 4, 5] * 4
    given = [reading(n, malignancy=rating) for n, rating in enumerate(ratings)]
    named = [replace(each, class_name="indeterminate") for each in given]
    assert group(document(given))["figures"]["class_brier"]["n"] == 16
    assert group(document(named))["figures"]["class_brier"]["n"] == 0


def test_a_probability_that_tells_the_classes_apart_is_shown_to() -> None:
    found = document(
        reading(n, class_name=name, answer={"probability": probability})
        for n, (name, probability) in enumerate([("benign", 0.1), ("malignant", 0.9)] * 10)
    )
    figures = group(found)["figures"]
    assert figures["class_auc"]["model"]["value"] == 1.0
    assert figures["class_accuracy"]["model"]["value"] == 1.0
    assert figures["class_brier"]["model"]["value"] == pytest.approx(0.01)
    assert figures["class_calibration_error"]["model"]["value"] == pytest.approx(0.1)


def test_probabilities_that_are_too_extreme_or_too_high_show_in_slope_and_intercept() -> None:
    truth = np.tile([0, 0, 1, 0, 1, 1], 10)
    logits = np.tile([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0], 10)

    def figures(scale: float, shift: float, *, seen: bool) -> Json:
        names = ("benign", "malignant")
        given = document(
            reading(
                n,
                seen=seen,
                class_name=names[said],
                malignancy=None,
                answer={"probability": float(1 / (1 + np.exp(-scale * z - shift)))},
            )
            for n, (said, z) in enumerate(zip(truth, logits, strict=True))
        )
        found: Json = group(given, answer="unblinded" if seen else "blinded")["figures"]
        return found

    for seen in (False, True):
        plain = figures(1, 0, seen=seen)["class_calibration_slope"]["model"]
        extreme = figures(2, 0, seen=seen)["class_calibration_slope"]["model"]
        assert extreme["value"] == pytest.approx(plain["value"] / 2, rel=1e-4)
        assert plain["low"] < plain["value"] < plain["high"]
        high = figures(1, 1, seen=seen)["class_calibration_intercept"]["model"]
        assert high["low"] < high["value"] < high["high"] < 0


def test_the_slope_of_classes_that_are_told_apart_without_an_error_is_left_out() -> None:
    found = document(
        reading(n, class_name=name, answer={"probability": probability})
        for n, (name, probability) in enumerate([("benign", 0.1), ("malignant", 0.9)] * 10)
    )
    row = group(found)["figures"]["class_calibration_slope"]
    assert row["model"]["value"] is None
    assert "makes no error" in row["left_out"]


def test_readings_of_one_patient_give_no_interval() -> None:
    found = document(reading(n, study_patient="one", malignancy=1 + n % 5) for n in range(12))
    row = group(found)["figures"]["score_mae"]
    assert row["patients"] == 1
    assert row["model"]["value"] is not None
    assert row["model"]["low"] is None


def test_a_patient_who_is_not_named_is_told_of() -> None:
    found = document(reading(n, study_patient=None) for n in range(12))
    assert any("have no patient" in text for text in found["warnings"])
    assert found["readings"]["patients"] == 12


def test_figures_are_given_by_reader_and_model_version() -> None:
    ann = [reading(n) for n in range(10)]
    bob = [reading(n, reader="bob", malignancy=5) for n in range(20, 30)]
    newer = [
        replace(each, answered=replace(each.answered, model_version="3"))
        for each in bob
        if each.answered
    ]
    found = group(document([*ann, *newer]))
    by_reader = {key: row["score_mae"]["model"]["value"] for key, row in found["by_reader"].items()}
    assert by_reader == {"ann": 0.0, "bob": 2.0}
    assert list(found["by_model_version"]) == ["2 (abababababab)", "3 (abababababab)"]


@pytest.mark.parametrize(
    ("period", "keys"),
    [("month", ["2026-01", "2026-02"]), ("day", None), ("week", ["2026-W04", "2026-W05"])],
)
def test_figures_are_given_by_period(period: str, keys: list[str] | None) -> None:
    found = group(
        document((reading(n, made_at=START + timedelta(days=24 + n)) for n in range(8)), period)
    )
    if keys is None:
        keys = [f"2026-01-{n}" for n in range(25, 32)] + ["2026-02-01"]
    assert list(found["by_period"]) == keys


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="allowed are day, week, month"):
        document([reading(1)], "year")
    with pytest.raises(InputError, match="no readings"):
        document([])


@pytest.mark.parametrize("answer", [{"class": "odd"}, {"size": None, "malignancy": {"score": "3"}}])
def test_an_answer_that_is_cut_short_is_not_compared(answer: Json) -> None:
    odd = [replace(reading(n), answered=Answered("2", "ab", answer, False)) for n in range(12)]
    figures = group(document(odd))["figures"]
    assert {row["n"] for row in figures.values()} == {0}


def test_the_page_stands_alone_and_says_what_it_is_not(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    rng = np.random.default_rng(1)
    readings = [
        reading(
            n % 15,
            reader=name if n < 15 else "bob",
            malignancy=int(rng.integers(1, 6)),
            sizes={"long_axis_mm": 9.0},
            answer={"score": float(rng.uniform(1, 5)), "probability": float(rng.uniform())},
        )
        for n in range(30)
    ]
    files = write_agreement(tmp_path / "out", document(readings), readings)
    assert [file.name for file in files] == ["agreement.json", "agreement.html"]
    html = files[1].read_text("utf-8")
    assert "Not a medical device" in html
    assert "<script" not in html
    assert "http" not in html
    # rating, score, long axis and class over time, two Bland-Altman, calibration, the count
    assert html.count("data:image/png") == 8
    assert "Too few" in html
    assert "Class: calibration slope" in html
    assert "Class: calibration in the large (intercept)" in html


def test_the_page_of_a_single_reading_draws_no_figure(tmp_path: Path) -> None:
    rows = [reading(1)]
    _, page = write_agreement(tmp_path, document(rows), rows)
    html = page.read_text("utf-8")
    assert "n = 1; at least 10 readings are needed" in html
    assert html.count("data:image/png") == 1


def test_readings_that_answer_nothing_give_a_page_that_says_so(tmp_path: Path) -> None:
    rows = [reading(1, answer=None)]
    _, page = write_agreement(tmp_path, document(rows), rows)
    assert "nothing to compare" in page.read_text("utf-8")


def test_repeats_tell_how_much_a_reader_varies() -> None:
    readings = []
    for n in range(20):
        image = f"ct{n}"
        first = Reading(image, "ann", (0.0, 0.0, 0.0), nodule=image, malignancy=1 + n % 5)
        rating = min(5, first.malignancy + n % 2)
        readings += [first, replace(first, id=f"again{n}", malignancy=rating, purpose="repeat")]
    found = agreement(readings)["repeats"]
    assert found["repeats"] == 20
    mae = found["by_reader"]["ann"]["score_mae"]
    differences = [min(5, 1 + n % 5 + n % 2) - (1 + n % 5) for n in range(20)]
    assert (mae["n"], mae["value"]) == (20, pytest.approx(np.mean(differences)))
    assert mae["low"] < mae["value"] < mae["high"]
