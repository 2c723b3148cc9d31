"""Takes paths of the server out of errors that clients see: a name of a file is enough."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_REST = r"(?:/[^\s'\",;:()\\]*)?"
_END = r"(?![\w.-])"


class Redaction:
    """Shortens the paths below some folders to their last step."""

    def __init__(self, folders: Iterable[Path | str]) -> None:
        """Compile the folders.

        Args:
            folders: paths that no client needs to know; the root folder is none of them.
        """
        texts = {str(form) for f in folders for form in (Path(f).absolute(), Path(f).resolve())}
        known = sorted(texts - {"/", "."}, key=len, reverse=True)
        self._pattern = (
            re.compile(rf"(?<![\w/])(?:{'|'.join(map(re.escape, known))}){_END}{_REST}")
            if known
            else None
        )

    def __call__(self, text: str) -> str:
        """Return a text without the folders.

        >>> Redaction(["/data"])("/data/resmtnet/readings.sqlite: no space; see /datastore")
        'readings.sqlite: no space; see /datastore'
        """
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: _last_step(found[0]), text)


def _last_step(path: str) -> str:
    return path.rstrip("/.").rsplit("/", 1)[-1] + ("." if path.endswith(".") else "")
