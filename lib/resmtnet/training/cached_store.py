"""Writes and reads cached nodules: a safetensors file, with plain values as JSON in its header."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resmtnet.ct.measure import Measurement
from resmtnet.errors import InputError
from resmtnet.evaluation.records import Case
from resmtnet.inference.ensemble import RawOutputs
from resmtnet.training.cached_nodule import CachedNodule, MeasuredMask

SCHEMA = "resmtnet.held/2"
VIEWS = "views."
DRAWN = 14
"""Numbers of one mask: volume, long and short axis, centroid, ends of the axis, cut, Dice."""


def save_cached(path: Path, held: Sequence[CachedNodule]) -> None:
    """Write cached nodules, float32; there must be at least one.

    Raises:
        InputError: nothing to write.
    """
    from safetensors.numpy import save_file

    if not held:
        raise InputError(f"{path}: no nodule to write")
    views = held[0].observation.views
    arrays = {
        f"{VIEWS}{name}": np.stack([one.observation.views[name] for one in held]).astype(np.float32)
        for name in views
    }
    arrays["embeddings"] = np.stack([one.observation.embeddings for one in held])
    thresholds = list(held[0].masks)
    arrays["masks"] = np.array(
        [[_row(one.masks[t]) for t in thresholds] for one in held], np.float32
    ).reshape(len(held), len(thresholds), DRAWN)
    head = {"thresholds": thresholds, "records": [_plain(one) for one in held]}
    save_file(arrays, path, metadata={"schema": SCHEMA, "head": json.dumps(head)})


def load_cached(path: Path) -> list[CachedNodule]:
    """Read what save_cached wrote.

    Raises:
        InputError: not such a file, or of another version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as stored:
            metadata = stored.metadata() or {}
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a file of cached nodules ({error})") from error
    if metadata.get("schema") != SCHEMA:
        raise InputError(f"{path}: schema {metadata.get('schema')!r}; this version reads {SCHEMA}")
    head = json.loads(metadata["head"])
    views = {k.removeprefix(VIEWS): v.astype(float) for k, v in arrays.items() if VIEWS in k}
    return [
        _held(
            record,
            RawOutputs({k: v[n] for k, v in views.items()}, arrays["embeddings"][n]),
            {t: _drawn(arrays["masks"][n, at]) for at, t in enumerate(head["thresholds"])},
        )
        for n, record in enumerate(head["records"])
    ]


def _row(drawn: MeasuredMask) -> list[float]:
    found, dice = drawn.measured, np.nan if drawn.dice is None else drawn.dice
    if found is None:
        return [np.nan] * (DRAWN - 2) + [drawn.cut, dice]
    sizes = [found.volume_mm3, found.long_axis_mm, found.short_axis_mm]
    points = [*found.centroid_lps_mm, *found.long_axis_ends_lps_mm[0]]
    return [*sizes, *points, *found.long_axis_ends_lps_mm[1], drawn.cut, dice]


def _drawn(row: NDArray[np.float32]) -> MeasuredMask:
    volume, long_axis, short_axis, *rest = (float(value) for value in row)
    x, y, z, x0, y0, z0, x1, y1, z1, cut, dice = rest
    measured = (
        None
        if np.isnan(volume)
        else Measurement(volume, long_axis, short_axis, (x, y, z), ((x0, y0, z0), (x1, y1, z1)))
    )
    return MeasuredMask(measured, bool(cut), None if np.isnan(dice) else dice)


def _plain(held: CachedNodule) -> dict[str, Any]:
    return {
        "case": dataclasses.asdict(held.case),
        "truth": dict(held.truth),
        "mask_mean": held.mask_mean,
        "no_nodule": held.no_nodule,
        "notes": held.notes,
    }


def _held(
    record: Mapping[str, Any], observation: RawOutputs, masks: Mapping[float, MeasuredMask]
) -> CachedNodule:
    case: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in record["case"].items()
    }
    return CachedNodule(
        Case(**case),
        record["truth"],
        observation,
        record["mask_mean"],
        record["no_nodule"],
        tuple(record["notes"]),
        masks,
    )
