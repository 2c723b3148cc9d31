"""What an earlier CT says of a nodule, in words; no element of the page is made here."""

from __future__ import annotations

from collections.abc import Iterator

from resmtnet.followup.block import GIVEN, NEW, PAIRED
from resmtnet.followup.text import NO_TREND, doubling_text, status_text
from resmtnet.types import Json

_CHANGES = (
    ("Volume", "volume_mm3", "mm³", 0),
    ("Mean diameter", "mean_diameter_mm", "mm", 1),
    ("Long axis", "long_axis_mm", "mm", 1),
)
_SYSTEMS = (("Lung-RADS", "lung_rads"), ("BTS", "bts"))


def since(prior: Json) -> str:
    """Return when the earlier CT was.

    >>> since({"date": "2026-01-31", "interval_days": 180})
    '2026-01-31, 180 days before'
    >>> since({"date": None, "interval_days": None})
    'an earlier CT without a date'
    """
    day = prior["date"] or "an earlier CT without a date"
    days = prior["interval_days"]
    return day if days is None else f"{day}, {days} day{'' if days == 1 else 's'} before"


def verdict(prior: Json) -> str:
    """Return what became of the nodule, in a few words.

    >>> verdict({"status": "paired", "trend": "possibly growing"})
    'Possibly growing'
    """
    if prior["status"] in (PAIRED, GIVEN):
        told = prior["trend"] or NO_TREND
    else:
        told = status_text(prior["status"])
    return str(told[:1].upper() + told[1:])


def kind(prior: Json) -> str:
    """Return how the verdict is coloured: "bad", "good", or "" where it is neither.

    >>> [kind({"status": "paired", "trend": t}) for t in ("growing", "stable", None)]
    ['bad', 'good', '']
    """
    if prior["status"] == NEW or prior["trend"] == "growing":
        return "bad"
    return "good" if prior["trend"] in ("stable", "smaller") else ""


def in_short(prior: Json | None) -> str:
    """Return what the list of nodules says; "" where nobody has compared.

    >>> in_short({"status": "new", "trend": None}), in_short(None)
    ('new', '')
    """
    if prior is None:
        return ""
    if prior["status"] in (PAIRED, GIVEN):
        return str(prior["trend"] or "")
    return NEW if prior["status"] == NEW else ""


def changes(prior: Json) -> Iterator[tuple[str, str, str]]:
    """Yield each size that was measured at both times, before and now, and how it has changed."""
    for title, name, unit, digits in _CHANGES:
        change = (prior["change"] or {}).get(name)
        if change:
            sizes = f"{change['prior']:.{digits}f} to {change['current']:.{digits}f} {unit}"
            yield title, sizes, _percent(change)
    doubling = prior["volume_doubling_time"]
    if doubling:
        yield "Doubling time", doubling_text(doubling), ""
    for title, name in _SYSTEMS:
        if prior[name]:
            yield title, str(prior[name]["note"]), ""


def _percent(change: Json) -> str:
    """Return a change with its interval.

    >>> _percent({"percent": 12.4, "percent_interval_90": [-3.0, 31.0]})
    '+12% (90%: -3% to +31%)'
    """
    interval = change["percent_interval_90"]
    between = f" (90%: {interval[0]:+.0f}% to {interval[1]:+.0f}%)" if interval else ""
    return f"{change['percent']:+.0f}%{between}"
