"""Bounds how many tokens one client can try."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

MOST = 20
"""Different wrong tokens of one address."""
WITHIN_S = 60.0
_MOST_ADDRESSES = 4096


@dataclass
class _Client:
    wrong: OrderedDict[bytes, float] = field(default_factory=OrderedDict)
    """When each wrong token came first, by its digest."""
    right: bytes = b""
    """Digest of the token that was right last: its owner is not locked out by guesses."""


class Guesses:
    """Counts the different wrong tokens by address: a stale cookie that is sent often is one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a guess.

        Args:
            clock: seconds.
        """
        self._clock = clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def wait_s(self, address: str, given: str) -> float:
        """Return how long an address has to wait before a token of it is compared; 0: not at all.

        Args:
            address: of the client.
            given: the token.
        """
        client, now_s = self._clients.get(address), self._clock()
        if client is None:
            return 0.0
        while client.wrong and next(iter(client.wrong.values())) < now_s - WITHIN_S:
            client.wrong.popitem(last=False)
        digest = _digest(given)
        if len(client.wrong) < MOST or digest == client.right or digest in client.wrong:
            return 0.0
        return max(1.0, WITHIN_S - (now_s - next(iter(client.wrong.values()))))

    def note(self, address: str, given: str, right: bool) -> bool:
        """Remember whether a token was right; return whether it is a wrong one that is new."""
        client = self._clients.setdefault(address, _Client())
        self._clients.move_to_end(address)
        if len(self._clients) > _MOST_ADDRESSES:
            self._clients.popitem(last=False)
        if right:
            client.right = _digest(given)
            return False
        digest = _digest(given)
        is_new = digest not in client.wrong and len(client.wrong) < MOST
        if is_new:
            client.wrong[digest] = self._clock()
        return is_new


def _digest(given: str) -> bytes:
    return hashlib.sha256(given.encode("utf-8", "replace")).digest()
