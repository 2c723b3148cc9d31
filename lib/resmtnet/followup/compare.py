"""Compares two CTs of one patient: registers them, pairs their nodules, tells how each changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from resmtnet.ct import CTVolume
from resmtnet.findings import Finding, finite
from resmtnet.followup.acquisition import Acquisition, differences, widening
from resmtnet.followup.block import NEW, NOT_COVERED, PAIRED, SHARED, UNCLEAR, Before, with_prior
from resmtnet.followup.category import BASELINE
from resmtnet.followup.look import Places, look, place_of, size_mm
from resmtnet.followup.pairing import Spot, pair
from resmtnet.followup.registration import Registration, register
from resmtnet.followup.solid_part import texture_of
from resmtnet.followup.visit import Visit, days_between
from resmtnet.inference.protocol import NoduleModel
from resmtnet.readings.dicom.nodule import tracking_uid_at
from resmtnet.types import Json, Point

SCHEMA = "resmtnet.comparison/1"
VANISHED = "vanished"
"""Status of a nodule of the prior that is not seen at its mapped place."""
FOLLOW_UP = "screening_followup"
POOR = (
    "the two CTs could be registered only poorly: check every pair; nothing is called new or "
    "vanished"
)


@dataclass(frozen=True)
class Gone:
    """A nodule of the prior that has no partner in the current CT."""

    prior: Finding
    status: str
    """VANISHED, NOT_COVERED, UNCLEAR or SHARED."""
    place_lps_mm: Point
    """Where it would lie in the current CT."""

    def to_json(self) -> Json:
        """Return one entry of "gone"."""
        return {
            "nodule_id": self.prior.id,
            "status": self.status,
            "place_lps_mm": [finite(mm) for mm in self.place_lps_mm],
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """What became of the nodules between two CTs."""

    prior: list[Finding]
    current: list[Finding]
    """Each with its `prior` block."""
    gone: list[Gone]
    days: int | None
    visits: tuple[Visit, Visit]
    registration: Registration
    acquisitions: tuple[Acquisition, Acquisition]
    """How both CTs were made."""
    warnings: tuple[str, ...] = ()
    """What holds of all nodules; each `prior` block of a pair has it under `notes`."""

    def to_json(self, model: NoduleModel, prior_ct: CTVolume, current_ct: CTVolume) -> Json:
        """Return the document of schema resmtnet.comparison/1."""
        return {
            "schema": SCHEMA,
            "interval_days": self.days,
            "dates": [visit.day.isoformat() if visit.day else None for visit in self.visits],
            "registration": {
                "lung_overlap": finite(self.registration.overlap),
                "good": self.registration.is_good,
            },
            "acquisition": {
                name: one.to_json()
                for name, one in zip(("prior", "current"), self.acquisitions, strict=True)
            },
            "gone": [one.to_json() for one in self.gone],
            "prior": model.document(prior_ct, self.prior),
            "current": model.document(current_ct, self.current),
            "warnings": list(self.warnings),
        }


def compare(
    model: NoduleModel,
    prior: CTVolume,
    current: CTVolume,
    *,
    prior_points: Sequence[Point] | None = None,
    points: Sequence[Point] | None = None,
    context: str | None = None,
    visits: tuple[Visit, Visit] | None = None,
    any_patient: bool = False,
    prior_category: str | None = None,
    max_candidates: int = 10,
) -> Comparison:
    """Compare two CTs of one patient.

    Args:
        model: a Characterizer.
        prior: the earlier CT.
        current: the later one.
        prior_points: nodules of the prior, LPS mm of the prior.
        points: nodules of the current CT, LPS mm of the current. If only one of the two lists is
            given, its nodules are looked for in the other CT; without both, both CTs are searched.
            What has no partner is looked for in any case.
        context: of the guideline category of the current CT.
        visits: dates and patients of both; None: as their headers tell.
        any_patient: they are of one patient, whatever the headers say.
        prior_category: Lung-RADS category of the prior, for stable nodules; None: that of the
            nodule as if the prior were a first screening CT.
        max_candidates: greatest number of nodules of a search.

    Raises:
        InputError: different patients, a wrong order of dates, or no lungs in one of the CTs.
        PointError: a point lies outside its CT.
    """
    visits = visits or (Visit.of(prior), Visit.of(current))
    days = days_between(*visits, any_patient=any_patient)
    before_context = BASELINE if context == FOLLOW_UP else None
    search = prior_points is None and points is None
    before: list[Finding] = []
    now: list[Finding] = []
    if prior_points is not None:
        before = model(prior, prior_points, context=before_context)
    elif search:
        before = model.find(prior, context=before_context, max_candidates=max_candidates)
    if points is not None:
        now = model(current, points, context=context)
    elif search:
        now = model.find(current, context=context, max_candidates=max_candidates)
    work = _Work(model, prior, current, before, now, register(prior, current), context)
    work.pair_all()
    work.look_in_current()
    work.look_in_prior()
    return work.result(visits, days, prior_category)


def compare_findings(
    model: NoduleModel,
    prior: CTVolume,
    current: CTVolume,
    findings: Sequence[Finding],
    *,
    context: str | None,
    visits: tuple[Visit, Visit],
    any_patient: bool = False,
    prior_category: str | None = None,
) -> list[Finding]:
    """Return findings of a current CT, each with its `prior` block: it is looked for in the prior.

    Args:
        model: a Characterizer.
        prior: the earlier CT.
        current: the CT of the findings.
        findings: of it.
        context: of their guideline category.
        visits: dates and patients of both.
        any_patient: they are of one patient, whatever the headers say.
        prior_category: as in `compare`.

    Raises:
        InputError: as of `compare`.
    """
    days = days_between(*visits, any_patient=any_patient)
    registered = register(prior, current)
    work = _Work(model, prior, current, [], list(findings), registered, context)
    work.look_in_prior()
    return work.result(visits, days, prior_category).current


@dataclass(eq=False)
class _Work:
    """A comparison in the making."""

    model: NoduleModel
    prior_ct: CTVolume
    current_ct: CTVolume
    before: list[Finding]
    now: list[Finding]
    registration: Registration
    context: str | None
    pairs: dict[int, int] = field(default_factory=dict)
    """Index in `now` to index in `before`."""
    missing: dict[int, str] = field(default_factory=dict)
    """Status of what is in `now` and not in `before`, by index in `now`."""
    gone: dict[int, str] = field(default_factory=dict)
    """The same the other way."""

    @cached_property
    def _acquisitions(self) -> tuple[Acquisition, Acquisition]:
        return Acquisition.of(self.prior_ct), Acquisition.of(self.current_ct)

    @cached_property
    def _of_all(self) -> tuple[str, ...]:
        """What a reader must know of every pair."""
        poor = () if self.registration.is_good else (POOR,)
        return (*poor, *differences(*self._acquisitions, self.registration.lungs_ratio))

    @cached_property
    def _in_prior(self) -> Places:
        return Places(self.prior_ct, self.registration.prior)

    @cached_property
    def _in_current(self) -> Places:
        return Places(self.current_ct, self.registration.current)

    def pair_all(self) -> None:
        """Pair what was characterised in both CTs."""
        before = [
            Spot(self._mapped(one), size_mm(one), self.registration.prior.side(place_of(one)))
            for one in self.before
        ]
        now = [
            Spot(place_of(one), size_mm(one), self.registration.current.side(place_of(one)))
            for one in self.now
        ]
        self.pairs = {after: was for was, after in pair(before, now)}

    def look_in_current(self) -> None:
        """Look for the nodules of the prior that have no partner at their mapped places."""
        for n, finding in enumerate(self.before):
            if n in self.pairs.values():
                continue
            place = self._mapped(finding)
            side = self.registration.prior.side(place_of(finding))
            found, covered = self._look(self._in_current, finding, place, side, self.context)
            if found is None:
                self.gone[n] = self._absent(VANISHED, covered)
            elif self._is_taken(found, self.now):
                self.gone[n] = SHARED
            else:
                self.pairs[len(self.now)] = n
                self.now.append(replace(found, id=_next_id(self.now)))

    def look_in_prior(self) -> None:
        """Look for the nodules of the current CT that have no partner in the prior."""
        context = BASELINE if self.context == FOLLOW_UP else None
        for n, finding in enumerate(self.now):
            if n in self.pairs:
                continue
            place = self.registration.to_prior(place_of(finding))
            side = self.registration.current.side(place_of(finding))
            found, covered = self._look(self._in_prior, finding, place, side, context)
            if found is None:
                self.missing[n] = self._absent(NEW, covered)
            elif self._is_taken(found, self.before):
                self.missing[n] = SHARED
            else:
                self.pairs[n] = len(self.before)
                self.before.append(replace(found, id=_next_id(self.before)))

    def result(
        self, visits: tuple[Visit, Visit], days: int | None, category: str | None
    ) -> Comparison:
        """Return the comparison."""
        told = [self._told(n, visits[0], days, category) for n in range(len(self.now))]
        left = [n for n in range(len(self.before)) if n not in self.pairs.values()]
        gone = [
            Gone(self.before[n], self.gone.get(n, UNCLEAR), self._mapped(self.before[n]))
            for n in left
        ]
        return Comparison(
            self.before,
            told,
            gone,
            days,
            visits,
            self.registration,
            self._acquisitions,
            self._of_all,
        )

    def _told(self, n: int, visit: Visit, days: int | None, category: str | None) -> Finding:
        finding = self.now[n]
        if n not in self.pairs:
            place = self.registration.to_prior(place_of(finding))
            status = self.missing.get(n, UNCLEAR)
            return with_prior(finding, status, visit, days, place_lps_mm=place)
        was = self.before[self.pairs[n]]
        own = (was.guidelines.get("lung_rads") or {}).get("category")
        before = Before(
            size=was.size,
            nodule_id=was.id,
            place_lps_mm=place_of(was),
            distance_mm=math.dist(self._mapped(was), place_of(finding)),
            tracking_uid=tracking_uid_at(visit.image_id, place_of(was)),
            texture=texture_of(was),
            category=category or own,
            first_category=own,
        )
        wider = widening(*self._acquisitions)
        return with_prior(finding, PAIRED, visit, days, before, widening=wider, notes=self._of_all)

    def _look(
        self, where: Places, finding: Finding, place: Point, side: int, context: str | None
    ) -> tuple[Finding | None, bool]:
        """Return the nodule at a place of the other CT, and whether that CT shows the place."""
        if not where.ct.geometry.contains(place):
            return None, False
        return look(self.model, where, place, side, finding, context), True

    def _mapped(self, finding: Finding) -> Point:
        return self.registration.to_current(place_of(finding))

    def _absent(self, word: str, covered: bool) -> str:
        if not covered:
            return NOT_COVERED
        return word if self.registration.is_good else UNCLEAR

    def _is_taken(self, found: Finding, others: Sequence[Finding]) -> bool:
        """Whether a nodule that was looked for is one that has a partner already."""
        return any(
            math.dist(place_of(found), place_of(other)) < max(3.0, size_mm(other) / 2)
            for other in others
        )


def _next_id(findings: Sequence[Finding]) -> str:
    taken = {finding.id for finding in findings}
    return next(f"N{n}" for n in range(1, len(findings) + 2) if f"N{n}" not in taken)
