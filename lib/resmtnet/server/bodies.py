"""Bounds on what a client sends: size while it arrives, names and depth of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.types import Message, Receive

from resmtnet.server.rules import JSON_BYTES, Refused, ServerRules

DEEPEST = 20
"""Greatest depth of JSON."""

_GPUS = re.compile(r"all|\d{1,3}(,\d{1,3}){0,31}")


def bounded(receive: Receive, most_bytes: int) -> Receive:
    """Return a channel that ends with an error when more than `most_bytes` have arrived."""
    seen = 0

    async def next_part() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > most_bytes:
                raise Refused(413, too_large(most_bytes))
        return message

    return next_part


def too_large(most_bytes: int) -> str:
    """The reason for refusing a body, for the client."""
    return f"The body has more than {most_bytes:,} bytes, which is the most that is taken here."


async def read_all(receive: Receive, most_bytes: int = JSON_BYTES) -> bytes:
    """Return a whole body.

    Raises:
        Refused: 413 if it has more than `most_bytes`, 400 if the client left.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The client left before it had sent the body.")
        body += message.get("body", b"")
        if len(body) > most_bytes:
            raise Refused(413, too_large(most_bytes))
        if not message.get("more_body", False):
            return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives a body that has been read already."""
    sent = False

    async def next_part() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_part


def json_object(text: str | bytes, what: str) -> dict[str, Any]:
    """Return a JSON object that a client sent.

    Args:
        text: the JSON; empty for no parameters.
        what: it is, for the message.

    Raises:
        Refused: 400 if it is no JSON, no object, or nested too deep.

    >>> json_object('{"a": 1}', "params")
    {'a': 1}
    """
    if not text:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text
    if found is None:
        return {}
    if not isinstance(found, dict) or _depth(found) > DEEPEST:
        raise Refused(400, f"{what}: a JSON object is needed, at most {DEEPEST} levels deep.")
    return found


def check_parameters(body: Mapping[str, Any], path: str, rules: ServerRules) -> None:
    """Refuse names that the route of a JSON body does not know.

    Raises:
        Refused: 400 with the first one, and those that are allowed.
    """
    allowed = rules.keys_of(path)
    if allowed is None:
        return
    groups = [name for name in rules.trainers if path.startswith("/train")]
    nested = [body[name] for name in groups if isinstance(body.get(name), dict)]
    for part in (body, *nested):
        unknown = sorted(str(n)[:80] for n in part if n not in allowed and n not in groups)
        if unknown:
            raise Refused(
                400,
                f"{unknown[0]} is no option of {path[:60]}; allowed are "
                f"{', '.join(sorted(allowed))}.",
            )
        gpus = part.get("gpus")
        if gpus not in (None, "") and not (isinstance(gpus, str) and _GPUS.fullmatch(gpus)):
            raise Refused(400, "gpus: 'all', or numbers of GPUs with commas, are needed.")


def _depth(found: object) -> int:
    """Return how deep lists and objects lie in one another, without recursion."""
    deepest, level = 0, [found]
    while level and deepest <= DEEPEST:
        inner: list[object] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
        deepest += 1
        level = [value for value in inner if isinstance(value, (dict, list))]
    return deepest
