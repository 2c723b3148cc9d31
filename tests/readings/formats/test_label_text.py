"""The words of a label, as docs/readings.md lists them."""

from __future__ import annotations

import pytest

from resmtnet.readings.formats.label_text import parse


@pytest.mark.parametrize(
    ("text", "nodule", "name"),
    [
        ("malignant", None, "malignant"),
        ("N1 malignant 83%", "N1", "malignant"),
        ("n12_Benign", "N12", "benign"),
        ("BENIGN (2)", None, "benign"),
        ("malignant_1", None, "malignant"),
        ("malignant2", None, "malignant"),
        ("N2 indeterminate (48% malignant)", "N2", "indeterminate"),
        ("not a nodule", None, "not_a_nodule"),
        ("Not_a-nodule 3", None, "not_a_nodule"),
        ("N3: no nodule", "N3", "not_a_nodule"),
        ("false positive", None, "not_a_nodule"),
        ("class=benign", None, "benign"),
    ],
)
def test_a_class_is_understood_in_any_case_with_numbers_after_it(
    text: str, nodule: str | None, name: str
) -> None:
    said = parse(text)
    assert (said.nodule, said.class_name, said.comment, said.problems) == (nodule, name, "", ())


@pytest.mark.parametrize(
    "text",
    ["not malignant", "benign?", "benign or malignant", "probably benign", "benign; malignant"],
)
def test_words_that_do_not_name_one_class_are_told_and_kept_as_the_comment(text: str) -> None:
    said = parse(text)
    assert said.problems
    assert said.class_name is None or text.startswith(f"{said.class_name};")
    assert said.comment


def test_ratings_are_numbers_or_names_of_levels() -> None:
    said = parse("malignancy=4 texture=part-solid/solid, margin=near sharp; spiculation=2")
    assert said.malignancy == 4
    assert said.characteristics == {"texture": 4, "margin": 4, "spiculation": 2}
    assert said.comment == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("malignancy=4.5", "malignancy.*1 to 5"),
        ("malignancy=6", "malignancy.*1 to 5"),
        ("texture=hard", "texture.*part-solid"),
        ("long_axis_mm=-3", "long_axis_mm"),
        ("long_axis_mm=large", "long_axis_mm.*number"),
        ("colour=red", "colour.*is not a key.*malignancy"),
        ("evidence=rumour", "evidence.*histology"),
    ],
)
def test_what_is_wrong_is_told_and_kept_as_the_comment(text: str, told: str) -> None:
    said = parse(text)
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(*said.problems)
    assert said.comment == text
    assert said.malignancy is None
    assert not said.sizes
    assert not said.characteristics


def test_free_text_is_the_comment_word_for_word() -> None:
    said = parse("N1 benign Hamartoma, see PET of 2021")
    assert said.class_name == "benign"
    assert said.comment == "Hamartoma; see PET of 2021"


def test_sizes_and_evidence_are_read() -> None:
    said = parse("long_axis_mm=12.5mm short_axis_mm=8; evidence=follow_up stable 2 years")
    assert said.sizes == {"long_axis_mm": 12.5, "short_axis_mm": 8.0}
    assert said.evidence == "follow_up"
    assert said.comment == "stable 2 years"


def test_the_score_of_the_model_has_a_decimal_that_of_a_reader_has_none() -> None:
    assert parse("score=4.1").malignancy is None
    assert parse("score=4.0").malignancy is None
    assert parse("score=4").malignancy == 4


@pytest.mark.parametrize("name", ["Segment_1", "F-1", "N4", "Detection ROI - 0", "", "R_2"])
def test_names_that_viewers_give_say_nothing(name: str) -> None:
    assert parse(name).says_nothing


def test_other_names_say_something() -> None:
    assert not parse("vessel").says_nothing
