"""The readings of a site that may train and judge, and why the others may not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resmtnet.inference.model_folder import Model
from resmtnet.readings.patients import names_of
from resmtnet.readings.record import Reading
from resmtnet.retraining.samples import Consensus, gather, gather_rejected, without
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import read_calibration_set, read_reference, read_replay

OF_REFERENCE = "its patient belongs to the reference set, on which versions are judged"
OF_SHIPPED = "its patient was used to make the shipped model, and cannot judge versions"


@dataclass(frozen=True)
class UsableReadings:
    """What the readers say of nodules that may train or judge."""

    consensus: tuple[Consensus, ...]
    """One for each nodule."""
    skipped: tuple[str, ...]
    """Nodules that neither train nor judge, each with the reason."""
    rejected: tuple[Consensus, ...] = ()
    """Places that readers call no nodule."""

    @property
    def count(self) -> int:
        """How many readings these are."""
        return len({reading for one in self.consensus for reading in one.reading_ids})


def collect(
    readings: Iterable[Reading],
    parent: Model,
    reference: Sequence[CachedNodule],
    evidence: Sequence[str],
) -> UsableReadings:
    """Gather what the readers say, without nodules that would be judged by what they made.

    Args:
        readings: all of the site, in order of arrival.
        parent: the served version; its folder says which patients it was made with.
        reference: on which versions are judged.
        evidence: what a class may rest on, the best last; see samples.gather.
    """
    readings = list(readings)
    of_reference_set = names_of(one.case.patient_id for one in reference)
    said, of_reference = without(gather(readings, evidence), of_reference_set)
    makers = {nodule.patient_id for nodule in parent.carried(read_replay).nodules}
    makers |= {one.case.patient_id for one in parent.carried(read_calibration_set)}
    said, of_shipped = without(said, names_of(makers))
    rejected, _ = without(gather_rejected(readings), of_reference_set | names_of(makers))
    skipped = [f"{one.id}: {OF_REFERENCE}" for one in of_reference]
    skipped += [f"{one.id}: {OF_SHIPPED}" for one in of_shipped]
    return UsableReadings(tuple(said), tuple(skipped), tuple(rejected))


def reference_names(parent: Model) -> frozenset[str]:
    """Return the names under which a site may know the patients of the reference set."""
    return frozenset(names_of(one.case.patient_id for one in parent.carried(read_reference)))
