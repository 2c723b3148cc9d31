"""The table of a cohort, schema resmtnet.cohort/1: one row a nodule, written as Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resmtnet.files import atomic_file
from resmtnet.types import Json

SCHEMA = "resmtnet.cohort/1"
BATCH_ROWS = 5000
SIZES = (
    "long_axis_mm",
    "short_axis_mm",
    "mean_diameter_mm",
    "equivalent_diameter_mm",
    "volume_mm3",
)
COLUMNS: dict[str, str] = {
    "study_id": "string",
    "path": "string",
    "content_key": "string",
    "status": "string",
    "reason": "string",
    "nodule_id": "string",
    "source": "string",
    **dict.fromkeys(("x_lps_mm", "y_lps_mm", "z_lps_mm"), "double"),
    "class_name": "string",
    "probability_malignant": "double",
    **dict.fromkeys(("score", "score_low", "score_high"), "double"),
    **{f"{name}{end}": "double" for name in SIZES for end in ("", "_low", "_high")},
    "texture": "string",
    "nodule_probability": "double",
    "out_of_distribution": "double",
    "warnings": "string",
    "model_version": "string",
    "model_sha256": "string",
}
"""Type of each column, in order."""


def rows_of(record: Json) -> list[Json]:
    """Return the rows of one study.

    Args:
        record: what the ledger keeps of it; a study that failed, or without nodules, is one row.
    """
    common = {
        name: record[name] for name in ("study_id", "path", "content_key", "status", "reason")
    }
    common |= {"model_version": record["model"]["version"]}
    common |= {"model_sha256": record["model"]["sha256"]}
    document = record["findings"]
    nodules = document["nodules"] if document else []
    found = [common | _nodule(nodule) for nodule in nodules] or [common]
    return [{name: row.get(name) for name in COLUMNS} for row in found]


def _nodule(nodule: Json) -> Json:
    x, y, z = nodule["centre_lps_mm"]
    low, high = nodule["malignancy"]["interval_90"]
    row: Json = {
        "nodule_id": nodule["id"],
        "source": nodule["source"],
        "x_lps_mm": x,
        "y_lps_mm": y,
        "z_lps_mm": z,
        "class_name": nodule["class"]["name"],
        "probability_malignant": nodule["class"]["probabilities"]["malignant"],
        "score": nodule["malignancy"]["score"],
        "score_low": low,
        "score_high": high,
        "texture": (nodule["characteristics"].get("texture") or {}).get("name"),
        "nodule_probability": nodule["nodule_probability"],
        "out_of_distribution": nodule["uncertainty"]["out_of_distribution"],
        "warnings": "; ".join(nodule["warnings"]),
    }
    for name in SIZES:
        ends = nodule["size"]["interval_90"].get(name) or (None, None)
        row |= {name: nodule["size"][name], f"{name}_low": ends[0], f"{name}_high": ends[1]}
    return row


def write_parquet(path: Path, records: Iterable[Json]) -> int:
    """Write the rows of all studies, some thousands at a time, and return how many there are."""
    import pyarrow as pa
    from pyarrow import parquet

    types: dict[str, Any] = {"string": pa.string(), "double": pa.float64()}
    fields = [(name, types[kind]) for name, kind in COLUMNS.items()]
    schema = pa.schema(fields, metadata={"schema": SCHEMA})
    count = 0
    with atomic_file(path) as draft, parquet.ParquetWriter(draft, schema) as writer:
        waiting: list[Json] = []
        for record in records:
            waiting += rows_of(record)
            if len(waiting) >= BATCH_ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                count, waiting = count + len(waiting), []
        writer.write_table(pa.Table.from_pylist(waiting, schema))
    return count + len(waiting)
