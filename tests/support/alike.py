"""Comparison of two computations: equal words and whole numbers, floats within a tolerance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

# Two ways of batching the same voxels differ in the last digits of a float32.
REL, ABS = 1e-4, 1e-5


def assert_alike(found: Any, expected: Any, rel: float = REL, abs: float = ABS) -> None:  # noqa: A002
    """Compare JSON documents or records of any depth; the error names the place that differs.

    >>> assert_alike({"size": [8.0, None]}, {"size": [8.00001, None]})
    """
    _compare(found, expected, rel, abs, "")


def _compare(found: Any, expected: Any, rel: float, abs_: float, place: str) -> None:
    if dataclasses.is_dataclass(expected) and not isinstance(expected, type):
        assert type(found) is type(expected), place
        for field in dataclasses.fields(expected):
            name = field.name
            values = (getattr(found, name), getattr(expected, name))
            _compare(*values, rel, abs_, f"{place}.{name}")
    elif isinstance(expected, Mapping):
        assert found.keys() == expected.keys(), place
        for key in expected:
            _compare(found[key], expected[key], rel, abs_, f"{place}.{key}")
    elif isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
        assert len(found) == len(expected), place
        for n, values in enumerate(zip(found, expected, strict=True)):
            _compare(*values, rel, abs_, f"{place}[{n}]")
    elif isinstance(expected, float):
        close = found == pytest.approx(expected, rel=rel, abs=abs_, nan_ok=True)
        assert close, f"{place}: {found} is not {expected} within a tolerance"
    else:
        assert found == expected, f"{place}: {found!r} is not {expected!r}"
