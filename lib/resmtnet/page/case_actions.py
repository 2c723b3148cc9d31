"""What a reader does on the page becomes readings, by the same way in as a viewer's label.

Nothing is ever deleted: to take something back adds a reading that says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct import Geometry
from resmtnet.ct.measure import MEASURED, measure
from resmtnet.errors import InputError
from resmtnet.page.case import WITHDRAWN, CaseNodule
from resmtnet.page.services import Services
from resmtnet.readings.formats.draft import AnsweredNodule, DraftReading, ParsedLabel
from resmtnet.readings.record import Reading
from resmtnet.readings.reply import Reply
from resmtnet.readings.supersede import by_reader, effective
from resmtnet.types import Point

SOURCE = "review"
NOT_A_NODULE = "not_a_nodule"


@dataclass
class Said:
    """What a reader has set in the form and not saved yet."""

    class_name: str | None = None
    malignancy: int | None = None
    characteristics: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    """Of the axes that were dragged, mm by name."""
    comment: str = ""
    mask: NDArray[np.uint8] | None = None
    """[k, j, i] of the nodule alone, where it was drawn or changed."""
    grid: Geometry | None = None
    """Of the mask."""

    @property
    def anything(self) -> bool:
        """Whether anything was set."""
        words = (self.class_name, self.malignancy, self.characteristics, self.sizes, self.comment)
        return any(words) or self.mask is not None


def correct(
    services: Services, image: str, nodule: CaseNodule, said: Said, seen: bool | None
) -> Reply:
    """Keep what a reader says of a nodule.

    Args:
        services: see there; the visitor has a name.
        image: id of the image.
        nodule: which it is of.
        said: what was set.
        seen: whether the reader had seen the model's answer before; None: not known.

    Returns:
        What was kept, and what was not, in words.

    Raises:
        InputError: the drawn mask is empty, or the reader has no name.
        StoreError: it could not be written, and was not.
    """
    sizes, centre = dict(said.sizes), nodule.centre_lps_mm
    if said.mask is not None and said.grid is not None:
        measured = measure(said.mask, said.grid)
        if measured is None:
            raise InputError(
                "The mask is empty. If there is no nodule, say so with 'Not a nodule'."
            )
        sizes = {name: getattr(measured, name) for name in MEASURED} | sizes
    draft = DraftReading(
        nodule.name,
        centre,
        said.class_name,
        said.malignancy,
        sizes,
        said.characteristics,
        comment=said.comment,
        known=_known(nodule, seen),
        mask=said.mask,
        grid=said.grid,
    )
    return _keep(services, image, [draft])


def accept(services: Services, image: str, nodules: Sequence[CaseNodule]) -> Reply:
    """Keep that the model's answer is right; of several nodules at once it is a bulk reading.

    Raises:
        InputError: the reader has no name, or no nodule has an answer.
        StoreError: it could not be written, and was not.
    """
    acceptance = "bulk" if len(nodules) > 1 else "single"
    drafts = [
        DraftReading(
            nodule.name,
            nodule.centre_lps_mm,
            nodule.finding.class_name,
            acceptance=acceptance,
            known=_known(nodule, seen=True),
        )
        for nodule in nodules
        if nodule.finding is not None
    ]
    if not drafts:
        raise InputError("There is no answer to accept: say what you see yourself.")
    return _keep(services, image, drafts)


def reject(
    services: Services, image: str, nodule: CaseNodule, comment: str, seen: bool | None
) -> Reply:
    """Keep that there is no nodule at a place.

    Raises:
        InputError: the reader has no name.
        StoreError: it could not be written, and was not.
    """
    said = Said(class_name=NOT_A_NODULE, comment=comment)
    return correct(services, image, nodule, said, seen)


def undo(services: Services, image: str, nodule: CaseNodule) -> Reply:
    """Take back what this reader said last of a nodule; what they had said before holds again.

    A reading is added that withdraws everything, and one that repeats what was said before.

    Raises:
        InputError: there is nothing to take back.
        StoreError: it could not be written, and was not.
    """
    reader, nodule_id = _reader(services), nodule.nodule_id
    store = services.inbox.store
    every = [r for r in store.readings(image, nodule_id, every=True) if r.reader == reader]
    chain = next((c for c in by_reader(every) if c[-1].evidence == "impression"), [])
    stack = _standing(chain)
    if nodule_id is None or not stack:
        raise InputError("There is nothing of yours to undo for this nodule.")
    last = chain[-1]
    withdrawn = Reading(
        image=image,
        reader=reader,
        nodule=nodule_id,
        centre_lps_mm=last.centre_lps_mm,
        excluded=True,
        comment=WITHDRAWN,
        source=SOURCE,
        answered=last.answered,
    )
    reply = services.inbox.add([withdrawn], find_answers=False)
    before = stack[:-1]
    if before:
        again = _again(effective(before))
        more = services.inbox.add([again], find_answers=False)
        reply.readings += more.readings
        reply.not_understood += more.not_understood
    return reply


def _standing(chain: Sequence[Reading]) -> list[Reading]:
    """What of a reader's readings was not taken back: an undo removes one step, with its repeat."""
    stack: list[Reading] = []
    repeats = False
    for reading in chain:
        if reading.excluded and reading.comment == WITHDRAWN:
            stack = stack[:-1]
            repeats = bool(stack)
        elif repeats:
            repeats = False  # says again what is on the stack already
        else:
            stack.append(reading)
    return stack


def _again(reading: Reading) -> Reading:
    """The same words as a new reading."""
    fresh = Reading(image=reading.image, reader=reading.reader, nodule=reading.nodule)
    return replace(reading, id=fresh.id, made_at=fresh.made_at, source=SOURCE, purpose=None)


def _known(nodule: CaseNodule, seen: bool | None) -> AnsweredNodule | None:
    return None if nodule.known is None else replace(nodule.known, seen=seen)


def _reader(services: Services) -> str:
    if not services.visitor.reader:
        raise InputError("Say who reads first: your name is at the top of the page.")
    return services.visitor.reader


def _keep(services: Services, image: str, drafts: Sequence[DraftReading]) -> Reply:
    return services.inbox.add_parsed(
        image, _reader(services), SOURCE, ParsedLabel(drafts=tuple(drafts))
    )


def dragged_sizes(axes: Mapping[str, Sequence[Point]]) -> dict[str, float]:
    """Return the sizes of axes that a reader has dragged.

    Args:
        axes: two ends, mm, of "long" and "short".

    >>> dragged_sizes({"long": [(0, 0, 0), (8, 0, 0)], "short": [(0, 0, 0), (0, 6, 0)]})
    {'long_axis_mm': 8.0, 'short_axis_mm': 6.0, 'mean_diameter_mm': 7.0}
    """
    lengths = [math.dist(*axes[name]) for name in ("long", "short")]
    long_mm, short_mm = max(lengths), min(lengths)
    return {
        "long_axis_mm": round(long_mm, 2),
        "short_axis_mm": round(short_mm, 2),
        "mean_diameter_mm": round((long_mm + short_mm) / 2, 2),
    }
