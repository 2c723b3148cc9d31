"""HTML that all report pages share: style, head, tables and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 84rem; margin: 2rem auto;
       padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 1.5rem;
        font-size: .9em }
th, td { text-align: left; vertical-align: top; padding: .2rem .9rem .2rem 0;
         border-bottom: 1px solid #ddd }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; max-width: 30rem }
figcaption { font-size: .9em; color: #555 }
.warning { border-left: 4px solid #b35900; padding-left: .8rem }
"""
DISCLAIMER = (
    "Not a medical device. Class and score estimate what readers would say of a nodule, not a "
    "risk proven by pathology."
)
Row = Sequence[object]


def page(title: str, body: Iterable[str]) -> str:
    """Return a page that needs nothing else.

    Args:
        title: of the page, text.
        body: parts of it, HTML.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1><p><strong>{escape(DISCLAIMER)}</strong></p>"
        f"{''.join(body)}</body></html>\n"
    )


def picture(caption: str, image: bytes | None) -> str:
    """Return a PNG with its caption, or the caption of one that was not drawn."""
    if image is None:
        return (
            f"<figure><figcaption>{escape(caption)} Too few nodules to draw.</figcaption></figure>"
        )
    source = base64.b64encode(image).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" width="440" src="data:image/png;base64,{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a table of texts and numbers."""

    def line(cells: Row, tag: str) -> str:
        inner = "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells)
        return f"<tr>{inner}</tr>"

    rows_html = f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
    return f'<div class="wide">{rows_html}</div>'
