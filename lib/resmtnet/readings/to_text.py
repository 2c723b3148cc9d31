"""A reading in words, for whoever sent it."""

from __future__ import annotations

from resmtnet.reading import Reading


def summary(reading: Reading) -> str:
    """A reading in words.

    >>> summary(Reading("ct", "r", (0, 0, 0), class_name="benign", sizes={"long_axis_mm": 8.25}))
    'benign; long axis 8.2 mm'
    """
    parts = []
    if reading.class_name:
        parts.append(reading.class_name.replace("_", " "))
    if reading.malignancy:
        parts.append(f"malignancy {reading.malignancy}")
    for name, value in reading.sizes.items():
        words = name.rsplit("_", 1)
        parts.append(f"{words[0].replace('_', ' ')} {value:.1f} {words[1]}")
    parts += [f"{name.replace('_', ' ')} {n}" for name, n in reading.characteristics.items()]
    if reading.comment:
        parts.append(f"comment {reading.comment!r}")
    nodule = reading.answered.finding.get("id") if reading.answered else None
    said = "; ".join(parts) or "no change"
    return f"{nodule}: {said}" if nodule else said
