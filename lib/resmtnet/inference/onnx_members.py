"""Members of a model that are run by ONNX Runtime instead of PyTorch, from an exported folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from resmtnet.config import NetworkConfig
from resmtnet.errors import ModelError
from resmtnet.inference.model_folder import Model
from resmtnet.network.resmtnet import Output, ResMTNet

SCHEMA = "resmtnet.onnx/1"
DESCRIPTION = "onnx.json"


def heads_file(member: int) -> str:
    """Return the name of the file that holds a member's heads."""
    return f"heads-{member}.onnx"


def mask_file(member: int, step: int) -> str:
    """Return the name of the file that holds a member's mask decoder, by distance of neighbours."""
    return f"mask-{member}-step-{step}.onnx"


class OnnxMember:
    """Stands for a `ResMTNet` in an Ensemble: takes the same slices, gives the same outputs.

    `encode` hands the slices on; each of the two graphs encodes for itself.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        config: NetworkConfig,
        steps: Sequence[int],
        threads: int = 1,
    ) -> None:
        self.config = config
        self._heads = _session(folder / heads_file(number), threads)
        self._names = [output.name for output in self._heads.get_outputs()]
        self._masks = {step: _session(folder / mask_file(number, step), threads) for step in steps}

    def fused(self) -> OnnxMember:
        """Return itself: the norms of an exported network are folded already."""
        return self

    def encode(self, slices: Tensor) -> Tensor:
        """Return what the graphs take."""
        return slices.contiguous()

    def __call__(self, slices: Tensor, batch: int) -> Output:
        """Return tasks and embedding of `batch` nodules; see ResMTNet.forward."""
        values = dict(zip(self._names, _run(self._heads, slices), strict=True))
        embedding = values.pop("embedding")
        return Output(values, embedding)

    def masks(self, slices: Tensor, levels: int, step: int = 1, inner: int = 0) -> Tensor:
        """Return mask logits; see ResMTNet.masks.

        Raises:
            ModelError: no file was exported for this distance of the neighbours.
        """
        if step not in self._masks or inner != step:
            raise ModelError(
                f"the exported masks look {sorted(self._masks)} levels away, {step} is needed: "
                "export the model again"
            )
        return _run(self._masks[step], slices)[0]


def with_onnx(model: Model, folder: Path, threads: int = 1) -> Model:
    """Return a model whose networks are run by ONNX Runtime, on the CPU.

    Args:
        model: whose weights were exported; gives calibration and configuration.
        folder: written by `resmtnet export onnx`.
        threads: of each session.

    Raises:
        ModelError: the folder holds no export, or that of another model.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        sha256, steps = description["model"]["sha256"], description["mask_steps"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder} holds no ONNX export ({error}); `resmtnet export onnx` writes one"
        ) from error
    if sha256 != model.info.sha256:
        raise ModelError(
            f"{folder} was exported from model {description['model']['version']} "
            f"({sha256[:12]}), not from {model.info.version} ({model.info.sha256[:12]})"
        )
    members = [
        OnnxMember(folder, number, model.config.network, steps, threads)
        for number in range(len(model.networks))
    ]
    return replace(model, networks=cast(tuple[ResMTNet, ...], tuple(members)))


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: Any, slices: Tensor) -> list[Tensor]:
    return [torch.from_numpy(value) for value in session.run(None, {"slices": slices.numpy()})]
