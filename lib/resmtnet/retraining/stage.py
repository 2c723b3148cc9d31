"""What enters the heads' hidden layers, by nodule: depth last_stage trains these layers over it.

    stage.safetensors   of every nodule of the replay, reference and calibration sets: pooled
                        features, mean over the views, 5 bits each between the least and the
                        greatest that any of these nodules has

A model may lack the file; it answers all the same, and is trained at the other depths.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resmtnet.data.archive import Archive
from resmtnet.data.nodule import Nodule
from resmtnet.data.volumes import nodule_ct
from resmtnet.errors import InputError, ModelError
from resmtnet.inference.ensemble import BATCH, Ensemble

Inputs = Mapping[str, NDArray[np.float32]]
"""[members, inputs] by the id of the nodule; see Inference.stage_inputs."""

STAGE = "stage.safetensors"
SCHEMA = "resmtnet.stage/2"
LAYER = "heads.<branch>.hidden"
"""The layers that they enter, in every member."""
BITS = 5
STEPS = 2**BITS - 1


def look_at_stage(
    inference: Ensemble,
    archive: Archive,
    nodules: Sequence[Nodule],
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, NDArray[np.float32]]:
    """Return what enters the hidden layers at the centre of nodules.

    Args:
        inference: the members.
        archive: holds the voxels.
        nodules: of the archive.
        tell: called with nodules done and nodules in all.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(nodules), BATCH):
        part = nodules[start : start + BATCH]
        samplers = [inference.sampler(*nodule_ct(archive, nodule)) for nodule in part]
        entered = inference.stage_inputs(samplers)
        found |= {nodule.id: entered[n] for n, nodule in enumerate(part)}
        tell(len(found), len(nodules))
    return found


def stage_files(inputs: Inputs) -> dict[str, Callable[[Path], object]]:
    """Return the writer of the file by name, for write_model.

    Args:
        inputs: of at least one nodule.
    """
    from safetensors.numpy import save_file

    table = rows_of(inputs, list(inputs))
    low, step = table.min(0), np.ptp(table, 0) / STEPS
    of_step = np.where(step > 0, step, 1)  # an input that never varies is low itself
    steps = ((table - low) / of_step).round().astype(np.uint8)
    arrays = {"inputs": _packed(steps), "low": low, "step": step}
    head = {"schema": SCHEMA, "layer": LAYER, "ids": json.dumps(list(inputs))}
    return {STAGE: lambda path: save_file(arrays, path, head)}


def read_stage(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Read the file of a model folder that has been verified.

    Raises:
        InputError: the model carries none.
        ModelError: the file is damaged, or of another version.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / STAGE
    if not path.is_file():
        raise InputError(
            "depth last_stage needs stored inputs of the last stage, which this model does not "
            f"carry ({path} is missing): use depth heads, or full with the training archive"
        )
    try:
        with safe_open(path, "numpy") as stored:
            head = stored.metadata() or {}
            steps, low, step = (stored.get_tensor(name) for name in ("inputs", "low", "step"))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a file of stage inputs ({error})") from error
    if head.get("schema") != SCHEMA:
        raise ModelError(f"{path}: schema {head.get('schema')!r}; this version reads {SCHEMA}")
    ids = json.loads(head["ids"])
    table = low + step * _unpacked(steps, (len(ids), *low.shape)).astype(np.float32)
    return dict(zip(ids, table, strict=True))


def _packed(steps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the low bits of all numbers, without gaps."""
    return np.packbits(np.unpackbits(steps.reshape(-1, 1), axis=1)[:, -BITS:])


def _unpacked(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Undo _packed."""
    bits = np.unpackbits(packed, count=BITS * math.prod(shape)).reshape(-1, BITS)
    return np.packbits(np.pad(bits, ((0, 0), (8 - BITS, 0))), axis=1).reshape(shape)


def rows_of(inputs: Inputs, ids: Sequence[str]) -> NDArray[np.float32]:
    """Return the inputs of some nodules, [N, members, inputs].

    Raises:
        InputError: naming the first that is missing.
    """
    missing = [name for name in ids if name not in inputs]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(ids)} nodules have no stored input of the last stage, such "
            f"as {missing[0]}: use depth heads"
        )
    return np.stack([inputs[name] for name in ids])
