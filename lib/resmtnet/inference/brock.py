"""The Brock risk of cancer of findings, from what the user tells of the patient.

It is a field of its own: it never changes, and is never part of, what the readers' score says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from resmtnet.characteristics import TEXTURE
from resmtnet.errors import InputError
from resmtnet.findings import Finding, finite
from resmtnet.guidelines import brock_probability
from resmtnet.inference.postprocessing import PROBABLY_NOT
from resmtnet.types import Json

SOURCE = "Brock (PanCan) full models, McWilliams et al., NEJM 2013"
SEXES = ("female", "male")
AGE_RANGE = (18.0, 110.0)
COUNT_RANGE = (1, 200)
OF_EACH_NODULE = ("upper_lobe", "spiculation")
"""May be a list, with one entry for each point."""


@dataclass(frozen=True)
class BrockInputs:
    """What the user tells; None: not told. The risk is null while an input is missing."""

    age: float | None = None
    """Years."""
    sex: str | None = None
    """"female" or "male"."""
    family_history: bool | None = None
    """Of lung cancer."""
    emphysema: bool | None = None
    """Seen on CT."""
    nodule_count: int | None = None
    """Confirmed nodules on this CT; candidates of a search do not count."""
    upper_lobe: tuple[bool, ...] | None = None
    """Whether the nodules lie in an upper lobe: one for all of them, or one for each."""
    spiculation: tuple[bool, ...] | None = None
    """The same of spiculation; None: the model without spiculation alone."""

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> BrockInputs:
        """Read the fields of a request.

        Args:
            given: the fields of this class by name; upper_lobe and spiculation are true, false or
                a list with one of them for each point; a field that is null is not told.

        Raises:
            InputError: an unknown field, or a value that is not allowed.

        >>> BrockInputs.parse({"age": 62, "sex": "male", "upper_lobe": True}).upper_lobe
        (True,)
        """
        names = [field.name for field in fields(cls)]
        unknown = [str(name) for name in given if name not in names]
        if unknown:
            raise InputError(f"brock has no field {unknown[0]!r}; allowed: {', '.join(names)}")
        told = {name: value for name, value in given.items() if value is not None}
        age, count = (_number(told, *limits) for limits in _NUMBERS)
        sex = told.get("sex")
        if sex is not None and sex not in SEXES:
            raise InputError(f"brock: sex is {sex!r}; allowed: {', '.join(SEXES)}")
        upper, spiculation = (_answers(told, name) for name in OF_EACH_NODULE)
        return cls(
            age=age,
            sex=None if sex is None else str(sex),
            family_history=_answer(told, "family_history"),
            emphysema=_answer(told, "emphysema"),
            nodule_count=None if count is None else int(count),
            upper_lobe=upper,
            spiculation=spiculation,
        )

    def missing(self) -> list[str]:
        """Return the names of the inputs that are needed and not told."""
        optional = "spiculation"
        return [
            f.name for f in fields(self) if f.name != optional and getattr(self, f.name) is None
        ]


def with_brock(findings: Sequence[Finding], inputs: BrockInputs | None) -> list[Finding]:
    """Return the findings with the Brock risk of each; without inputs they stay as they are.

    Size is the long axis, texture the named class of each finding; all else is the user's.

    Args:
        findings: of one CT, in the order of the points.
        inputs: what the user tells.

    Raises:
        InputError: a list with one entry for each nodule has another length.
    """
    if inputs is None:
        return list(findings)
    each = [_of_each(inputs, name, len(findings)) for name in OF_EACH_NODULE]
    return [
        replace(finding, risk={"brock": _block(finding, inputs, upper, spiculated)})
        for finding, upper, spiculated in zip(findings, *each, strict=True)
    ]


def _block(
    finding: Finding, inputs: BrockInputs, upper_lobe: bool | None, spiculated: bool | None
) -> Json:
    """Return {"without_spiculation", "with_spiculation", "notes", ...} of one finding."""
    size, rated = finding.size, finding.characteristics.get(TEXTURE.name)
    texture = rated.name if rated else None
    block: Json = {
        "without_spiculation": None,
        "with_spiculation": None,
        "inputs": {
            "age": inputs.age,
            "sex": inputs.sex,
            "family_history": inputs.family_history,
            "emphysema": inputs.emphysema,
            "nodule_count": inputs.nodule_count,
            "upper_lobe": upper_lobe,
            "spiculation": spiculated,
            "maximum_diameter_mm": finite(size.long_axis_mm),
            "texture": texture,
        },
        "notes": [],
        "source": SOURCE,
    }
    reason = _why_not(finding, inputs)
    if reason or size.long_axis_mm is None or texture is None:
        return {**block, "notes": [reason or "the size or the texture is missing"]}

    def risk(diameter_mm: float, spiculation: bool | None) -> float | None:
        return finite(
            brock_probability(
                age_years=float(inputs.age or 0),
                female=inputs.sex == "female",
                family_history=bool(inputs.family_history),
                emphysema=bool(inputs.emphysema),
                maximum_diameter_mm=diameter_mm,
                upper_lobe=bool(upper_lobe),
                texture=texture,
                nodule_count=int(inputs.nodule_count or 0),
                spiculated=spiculation,
            )
        )

    def told(spiculation: bool | None) -> Json:
        ends = size.interval_90.get("long_axis_mm")
        return {
            "probability": risk(float(size.long_axis_mm or 0), spiculation),
            "interval_90_of_size": [risk(end, spiculation) for end in ends] if ends else None,
        }

    block["without_spiculation"] = told(None)
    if spiculated is not None:
        block["with_spiculation"] = told(spiculated)
    notes = ["for a nodule at a first screening CT; other patients may have another risk"]
    return {**block, "notes": notes}


def _why_not(finding: Finding, inputs: BrockInputs) -> str | None:
    if finding.source == "candidate":
        return "an unconfirmed candidate gets no risk: ask for its point"
    if missing := inputs.missing():
        return f"not told: {', '.join(missing)}"
    if PROBABLY_NOT in finding.warnings or finding.uncertainty.out_of_distribution > 1:
        return "the finding is unlike the training data, or probably not a nodule"
    return None


_NUMBERS = (("age", *AGE_RANGE), ("nodule_count", *COUNT_RANGE))


def _number(told: Mapping[str, object], name: str, low: float, high: float) -> float | None:
    value = told.get(name)
    if value is None:
        return None
    number = math.nan
    if isinstance(value, (int, float)) and abs(value) <= high:  # else beyond float, maybe
        number = float(value)
    whole = name != "nodule_count" or number == round(number, 0)
    if isinstance(value, bool) or not (low <= number <= high) or not whole:
        raise InputError(f"brock: {name} is {value!r}; a number of {low:g} to {high:g} is needed")
    return number


def _answer(told: Mapping[str, object], name: str) -> bool | None:
    value = told.get(name)
    if value is not None and not isinstance(value, bool):
        raise InputError(f"brock: {name} is {value!r}; true or false is needed")
    return value


def _answers(told: Mapping[str, object], name: str) -> tuple[bool, ...] | None:
    value = told.get(name)
    entries = value if isinstance(value, (list, tuple)) else [value]
    if value is None:
        return None
    if not entries or not all(isinstance(entry, bool) for entry in entries):
        raise InputError(
            f"brock: {name} is {value!r}; true, false or a list with one of them for each point "
            "is needed"
        )
    return tuple(bool(entry) for entry in entries)


def _of_each(inputs: BrockInputs, name: str, count: int) -> list[bool | None]:
    values: tuple[bool, ...] | None = getattr(inputs, name)
    if values is None:
        return [None] * count
    if len(values) == 1:
        return [values[0]] * count
    if len(values) != count:
        raise InputError(f"brock: {name} has {len(values)} entries for {count} nodules")
    return list(values)
