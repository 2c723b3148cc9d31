"""Which regions of a label map are one nodule, and which known nodule that is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from resmtnet.readings.formats.draft import AnsweredNodule
from resmtnet.readings.formats.regions import (
    LARGEST_MM,
    Overlap,
    Region,
    is_all_of,
    joined,
    overlap,
)

_SHARED = 0.1
"""A region is of a known nodule if this share of the smaller of the two is common."""
_COVERED = 0.5


@dataclass(eq=False)
class Outline:
    """One nodule as it is drawn: a region, or several of one segment over one known nodule."""

    piece: Region
    known: AnsweredNodule | None = None
    others: list[AnsweredNodule] = field(default_factory=list)
    """Further known nodules that it covers."""
    same: bool = False
    """Drawn as the model had drawn it, as far as can be known."""
    blurred: bool = False
    """It is so but for voxels at the border, which resampling may have changed."""
    touches: bool = False
    """It is a part of a known nodule of which another segment has more."""


def outlines(
    found: Sequence[Region], known: Sequence[AnsweredNodule], resampled: bool = False
) -> list[Outline]:
    """What is drawn, each known nodule matched at most once.

    Args:
        found: the regions of all segments.
        known: what models had answered for the image.
        resampled: the label map may differ from what was drawn by voxels at the border.
    """
    drawn: list[Outline] = []
    groups: dict[tuple[int, int], list[Region]] = defaultdict(list)
    for piece in found:
        over = _overlaps(piece, known, resampled)
        untouched = _untouched(piece, over)
        if untouched:
            drawn += [
                Outline(_part(piece, k), k, same=True, blurred=over[k].same and not over[k].exact)
                for k in untouched
            ]
        elif over:
            groups[piece.value, known.index(_best(over))].append(piece)
        else:
            inner = next((k for k in known if k.mask is None and _in(piece, k)), None)
            drawn.append(Outline(piece, inner))
    largest: dict[int, int] = {}
    for (value, n), parts in groups.items():
        size = int(sum(part.mask.sum() for part in parts))
        largest.setdefault(n, value)
        if size > sum(part.mask.sum() for part in groups[largest[n], n]):
            largest[n] = value
    taken = {id(outline.known) for outline in drawn}
    for (value, n), parts in groups.items():
        whole = joined(parts)
        over = _overlaps(whole, known, resampled)
        if largest[n] != value or id(known[n]) in taken:
            drawn.append(Outline(whole, touches=True))
            continue
        how = over.get(known[n])
        same = how is not None and how.same
        blurred = how is not None and how.same and not how.exact
        drawn.append(Outline(whole, known[n], _covered(over, known[n]), same, blurred))
    return drawn


def _overlaps(
    piece: Region, known: Iterable[AnsweredNodule], resampled: bool
) -> dict[AnsweredNodule, Overlap]:
    """The known nodules that share enough with a piece."""
    if piece.extent_mm > LARGEST_MM:
        return {}
    size = int(piece.mask.sum())
    found = {k: how for k in known if (how := overlap(piece, k, resampled)) is not None}
    return {k: o for k, o in found.items() if max(o.voxels / size, o.of_known) >= _SHARED}


def _best(over: Mapping[AnsweredNodule, Overlap]) -> AnsweredNodule:
    """The best overlap; of equal ones the answer that the reader was given, then the latest."""
    return max(over, key=lambda k: (round(over[k].dice, 6), k.seen is True, -k.answer))


def _untouched(piece: Region, over: Mapping[AnsweredNodule, Overlap]) -> list[AnsweredNodule]:
    """The known nodules that a piece shows just as one answer has drawn them."""
    same = {k: how for k, how in over.items() if how.same}
    if same:
        return [_best(same)]
    answers: dict[int, list[AnsweredNodule]] = defaultdict(list)
    for k, how in over.items():
        if how.of_known == 1:
            answers[k.answer].append(k)
    for _, several in sorted(answers.items()):
        if len(several) > 1 and is_all_of(piece, several):
            return several
    return []


def _covered(over: Mapping[AnsweredNodule, Overlap], best: AnsweredNodule) -> list[AnsweredNodule]:
    """Other nodules of the same answer that lie under the same region."""
    return [
        k
        for k, how in over.items()
        if k is not best and k.answer == best.answer and how.of_known >= _COVERED
    ]


def _part(piece: Region, known: AnsweredNodule) -> Region:
    """The known nodule alone, where a piece holds several that touch."""
    if known.mask is None or known.grid is None:
        return piece
    return Region(piece.value, known.mask, known.grid)


def _in(piece: Region, known: AnsweredNodule) -> bool:
    return piece.extent_mm <= LARGEST_MM and piece.contains(known.centre_lps_mm)
