"""The `prior` of a request: another image of the studies, or sizes that the user gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from resmtnet.ct import CTVolume
from resmtnet.errors import InputError
from resmtnet.findings import Finding
from resmtnet.followup.given import GivenPrior, with_given
from resmtnet.followup.visit import Visit
from resmtnet.inference.protocol import NoduleModel

_OF_IMAGE = ("image", "date", "current_date", "category", "any_patient")


@dataclass(frozen=True)
class PriorImage:
    """A prior CT of the studies."""

    path: Path
    """What `CTVolume.open` takes."""
    date: str | None = None
    """When it was made, if its headers do not say."""
    current_date: str | None = None
    category: str | None = None
    """Lung-RADS category of the prior, for stable nodules."""
    any_patient: bool = False
    """Both CTs are of one patient, whatever the headers say."""


Prior = PriorImage | tuple[GivenPrior, ...]


def parse_prior(value: object) -> Prior | None:
    """Read the field `prior` of a request; its image is a path by now.

    Args:
        value: {"image", ...} for a prior CT; or the fields of GivenPrior.parse, or a list of them
            with one for each point; None for no prior.

    Raises:
        InputError: a field has a wrong value.
    """
    if value is None or value == "":
        return None
    if isinstance(value, Mapping) and "image" in value:
        return _image(value)
    given = value if isinstance(value, (list, tuple)) else [value]
    entries = [entry for entry in given if isinstance(entry, Mapping)]
    if not entries or len(entries) < len(given):
        raise InputError(
            f"prior is {value!r}: an object with image, or with date and sizes, or a list of such "
            "with one for each point is needed"
        )
    return tuple(GivenPrior.parse(entry) for entry in entries)


def _image(value: Mapping[str, object]) -> PriorImage:
    unknown = [str(name) for name in value if name not in _OF_IMAGE]
    if unknown:
        raise InputError(
            f"prior with an image has no field {unknown[0]!r}; allowed: {', '.join(_OF_IMAGE)}"
        )
    any_patient = value.get("any_patient", False)
    if not isinstance(value["image"], str) or not isinstance(any_patient, bool):
        raise InputError("prior: image is the id of an image, any_patient true or false")
    texts = {
        name: str(value[name])
        for name in ("date", "current_date", "category")
        if value.get(name) is not None
    }
    return PriorImage(Path(value["image"]), any_patient=any_patient, **texts)


def with_prior_of(
    prior: Prior | None,
    findings: Sequence[Finding],
    model: NoduleModel,
    ct: CTVolume,
    open_ct: Callable[[Path], CTVolume],
    context: str | None,
) -> list[Finding]:
    """Return findings with what the prior of the request says of each.

    Args:
        prior: of the request; None: the findings stay as they are.
        findings: of the current CT.
        model: answered.
        ct: the current CT.
        open_ct: opens the prior.
        context: of the guideline category.

    Raises:
        InputError: different patients, a wrong order of dates, no lungs, or not one prior a point.
    """
    if prior is None:
        return list(findings)
    if not isinstance(prior, PriorImage):
        return with_given(findings, prior, Visit.of(ct))
    from resmtnet.followup.compare import compare_findings  # elastix takes seconds to load

    before = open_ct(prior.path)
    return compare_findings(
        model,
        before,
        ct,
        findings,
        context=context,
        visits=(
            Visit.of(before, prior.date, "prior: date"),
            Visit.of(ct, prior.current_date, "prior: current_date"),
        ),
        any_patient=prior.any_patient,
        prior_category=prior.category,
    )
