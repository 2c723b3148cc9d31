"""The pages that a user reads, as text, and what stands on them."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"

PAGES: dict[str, str] = {
    path.relative_to(CHECKOUT).as_posix(): path.read_text("utf-8")
    for path in (
        *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted(DOCS.rglob("*.md")),
    )
}
"""Text of each page by its place in the checkout."""

HISTORY = "CHANGELOG.md"
"""It may name what is no more."""


def commands() -> list[tuple[str, str]]:
    """Return (page, what follows `resmtnet`) of every command line that a page shows."""
    pattern = re.compile(r"^ {4}(?:\.venv/bin/)?resmtnet (.*(?:\\\n.*)*)$", re.MULTILINE)
    return [
        (page, line.replace("\\\n", " "))
        for page, text in PAGES.items()
        for line in pattern.findall(text)
    ]


def python_examples() -> list[tuple[str, str]]:
    """Return (page, code) of every Python example."""
    return [
        (page, code)
        for page, text in PAGES.items()
        for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    ]
