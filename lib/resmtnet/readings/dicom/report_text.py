"""A short text of a study's nodules to copy into a report, with the category of the examination.

The examination takes the category of its worst nodule that a person has confirmed; candidates
that nobody has looked at do not count.
"""

from __future__ import annotations

from collections.abc import Sequence

from resmtnet.guidelines.fleischner_2017 import ORDER as FLEISCHNER
from resmtnet.guidelines.lung_rads_v2022 import ORDER as LUNG_RADS
from resmtnet.readings.dicom.codes import RESEARCH
from resmtnet.readings.dicom.nodule import ResultNodule

_ORDERS = {"lung_rads": LUNG_RADS, "fleischner": FLEISCHNER}
_TITLES = {"lung_rads": "Lung-RADS v2022", "fleischner": "Fleischner 2017"}


def worst_category(nodules: Sequence[ResultNodule]) -> tuple[str, str] | None:
    """Return guideline and category of the worst nodule; None where none has a category.

    >>> a, b = (ResultNodule(n, "1.2", (0, 0, 0), category=("lung_rads", c))
    ...         for n, c in (("N1", "2"), ("N2", "4A")))
    >>> worst_category([b, a])
    ('lung_rads', '4A')
    """
    rated = [one.category for one in nodules if one.category and one.class_name != "not_a_nodule"]
    return max(rated, key=lambda category: _ORDERS[category[0]].index(category[1]), default=None)


def report_text(confirmed: Sequence[ResultNodule], unconfirmed: int = 0) -> str:
    """Return the text.

    Args:
        confirmed: nodules that a person has confirmed.
        unconfirmed: how many candidates nobody has confirmed.

    >>> print(report_text([ResultNodule("N1", "1.2", (1.0, 2.0, 3.0), "benign", sizes={
    ...     "long_axis_mm": 6.0, "short_axis_mm": 5.0})], unconfirmed=2))
    CT chest, lung nodules: 1 confirmed.
    N1 benign: 6.0 x 5.0 mm, at LPS (1, 2, 3) mm.
    Examination: no guideline category.
    2 candidates that nobody has confirmed are not part of this text.
    RESEARCH - not for diagnostic use.
    """
    real = [one for one in confirmed if one.class_name != "not_a_nodule"]
    lines = [f"CT chest, lung nodules: {len(real)} confirmed."]
    lines += [_line(nodule) for nodule in real]
    worst = worst_category(real)
    if worst is None:
        lines.append("Examination: no guideline category.")
    else:
        lines.append(f"Examination: {_TITLES[worst[0]]} {worst[1]} (its worst confirmed nodule).")
    if unconfirmed:
        what = "candidate that nobody has confirmed is"
        if unconfirmed > 1:
            what = "candidates that nobody has confirmed are"
        lines.append(f"{unconfirmed} {what} not part of this text.")
    return "\n".join([*lines, f"{RESEARCH}."])


def _line(nodule: ResultNodule) -> str:
    sizes = nodule.sizes
    parts = []
    if "long_axis_mm" in sizes and "short_axis_mm" in sizes:
        parts.append(f"{sizes['long_axis_mm']:.1f} x {sizes['short_axis_mm']:.1f} mm")
    elif "mean_diameter_mm" in sizes:
        parts.append(f"{sizes['mean_diameter_mm']:.1f} mm")
    if "volume_mm3" in sizes:
        parts.append(f"{sizes['volume_mm3']:.0f} mm3")
    if nodule.malignancy is not None:
        parts.append(f"malignancy {nodule.malignancy:.3g} of 5")
    if nodule.category is not None:
        parts.append(f"{_TITLES[nodule.category[0]]} {nodule.category[1]}")
    x, y, z = nodule.centre_lps_mm
    parts.append(f"at LPS ({x:.0f}, {y:.0f}, {z:.0f}) mm")
    words = nodule.segment_name if nodule.class_name else nodule.name
    return f"{words}: {', '.join(parts)}."
