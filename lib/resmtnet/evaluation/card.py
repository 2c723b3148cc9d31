"""Writes MODEL_CARD.md from a model's manifest and the metrics documents that it quotes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resmtnet.errors import InputError
from resmtnet.evaluation.card_text import (
    CITATION,
    FURTHER_CALIBRATION,
    HOW_MADE,
    INTENDED_USE,
    LIMITS,
    NOT_A_DEVICE,
    PROTOCOL,
    REVISED,
    TARGETS,
    WHAT_IT_IS,
)
from resmtnet.evaluation.figure import COMPARED
from resmtnet.evaluation.figures import GROUPS, TITLES, all_figures
from resmtnet.evaluation.limits import limits
from resmtnet.evaluation.text import (
    binomial_text,
    count_text,
    estimate_text,
    label_text,
    preamble,
    subject,
)
from resmtnet.types import Json

IN_CARD = ("class", "uncertainty", "score", "size", "mask", "texture", "intervals", "input")
"""Groups of figures that the card shows; the strata stay in the documents."""


def model_card(manifest: Mapping[str, Any], documents: Mapping[str, Json]) -> str:
    """Return the text of MODEL_CARD.md.

    Args:
        manifest: of the model.
        documents: of schema resmtnet.metrics/3, by the names under which the card quotes them.

    Raises:
        InputError: no document, or one of other weights than the manifest's.
    """
    if not documents:
        raise InputError("a model card quotes at least one metrics.json; none was given")
    for name, document in documents.items():
        model = document["model"]
        if model is not None and model["sha256"] != manifest["sha256"]:
            raise InputError(
                f"{name} was made with the weights {model['sha256'][:12]}, the card is for "
                f"{manifest['sha256'][:12]}: evaluate this model again"
            )
    further = manifest["provenance"].get("further_calibration")
    own = (FURTHER_CALIBRATION.format(**further),) if further else ()
    option = " --calibrate-with FOLDS" if further else ""
    parts = [
        f"# Model card: Res-MTNet, version {manifest['version']}",
        NOT_A_DEVICE,
        f"## What it is\n{WHAT_IT_IS}",
        f"## Intended use\n{INTENDED_USE}",
        _data(manifest["provenance"]),
        f"## Targets and calibration\n{TARGETS}",
        _figures(documents),
        "## Limits\n" + "\n".join(f"- {line}" for line in [*limits(documents), *LIMITS, *own]),
        _how_made(manifest, option),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _how_made(manifest: Mapping[str, Any], option: str) -> str:
    revised = manifest["provenance"].get("revised")
    trained = revised["version"] if revised else manifest["version"]
    text = f"## How it was made\n{HOW_MADE.format(version=trained, further=option)}"
    return f"{text.rstrip()}\n\n{REVISED.format(**revised)}" if revised else text


def figures_section(document: Json, groups: Sequence[str] = GROUPS) -> str:
    """Return the figures of a document as Markdown tables.

    Args:
        document: of schema resmtnet.metrics/3.
        groups: which of them.
    """
    parts = [preamble(document)]
    if document["warnings"]:
        parts.append("\n".join(f"- {warning}" for warning in document["warnings"]))
    for group in groups:
        rows = [row for row in all_figures(document).values() if row["group"] == group]
        head, cells = _card_table(rows)
        lines = [_line([TITLES[group], *head]), _line(["---"] * (len(head) + 1))]
        parts.append("\n".join([*lines, *map(_line, cells)]))
    return "\n\n".join(parts) + "\n"


def _card_table(rows: Sequence[Json]) -> tuple[list[str], list[list[str]]]:
    """Head and cells of a table that is narrower than the report's: a difference follows in ()."""
    beside = [name for name in COMPARED if any(name in row["beside"] for row in rows)]
    binomial = any(row["binomial"] for row in rows)
    head = ["Nodules", "n", "Model", *(f"{COMPARED[name]} (model - it)" for name in beside)]
    cells = []
    for row in rows:
        line = [label_text(row), row["population"], count_text(row), estimate_text(row["model"])]
        line += [_compared(row["beside"].get(name)) for name in beside]
        cells.append(line + ([binomial_text(row["binomial"])] if binomial else []))
    return head + (["Binomial 95%"] if binomial else []), cells


def _compared(entry: Json | None) -> str:
    if entry is None:
        return ""
    return f"{estimate_text(entry)} ({estimate_text(entry['model_minus'])})"


def _data(provenance: Mapping[str, Any]) -> str:
    rows = _flat({name: value for name, value in provenance.items() if name != "revised"})
    table = ["| | |", "| --- | --- |", *(_line(list(row)) for row in rows)]
    return f"## Data\n{CITATION}\n\n" + "\n".join(table) + f"\n\n{PROTOCOL}"


def _flat(block: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Keys of nested values, joined by commas, with their values as text."""
    rows: list[tuple[str, str]] = []
    for key, value in block.items():
        name = f"{prefix}{key}".replace("_", " ")
        many = isinstance(value, list | tuple)
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name}, ")
        elif many and value and isinstance(value[0], Mapping):
            for number, part in enumerate(value, start=1):
                rows += _flat(part, f"{name} {number}, ")
        else:
            rows.append((name, ", ".join(map(str, value)) if many else str(value)))
    return rows


def _figures(documents: Mapping[str, Json]) -> str:
    parts = ["## Figures", "Each table is made from the document that it names."]
    for name, document in documents.items():
        parts.append(f"### {subject(document)}: `{name}`")
        if document["model"] is None:
            parts.append(
                "Out of fold: each nodule is answered by a model that never saw its patient. "
                "These are models of the same configuration, not the shipped weights."
            )
        parts.append(figures_section(document, IN_CARD).strip())
    return "\n\n".join(parts)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
