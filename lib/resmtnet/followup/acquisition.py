"""How two CTs were made, as far as they say, and what that means for a change between them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resmtnet.ct import CTVolume
from resmtnet.findings import finite
from resmtnet.readings.patients import header_texts
from resmtnet.types import Json

FINE_MM = 2.0
"""Slices up to this thickness are what `change.REPEATABILITY` was fitted on."""
THICK = 0.15
"""Half width of the log of a volume's ratio, for each mm that slices are thicker than FINE_MM. From
real nodules made over; it hardly depends on their size. See `benchmarks/follow_up_protocols.py`."""
OTHER_KERNEL = 0.35
"""The same of two kernels that differ."""
SLICES_DIFFER = 1.5
"""Ratio of thicknesses from which it is told."""
BREATH_DIFFERS = 0.15
"""Share of the lungs' volume from which a difference is told."""
DISTRUST = "distrust a change in volume of less than 25%"

_TAGS = (
    *("SliceThickness", "ConvolutionKernel", "Manufacturer", "ManufacturerModelName"),
    *("ContrastBolusAgent", "PatientPosition", "PatientID", "Modality"),
)


@dataclass(frozen=True)
class Acquisition:
    """How one CT was made; what nobody says is None."""

    slice_mm: float
    """Thickness of the slices, or their distance if that is larger."""
    kernel: str | None = None
    scanner: str | None = None
    contrast: bool | None = None
    """Whether a contrast agent was given; a DICOM header without one says no."""
    prone: bool | None = None

    @classmethod
    def of(cls, ct: CTVolume) -> Acquisition:
        """Read the headers of a CT, and its grid."""
        grid = ct.geometry
        told = {} if ct.path is None else header_texts(ct.path, _TAGS)
        maker = " ".join(told.get(name, "") for name in ("Manufacturer", "ManufacturerModelName"))
        position = told.get("PatientPosition", "")
        return cls(
            slice_mm=max(grid.spacing_mm[grid.slice_axis], _number(told.get("SliceThickness"))),
            kernel=told.get("ConvolutionKernel"),
            scanner=maker.strip() or None,
            contrast="ContrastBolusAgent" in told if told else None,
            prone=position.endswith("P") if len(position) == len("HFS") else None,
        )

    def to_json(self) -> Json:
        """Return one entry of "acquisition"."""
        return {
            "slice_mm": finite(self.slice_mm, 3),
            "kernel": self.kernel,
            "scanner": self.scanner,
            "contrast": self.contrast,
            "prone": self.prone,
        }


def widening(before: Acquisition, now: Acquisition) -> float:
    """Return the half width of the log of a volume's ratio that thick slices and kernels add.

    Args:
        before: of the prior CT.
        now: of the current one.

    >>> widening(Acquisition(1.25), Acquisition(2.0))
    0.0
    >>> thin, thick = Acquisition(1.0), Acquisition(5.0)
    >>> round(widening(thin, thick), 2), round(widening(thick, thick), 2)
    (0.45, 0.64)
    """
    thick_mm = math.hypot(*(max(0.0, one.slice_mm - FINE_MM) for one in (before, now)))
    kernel = OTHER_KERNEL if _differ(before.kernel, now.kernel) else 0.0
    return math.hypot(THICK * thick_mm, kernel)


def differences(before: Acquisition, now: Acquisition, lungs_ratio: float | None) -> list[str]:
    """Return what a reader of a comparison must know of both CTs.

    Args:
        before: of the prior CT.
        now: of the current one.
        lungs_ratio: volume of the lungs now as a multiple of that before; None where one of the
            CTs does not show them whole.
    """
    found = []
    thin, thick = sorted((before.slice_mm, now.slice_mm))
    if thick > FINE_MM and thick / thin >= SLICES_DIFFER:
        found.append(
            f"slices of {before.slice_mm:g} mm before and {now.slice_mm:g} mm now: the intervals "
            "of the changes are wider for it"
        )
    elif thick > FINE_MM:
        found.append(f"slices of {thick:g} mm: the intervals of the changes are wider for it")
    if _differ(before.kernel, now.kernel):
        found.append(
            f"kernel {before.kernel} before and {now.kernel} now: the intervals of the changes "
            "are wider for it"
        )
    if _differ(before.scanner, now.scanner):
        found.append(f"{before.scanner} before and {now.scanner} now: {DISTRUST}")
    if _differ(before.contrast, now.contrast):
        word = "before" if before.contrast else "now"
        found.append(f"with a contrast agent {word} only: {DISTRUST}")
    if _differ(before.prone, now.prone):
        found.append(f"prone {'before' if before.prone else 'now'} only: check every pair")
    if lungs_ratio is not None and abs(lungs_ratio - 1) > BREATH_DIFFERS:
        found.append(
            f"the lungs are {100 * (lungs_ratio - 1):+.0f}% in volume, another breath: {DISTRUST}"
        )
    return found + _unknown(before, now)


def _unknown(before: Acquisition, now: Acquisition) -> list[str]:
    silent = [name for name, one in (("prior", before), ("current", now)) if one.contrast is None]
    if not silent:
        return []
    which = "both CTs" if len(silent) == 2 else f"the {silent[0]} CT"
    return [
        f"scanner, kernel and contrast agent of {which} are not known: where they differ, "
        f"{DISTRUST}"
    ]


def _differ(one: str | bool | None, other: str | bool | None) -> bool:
    """Whether both are known and not the same."""
    return one is not None and other is not None and one != other


def _number(text: str | None) -> float:
    """Return a positive number of a header, 0 for none."""
    try:
        number = float(text or 0.0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and 0 < number < 50 else 0.0
