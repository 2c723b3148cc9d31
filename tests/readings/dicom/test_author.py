"""Whose an SR or SEG is: the person that it names, else the program that wrote it."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from resmtnet.readings.dicom.author import author_of, unknown_author


def item(concept: str, **values: object) -> Dataset:
    code, found = Dataset(), Dataset()
    code.CodeValue = concept
    found.ConceptNameCodeSequence = Sequence([code])
    for name, value in values.items():
        setattr(found, name, value)
    return found


def of(*items: Dataset, **values: object) -> Dataset:
    dataset = Dataset()
    dataset.ContentSequence = Sequence(items)
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


OHIF_GROUP = item(
    "125007",
    ContentSequence=Sequence([item("112039", TextValue="Cornerstone3DTools@^0.1.0:Bidirectional")]),
)


@pytest.mark.parametrize(
    ("dataset", "author"),
    [
        (of(item("121008", PersonName="Doe^Ann")), "Doe Ann"),
        (of(item("121008", PersonName="unknown^unknown"), OperatorsName="Roe^Bob"), "Roe Bob"),
        (of(ContentCreatorName="Roe^Bob"), "Roe Bob"),
        (of(item("121008", PersonName="unknown^unknown")), None),
        (of(ContentCreatorName="Unspecified"), None),
        (Dataset(), None),
    ],
)
def test_a_person_who_is_named_is_the_author(dataset: Dataset, author: str | None) -> None:
    assert author_of(dataset) == author


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        (of(item("126010", ContentSequence=Sequence([OHIF_GROUP]))), "unknown (OHIF)"),
        (
            of(Manufacturer="Unspecified", ManufacturerModelName="Some viewer"),
            "unknown (Some viewer)",
        ),
        (of(Manufacturer="Unspecified"), "unknown"),
    ],
)
def test_without_a_person_the_program_is_named(dataset: Dataset, name: str) -> None:
    assert unknown_author(dataset) == name
