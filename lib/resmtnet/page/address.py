"""Addresses of the page: one place for the paths that the views, the server and docs use."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from resmtnet.types import Point

ROOT = "/resmtnet"
"""Where the page is; its first view is the worklist."""
WORKLIST, LEARN = f"{ROOT}/", f"{ROOT}/learn"
ALL_READ = "all-read"
"""In the query of the worklist: a reader asked for the next study, and none was left."""


def case_address(image: str, at_lps_mm: Point | None = None) -> str:
    """Return the address of a study, and of a place in it.

    >>> case_address("1.2.3", (10.0, -4.25, 7.0))
    '/resmtnet/case/1.2.3?at=10.0,-4.2,7.0'
    """
    address = f"{ROOT}/case/{quote(image, safe='')}"
    if at_lps_mm is None:
        return address
    return f"{address}?{urlencode({'at': ','.join(f'{mm:.1f}' for mm in at_lps_mm)}, safe=',')}"


def within(address: str) -> str:
    """Return an address of the page as NiceGUI's links want it: NiceGUI puts ROOT before it.

    >>> within("/resmtnet/case/1.2.3"), within("/resmtnet/")
    ('/case/1.2.3', '/')
    """
    return address.removeprefix(ROOT)
