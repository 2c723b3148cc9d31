"""What a reader says in the end: a later reading corrects an earlier one, or a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TypeVar

from resmtnet.characteristics import class_of_rating
from resmtnet.readings.record import REPEAT, Reading

T = TypeVar("T")

SOLID = "solid_component_mm"


def by_reader(readings: Iterable[Reading]) -> list[list[Reading]]:
    """Group the readings that correct one another: of one nodule, reader and evidence.

    A repeat corrects nothing: each stands alone.

    Args:
        readings: in order of arrival, each with its nodule.

    Returns:
        Each chain in that order, the chains in the order of their last readings.
    """
    found: dict[tuple[str | None, ...], list[Reading]] = {}
    for reading in readings:
        alone = reading.id if reading.purpose == REPEAT else None
        key = (reading.image, reading.nodule, reading.reader, reading.evidence, alone)
        found[key] = [*found.pop(key, []), reading]
    return list(found.values())


def effective(chain: Sequence[Reading]) -> Reading:
    """Return what a reader says of a nodule after all of a chain."""
    return reduce(merge, _of_weight(chain))


def _of_weight(chain: Sequence[Reading]) -> list[Reading]:
    """Leave out what was accepted in bulk after a word of the reader's own."""
    kept: list[Reading] = []
    for reading in chain:
        own = bool(kept) and kept[-1].acceptance == "single" and not kept[-1].excluded
        if not (own and reading.acceptance == "bulk"):
            kept.append(reading)
    return kept


def merge(earlier: Reading, later: Reading) -> Reading:
    """Return the later reading, with what it says nothing of as the earlier one has it.

    Nothing of the earlier one holds where either is excluded, where the earlier one was accepted in
    bulk, or where they differ on whether there is a nodule. A class and a malignancy rating that
    contradict one another do not both hold, and sizes other than that of the solid component hold
    until one of them is measured differently.

    Args:
        earlier: what stood until then.
        later: of the same nodule, reader and evidence.

    >>> monday = Reading("ct", "ann", (0, 0, 0), class_name="benign", sizes={"long_axis_mm": 8})
    >>> tuesday = Reading("ct", "ann", (0, 0, 0), malignancy=2)
    >>> both = merge(monday, tuesday)
    >>> both.class_name, both.malignancy, both.sizes
    ('benign', 2, {'long_axis_mm': 8})
    """
    if _apart(earlier, later):
        return later
    class_name, malignancy = earlier.class_name, earlier.malignancy
    if malignancy and later.class_name and class_of_rating(malignancy) != later.class_name:
        malignancy = None
    if later.malignancy and class_name and class_of_rating(later.malignancy) != class_name:
        class_name = None
    anew = _measured_anew(earlier.sizes, later.sizes)
    return replace(
        later,
        class_name=later.class_name or class_name,
        malignancy=later.malignancy or malignancy,
        sizes=later.sizes if anew else {**earlier.sizes, **later.sizes},
        characteristics={**earlier.characteristics, **later.characteristics},
        comment=later.comment or earlier.comment,
        mask=later.mask if anew else later.mask or earlier.mask,
        answered=later.answered or earlier.answered,
        study_patient=later.study_patient or earlier.study_patient,
    )


def standing_parts(chain: Sequence[Reading]) -> list[Reading]:
    """Return each reading of a chain with only what of it stands.

    Together they say what `effective` returns.
    So each word stays with the answer that it was given to. Readings of which nothing stands are
    left out, but for the last.
    """
    chain = _of_weight(chain)
    left, parts = effective(chain), []
    for reading in reversed(chain):
        part = replace(
            reading,
            class_name=reading.class_name and left.class_name,
            malignancy=reading.malignancy and left.malignancy,
            sizes=_common(reading.sizes, left.sizes),
            characteristics=_common(reading.characteristics, left.characteristics),
        )
        if part.says_something or reading is chain[-1]:
            parts.append(part)
        left = replace(
            left,
            class_name=None if reading.class_name else left.class_name,
            malignancy=None if reading.malignancy else left.malignancy,
            sizes=_without(left.sizes, reading.sizes),
            characteristics=_without(left.characteristics, reading.characteristics),
        )
    return parts[::-1]


def _apart(earlier: Reading, later: Reading) -> bool:
    """Whether nothing of the earlier reading holds after the later one."""
    nodule_again = earlier.class_name == "not_a_nodule" and later.says_something
    return (
        later.class_name == "not_a_nodule"
        or nodule_again
        or earlier.excluded
        or later.excluded
        or earlier.acceptance != later.acceptance
    )


def _measured_anew(earlier: Mapping[str, float], later: Mapping[str, float]) -> bool:
    return any(later.get(name, mm) != mm for name, mm in earlier.items() if name != SOLID)


def _common(given: Mapping[str, T], left: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in given.items() if name in left}


def _without(given: Mapping[str, T], taken: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in given.items() if name not in taken}
