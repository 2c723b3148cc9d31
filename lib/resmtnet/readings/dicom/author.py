"""Which person an SR or SEG of a viewer is of, as far as it says."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

_PERSON_OBSERVER = "121008"
_TRACKING_ID = "112039"
_OF_OHIF = ("Cornerstone3DTools@", "cornerstoneTools@")
"""How the tracking identifiers begin that OHIF gives to its measurements."""
_NOBODY = frozenset({"unknown", "unspecified", "anonymous", "none", "na", "n/a"})
_DEPTH = 4


def author_of(dataset: Dataset) -> str | None:
    """Return the name of the person who made an object; None where it names nobody.

    An SR names its observer (PS3.16 TID 1003), a SEG the creator of its content.
    """
    names = [str(item.get("PersonName", "")) for item in _items(dataset, _PERSON_OBSERVER)]
    names += [str(dataset.get(n) or "") for n in ("ContentCreatorName", "OperatorsName")]
    return next((plain for plain in map(plain_name, names) if plain), None)


def unknown_author(dataset: Dataset) -> str:
    """Return what stands for the person where an object names nobody: the program that wrote it.

    >>> unknown_author(Dataset())
    'unknown'
    """
    tracking = (str(item.get("TextValue", "")) for item in _items(dataset, _TRACKING_ID))
    if any(text.startswith(_OF_OHIF) for text in tracking):
        return "unknown (OHIF)"
    for name in ("ManufacturerModelName", "Manufacturer"):
        program = plain_name(str(dataset.get(name) or ""))
        if program:
            return f"unknown ({program[:60]})"
    return "unknown"


def plain_name(name: str) -> str:
    """Return the words of a PN; "" where it says that nobody is known.

    >>> plain_name("Doe^Ann"), plain_name("unknown^unknown")
    ('Doe Ann', '')
    """
    words = [word for word in name.replace("^", " ").replace("=", " ").split() if word]
    return "" if all(word.lower() in _NOBODY for word in words) else " ".join(words)


def _items(dataset: Dataset, concept: str, depth: int = _DEPTH) -> Iterator[Dataset]:
    """Give the content items of a concept, at most so deep."""
    for item in dataset.get("ContentSequence") or ():
        names = item.get("ConceptNameCodeSequence")
        if names and str(names[0].get("CodeValue", "")) == concept:
            yield item
        if depth > 1:
            yield from _items(item, concept, depth - 1)
