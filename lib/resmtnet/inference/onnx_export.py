"""Writes the networks of a model as ONNX files, checked against PyTorch before they are kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from resmtnet.errors import ModelError
from resmtnet.files import atomic_folder
from resmtnet.inference.ensemble import neighbour_levels
from resmtnet.inference.model_folder import ARRAYS, CALIBRATION, CONFIG, Model
from resmtnet.inference.onnx_members import DESCRIPTION, SCHEMA, OnnxMember, heads_file, mask_file
from resmtnet.inference.point import COARSE
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.types import Json

OPSET = 20
MOST_DIFFERENCE = 1e-4
"""Greatest difference to PyTorch, in any logit, of a file that is kept."""
_PREFIX = "task_"
"""Put before the names of layers: `class` is a word of Python, which torch.export stumbles over."""


class _Heads(nn.Module):
    """[N, S, P, P] -> logits of every task [N, outputs], embedding [N, D]."""

    def __init__(self, network: ResMTNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: Tensor) -> tuple[Tensor, ...]:
        output = self.network(self.network.encode(slices), slices.shape[0])
        return (*output.tasks.values(), output.embedding)


class _Masks(nn.Module):
    """[1, L, P, Q] -> mask logits [1, L - 2 * step, P, Q] of the levels that have neighbours."""

    def __init__(self, network: ResMTNet, step: int) -> None:
        super().__init__()
        self.network, self.step = network, step

    def forward(self, slices: Tensor) -> Tensor:
        features = self.network.encode(slices)
        return self.network.masks(features, slices.shape[1], step=self.step, inner=self.step)


def export_onnx(model: Model, folder: Path) -> Json:
    """Write a folder with the ONNX files of each member and what describes them.

    Args:
        model: of 2D networks.
        folder: to make; replaced only when the new one is complete and agrees with PyTorch.

    Returns:
        onnx.json: what each file takes and gives, and the greatest difference to PyTorch.

    Raises:
        ModelError: the networks are 3D, or a file differs from PyTorch by more than 1e-4.
    """
    if model.config.network.spatial_dims != 2:
        raise ModelError("only 2D networks are exported to ONNX; this model is 3D")
    steps = neighbour_steps(model)
    with atomic_folder(folder, DESCRIPTION) as draft:
        for number, network in enumerate(model.networks):
            _write_member(draft, number, network.fused(), model, steps)
        for name in (CONFIG, CALIBRATION, ARRAYS):
            shutil.copyfile(model.folder / name, draft / name)
        description = _description(model, draft, steps)
        if description["parity"]["greatest_difference"] > MOST_DIFFERENCE:
            raise ModelError(
                f"the ONNX files differ from PyTorch by {description['parity']}; allowed are "
                f"{MOST_DIFFERENCE}: use other versions of torch and onnxruntime"
            )
        (draft / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    return description


def neighbour_steps(model: Model) -> tuple[int, ...]:
    """Return how many levels away the neighbours may be that a level of the mask looks at."""
    if not model.config.network.mask:
        return ()
    fine_mm = model.config.patch.mask_step_mm
    return tuple(sorted({neighbour_levels(fine_mm), neighbour_levels(COARSE * fine_mm)}))


def _write_member(
    folder: Path, number: int, network: ResMTNet, model: Model, steps: Sequence[int]
) -> None:
    from torch.export import Dim

    patch = model.config.patch
    # Two nodules and a range that begins at 2: an export from one would hold for one alone.
    example = torch.zeros(2, len(patch.offsets_mm), patch.size_px, patch.size_px)
    names = [*network(network.encode(example), 2).tasks, "embedding"]
    network = _renamed(network)
    _save(
        _Heads(network), example, {0: Dim("batch", max=65536)}, names, folder / heads_file(number)
    )
    for step in steps:
        stack = torch.zeros(1, 2 * step + 5, patch.mask_size_px, patch.mask_size_px)
        dynamic = {
            1: Dim("levels", min=2 * step + 1, max=65536),
            2: 8 * Dim("rows", min=2, max=64),
            3: 8 * Dim("columns", min=2, max=64),
        }
        _save(_Masks(network, step), stack, dynamic, ["mask"], folder / mask_file(number, step))


def _renamed(network: ResMTNet) -> ResMTNet:
    copy = deepcopy(network)
    for head in copy.heads.values():
        layers = cast(Any, head).outputs.items()
        cast(Any, head).outputs = nn.ModuleDict({_PREFIX + name: layer for name, layer in layers})
    return copy


def _save(
    module: nn.Module, example: Tensor, dynamic: dict[int, Any], outputs: list[str], path: Path
) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch.export, about its own deprecations
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=(dynamic,),
            input_names=["slices"],
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None  # for the type checker: only the older exporter returns None
    program.save(str(path))


def _description(model: Model, folder: Path, steps: Sequence[int]) -> Json:
    """Return what is in the folder, and how far it is from PyTorch on made slices."""
    patch, info = model.config.patch, model.info
    files = sorted(path.name for path in folder.glob("*.onnx"))
    greatest = max(
        _difference(folder, n, network, model, steps) for n, network in enumerate(model.networks)
    )
    return {
        "schema": SCHEMA,
        "model": {"name": info.name, "version": info.version, "sha256": info.sha256},
        "opset": OPSET,
        "members": len(model.networks),
        "mask_steps": list(steps),
        "input": {
            "slices": "float32; axial slices [nodules, S, P, P] for the heads, [1, L, P, Q] for "
            "masks: P and Q multiples of 8, L at least 2 * step + 1",
            "offsets_mm": list(patch.offsets_mm),
            "size_px": patch.size_px,
            "pixel_mm": patch.pixel_mm,
            "normalised": f"{patch.hu_low} HU is 0, {patch.hu_high} HU is 1, clipped",
        },
        "output": {
            "heads": "logits of each task [nodules, outputs], embedding [nodules, D]; a size is "
            "(log mm, log sigma)",
            "mask": "logits [1, L - 2 * step, P, Q]",
        },
        "parity": {"greatest_difference": greatest, "allowed": MOST_DIFFERENCE},
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
    }


@torch.inference_mode()
def _difference(
    folder: Path, number: int, network: ResMTNet, model: Model, steps: Sequence[int]
) -> float:
    """Return the greatest difference of a member's logits, over batches and sizes of its inputs."""
    member, own = OnnxMember(folder, number, network.config, steps), network.fused()
    draws, greatest, patch = np.random.default_rng(0), 0.0, model.config.patch
    shape = (len(patch.offsets_mm), patch.size_px, patch.size_px)
    for batch in (1, 3, 8):
        slices = torch.from_numpy(draws.random((batch, *shape), np.float32))
        one, other = own(own.encode(slices), batch), member(member.encode(slices), batch)
        pairs = [(one.tasks[name], other.tasks[name]) for name in one.tasks]
        greatest = max(greatest, *(float((a - b).abs().max()) for a, b in pairs))
    for step in steps:
        for levels, size_px in ((2 * step + 1, patch.size_px), (2 * step + 9, patch.mask_size_px)):
            stack = torch.from_numpy(draws.random((1, levels, size_px, size_px), np.float32))
            ours = own.masks(own.encode(stack), levels, step=step, inner=step)
            theirs = member.masks(member.encode(stack), levels, step=step, inner=step)
            greatest = max(greatest, float((ours - theirs).abs().max()))
    return greatest
