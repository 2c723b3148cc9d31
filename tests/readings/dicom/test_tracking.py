"""Tracking UIDs: of the place, kept over versions, and continued from a prior CT."""

from __future__ import annotations

import pytest

from resmtnet.readings.dicom.nodule import reader_words, tracking_uid_at
from resmtnet.readings.dicom.results_log import SeriesResults, StoredObject, ToldNodule
from resmtnet.readings.formats.label_text import parse

PLACE = (1.0, 2.0, 3.0)


def told(uid: str) -> SeriesResults:
    nodule = ToldNodule(uid, "N1", "N1 benign", PLACE)
    return SeriesResults(
        [StoredObject("SR", "1", "1.2", "1.3", "1.4", 1001, 1, "2024-01-31", (nodule,))]
    )


def test_a_nodule_continues_the_uid_that_it_has_on_the_prior_ct() -> None:
    assert SeriesResults().tracking_uid("1.2.3", PLACE, set(), "9.9") == "9.9"


def test_without_a_prior_the_uid_is_that_of_its_place() -> None:
    assert SeriesResults().tracking_uid("1.2.3", PLACE, set()) == tracking_uid_at("1.2.3", PLACE)


def test_what_was_told_of_this_ct_goes_before_the_prior() -> None:
    assert told("7.7").tracking_uid("1.2.3", PLACE, set(), "9.9") == "7.7"


def test_one_uid_of_a_prior_is_not_given_twice() -> None:
    assert SeriesResults().tracking_uid("1.2.3", PLACE, {"9.9"}, "9.9") != "9.9"


@pytest.mark.parametrize("text", ["N1 malignant 3.5/5", "N1 malignant 4,5/5"])
def test_a_rating_with_a_decimal_is_no_rating(text: str) -> None:
    """It must not become 5 of 5."""
    words = reader_words("N1 malignant 71% | 14.0 mm", f"{text} | 14.0 mm")
    assert parse(words).malignancy is None
    assert parse(words).class_name == "malignant"
