"""The record of one figure: a statistic of the predictions on one population of nodules."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from resmtnet.evaluation.baselines import BaselineAnswers
from resmtnet.evaluation.metric import Statistic
from resmtnet.evaluation.populations import ALL, Population, Stratum
from resmtnet.evaluation.readers import OfReaders
from resmtnet.evaluation.records import Case, Prediction
from resmtnet.types import Array

Value = float | tuple[float, float] | None
OfBaseline = Callable[[BaselineAnswers], Array]

COMPARED: Mapping[str, str] = {
    "size_only": "Size only (equivalent diameter)",
    "size_only_long_axis": "Size only (long axis)",
    "size_only_mean_axis": "Size only (mean axis)",
    "constant": "Constant",
    "readers": "One reader",
}
"""What a figure may be held to, by its key in metrics.json, with its title."""

BY_SIZE: Mapping[str, str] = {
    "size_only": "equivalent_diameter_mm",
    "size_only_long_axis": "long_axis_mm",
    "size_only_mean_axis": "mean_axis_mm",
}
"""The size from which each of the size-only baselines answers."""


@dataclass(frozen=True)
class Figure:
    """One row of the report."""

    name: str
    """Key in metrics.json."""
    label: str
    statistic: Statistic
    better: str
    """"higher", "lower", the ideal as a number, or "" where neither is better."""
    group: str
    """Heading of its table."""
    answer: Callable[[Prediction], Value]
    """The model's; None where it gave none, which is counted as missing."""
    population: Population = ALL
    truth: Callable[[Case], float] = lambda case: 0.0
    """The readers', NaN where they gave none, which leaves the nodule out; the figures that only
    describe the answers need none."""
    unit: str = "1"
    baselines: Mapping[str, OfBaseline] = field(default_factory=dict)
    """By keys of COMPARED."""
    readers: OfReaders | None = None
    """The same statistic of the readers among themselves, on the same nodules."""
    expected_share: float | None = None
    """Of a coverage: the nominal one, to which the figure is compared by a binomial interval."""
    optional: bool = False
    """Left out of the document where no nodule has an answer: it was not asked for."""
    stratum: str | None = None
    """Label of the part of the population that it is computed on, for the tables by stratum."""

    @property
    def is_headline(self) -> bool:
        """Whether metrics.json has it under "figures", not under "details"."""
        return self.stratum is None

    def within(self, stratum: Stratum, group: str | None = None) -> Figure:
        """Return this figure on the nodules of a stratum.

        Args:
            stratum: part of the nodules.
            group: heading under which it stands; None: the same.
        """
        return dataclasses.replace(
            self,
            name=stratified(self.name, stratum),
            population=self.population & stratum,
            group=group or self.group,
            stratum=stratum.label,
        )


def stratified(name: str, stratum: Stratum) -> str:
    """Return the name of a figure on a stratum: its slug goes before the unit.

    >>> from resmtnet.evaluation.populations import (SIZE_BANDS)
    >>> stratified("diameter_mae_mm", SIZE_BANDS[1]), stratified("auc", SIZE_BANDS[1])
    ('diameter_mae_6_10_mm', 'auc_6_10_mm')
    """
    return f"{name.removesuffix('_mm')}_{stratum.slug}"


def given(value: float | None) -> float:
    """Return the value, NaN for None."""
    return math.nan if value is None else value
