"""A made-up reader for the demo: two rules in place of a radiologist."""

from __future__ import annotations

from resmtnet.characteristics import MALIGNANCY
from resmtnet.types import Json

READER = "synthetic-reader"
HABITS = (
    "The reader is a rule, not a radiologist: it accepts the model's class, rates malignancy one "
    "level further from the middle, and draws axes 10% longer."
)
LONGER = 1.1
AXES = ("long_axis_mm", "short_axis_mm")
SURER = {"benign": -1, "indeterminate": 0, "malignant": 1}
"""Levels that this reader adds to the model's score."""


def correction(nodule: Json) -> Json:
    """Return this reader's correction of a nodule: fields of schema resmtnet.reading/1.

    Args:
        nodule: entry of "nodules" in findings/1.

    >>> told = {"class": {"name": "benign"}, "malignancy": {"score": 2.2}}
    >>> correction({**told, "size": {"long_axis_mm": 8.0, "short_axis_mm": None}})
    {'class': 'benign', 'malignancy': 1, 'size': {'long_axis_mm': 8.8}}
    """
    name = nodule["class"]["name"]
    level = round(nodule["malignancy"]["score"]) + SURER[name]
    measured = {axis: nodule["size"][axis] for axis in AXES if nodule["size"][axis]}
    return {
        "class": name,
        "malignancy": min(max(level, 1), len(MALIGNANCY.levels)),
        "size": {axis: round(LONGER * mm, 1) for axis, mm in measured.items()},
    }
