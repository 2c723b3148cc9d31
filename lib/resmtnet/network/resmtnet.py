"""The network Res-MTNet: a shared residual trunk, two linked branches, and a mask decoder.

Our reading of the abstract of Lin et al., "A Residual Multi-task Network for Joint Classification
and Regression in Medical Imaging", arXiv 2502.19692 (2025): shared feature extraction, a
classification and a regression branch, residual connections inside and between them. Depth,
widths, inputs and losses are ours.

    slices [B, S, H, W] --fold--> [B*S, 1, H, W]                (3D: [B, 1, S, H, W])
      windows  the whole range, and a part of it stretched as a second channel if configured
      stem   space to depth, conv              f0 [N, w0, H/2, W/2]
      shared residual blocks                   f1 [N, w0, H/2, W/2]
      shared residual blocks, stride 2         f2 [N, w1, H/4, W/4]
      branch block k, twice, stride 2 first    c, r [N, w2, H/8, W/8]
        links: c += Lc(r), r += Lr(c)          both from the values before the link
      heads: mean, max, centre pooling; mean and max over slices; hidden; one output per task
      mask:  c|r -> +f2 -> +f1 -> depth to space  [B, levels, H, W], logits
"""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resmtnet.characteristics import NODULE, Branch, Task, branch_tasks
from resmtnet.config import NetworkConfig

BRANCHES: tuple[Branch, ...] = ("classification", "regression")


def conv(dims: int, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """Return a 2D or 3D convolution without bias, padded to keep the size."""
    layer = nn.Conv2d if dims == 2 else nn.Conv3d
    return layer(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def norm(dims: int, channels: int) -> nn.Module:
    """Return a 2D or 3D batch normalisation."""
    return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm3d(channels)


def space_to_depth(x: Tensor) -> Tensor:
    """Move each 2 x 2 (x 2) block into channels: [N, C, ..., H, W] -> [N, C*2^d, ..., H/2, W/2]."""
    if x.dim() == 4:
        return F.pixel_unshuffle(x, 2)
    n, c, d, h, w = x.shape
    x = x.view(n, c, d // 2, 2, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(n, c * 8, d // 2, h // 2, w // 2)


def depth_to_space(x: Tensor) -> Tensor:
    """Undo space_to_depth."""
    if x.dim() == 4:
        return F.pixel_shuffle(x, 2)
    n, c, d, h, w = x.shape
    x = x.view(n, c // 8, 2, 2, 2, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(n, c // 8, d * 2, h * 2, w * 2)


class Block(nn.Module):
    """Two 3 x 3 convolutions around which the input is added (He et al., 2016)."""

    def __init__(self, dims: int, inputs: int, outputs: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1, self.norm1 = conv(dims, inputs, outputs, 3, stride), norm(dims, outputs)
        self.conv2, self.norm2 = conv(dims, outputs, outputs, 3), norm(dims, outputs)
        self.skip: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            pool = nn.AvgPool2d(2) if dims == 2 else nn.AvgPool3d(2)
            self.skip = nn.Sequential(
                pool if stride == 2 else nn.Identity(),
                conv(dims, inputs, outputs, 1),
                norm(dims, outputs),
            )
        if residual:
            nn.init.zeros_(self.norm2.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, *space] -> [N, outputs, *space / stride]."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.skip(x)) if self.residual else F.relu(y)


class Head(nn.Module):
    """Hidden layer (the embedding) and one linear output for each task of a branch."""

    def __init__(self, inputs: int, config: NetworkConfig, branch: Branch) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(inputs, config.hidden)
        tasks = head_tasks(branch, config)
        self.outputs = nn.ModuleDict(
            {task.name: nn.Linear(config.hidden, task.outputs) for task in tasks}
        )
        for task in tasks:
            if task.kind == "size":  # start at the typical nodule: 8 mm, within 40%
                start = torch.tensor([math.log(8.0), math.log(0.4)])
                self.outputs[task.name].bias.data.copy_(start)  # type: ignore[operator]

    def embed(self, pooled: Tensor) -> Tensor:
        """[B, inputs] -> embedding [B, hidden]."""
        return F.relu(self.hidden(self.dropout(pooled)))

    def forward(self, embedding: Tensor) -> dict[str, Tensor]:
        """[B, hidden] -> {task: [B, outputs of the task]}."""
        embedding = self.dropout(embedding)
        return {name: layer(embedding) for name, layer in self.outputs.items()}


def head_tasks(branch: Branch, config: NetworkConfig) -> tuple[Task, ...]:
    """Return the tasks for which a branch of this network has an output."""
    optional = (NODULE,) if config.nodule_task and branch == NODULE.branch else ()
    return (*branch_tasks(branch), *optional)


class Features(NamedTuple):
    """What the encoder hands on, coarse and fine; N = slices of all nodules."""

    fine: Tensor
    """[N, w0, H/2, W/2]"""
    middle: Tensor
    """[N, w1, H/4, W/4]"""
    branches: dict[str, Tensor]
    """Per branch [N, w2, H/8, W/8]"""


class Output(NamedTuple):
    """Result of the heads."""

    tasks: dict[str, Tensor]
    """Per task [B, outputs]: logits of its levels, or (log value, log sigma) of a size."""
    embedding: Tensor
    """[B, hidden * branches]: classification first."""


class ResMTNet(nn.Module):
    """The network; `forward` is the heads, `masks` the decoder, both over `encode`."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.names = tuple(branch for branch in BRANCHES if branch in config.branches)
        d, (w0, w1, w2), residual = config.spatial_dims, config.widths, config.residual
        channels = 2 if config.second_window else 1
        self.stem = nn.Sequential(conv(d, channels * 2**d, w0, 3), norm(d, w0), nn.ReLU())
        self.shared1 = Block(d, w0, w0, 1, residual)
        self.shared2 = nn.Sequential(Block(d, w0, w1, 2, residual), Block(d, w1, w1, 1, residual))
        self.branches = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    Block(d, w2 if k else w1, w2, 1 if k else 2, residual)
                    for k in range(config.branch_blocks)
                )
                for name in self.names
            }
        )
        self.links = nn.ModuleDict(
            {
                name: nn.ModuleList(_zero(conv(d, w2, w2, 1)) for _ in range(config.branch_blocks))
                for name in self.names
                if config.links and len(self.names) == 2
            }
        )
        fused = 2 if d == 2 else 1  # mean and max over slices
        self.heads = nn.ModuleDict(
            {name: Head(3 * w2 * fused, config, name) for name in self.names}
        )
        if config.mask:
            self.decoder = Decoder(config, w2 * len(self.names))
        if d == 2:  # a third faster than the default layout on CPU and GPU
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def fused(self) -> ResMTNet:
        """Return a copy for inference whose norms are folded into the convolutions before them."""
        copy = deepcopy(self).eval()
        for module in list(copy.modules()):
            if isinstance(module, Block):
                _fold(module, "conv1", "norm1")
                _fold(module, "conv2", "norm2")
                if isinstance(module.skip, nn.Sequential):
                    _fold(module.skip, "1", "2")
        _fold(copy.stem, "0", "1")
        return copy.requires_grad_(False)

    @staticmethod
    def split(features: Features, count: int) -> tuple[Features, Features]:
        """Split the features of N slices into those of the first `count` and the rest."""
        parts = [
            Features(
                features.fine[part],
                features.middle[part],
                {name: x[part] for name, x in features.branches.items()},
            )
            for part in (slice(None, count), slice(count, None))
        ]
        return parts[0], parts[1]

    def encode(self, slices: Tensor) -> Features:
        """Encode slices [B, S, H, W], each alone (2D) or as one volume (3D)."""
        b, s, h, w = slices.shape
        two = self.config.spatial_dims == 2
        x = slices.reshape(b * s, 1, h, w) if two else slices[:, None]  # 3D: [B, 1, S, H, W]
        x = self._windows(x)
        if two:
            x = x.contiguous(memory_format=torch.channels_last)
        fine = self.shared1(self.stem(space_to_depth(x)))
        middle = self.shared2(fine)
        streams = dict.fromkeys(self.names, middle)
        for k in range(self.config.branch_blocks):
            streams = {name: self.branches[name][k](x) for name, x in streams.items()}  # type: ignore[index]
            streams = self._link(streams, k)
        return Features(fine, middle, streams)

    def _windows(self, x: Tensor) -> Tensor:
        """[N, 1, ...] -> [N, 1 or 2, ...]: the input and, if configured, a part of its range."""
        if not self.config.second_window:
            return x
        low, high = self.config.second_window
        return torch.cat([x, ((x - low) / (high - low)).clamp(0, 1)], 1)

    def _link(self, streams: dict[str, Tensor], k: int) -> dict[str, Tensor]:
        if not self.links:
            return streams
        one, other = self.names
        return {
            one: streams[one] + self.links[one][k](streams[other]),  # type: ignore[index]
            other: streams[other] + self.links[other][k](streams[one]),  # type: ignore[index]
        }

    def forward(self, features: Features, batch: int) -> Output:
        """Heads over the features of `batch` nodules, B*S slices in order."""
        tasks: dict[str, Tensor] = {}
        embeddings = []
        for name in self.names:
            head = self.heads[name]
            embedding = head.embed(self._pool(features.branches[name], batch))  # type: ignore[operator]
            embeddings.append(embedding)
            tasks |= head(embedding)
        return Output(tasks, torch.cat(embeddings, 1))

    def _pool(self, x: Tensor, batch: int) -> Tensor:
        space = tuple(range(2, x.dim()))
        centre = x
        for axis in space:
            centre = centre.narrow(axis, x.shape[axis] // 2 - 1, 2)
        pooled = torch.cat([x.mean(space), x.amax(space), centre.mean(space)], 1)  # [N, 3*w2]
        if self.config.spatial_dims == 3:
            return pooled
        pooled = pooled.view(batch, -1, pooled.shape[1])  # [B, S, 3*w2]
        return torch.cat([pooled.mean(1), pooled.amax(1)], 1)  # [B, 6*w2]

    def masks(self, features: Features, levels: int, step: int = 1, inner: int = 0) -> Tensor:
        """Mask logits of consecutive levels.

        Args:
            features: of B*levels slices, those of a nodule consecutive and in order of height.
            levels: slices of a nodule.
            step: how many levels away the neighbours are that a level looks at.
            inner: levels at either end that serve as neighbours only.

        Returns:
            [B, levels - 2*inner, H, W] logits.
        """
        mask: Tensor = self.decoder(features, levels, step, inner)
        return mask


class Decoder(nn.Module):
    """Light decoder; each level sees its neighbours above and below through 1 x 1 convolutions."""

    def __init__(self, config: NetworkConfig, coarse: int) -> None:
        super().__init__()
        d, (w0, w1, _), residual = config.spatial_dims, config.widths, config.residual
        self.dims = d
        self.neighbours = nn.ModuleList(
            _zero(conv(d, 2 * width, width, 1)) if d == 2 else nn.Identity()
            for width in (w0, w1, coarse)
        )
        self.reduce2, self.block2 = conv(d, coarse, w1, 1), Block(d, w1, w1, 1, residual)
        self.reduce1, self.block1 = conv(d, w1, w0, 1), Block(d, w0, w0, 1, residual)
        layer = nn.Conv2d if d == 2 else nn.Conv3d
        self.output = layer(w0, 2**d, 1)
        nn.init.constant_(self.output.bias, -3.0)  # type: ignore[arg-type]  # most voxels are background

    def forward(self, features: Features, levels: int, step: int, inner: int) -> Tensor:
        """See ResMTNet.masks."""
        coarse = torch.cat(list(features.branches.values()), 1)
        if self.dims == 2:
            stages = (features.fine, features.middle, coarse)
            fine, middle, coarse = (
                self._mix(x, layer, levels, step, inner)
                for x, layer in zip(stages, self.neighbours, strict=True)
            )
        else:
            fine, middle = features.fine, features.middle
        up = "bilinear" if self.dims == 2 else "trilinear"
        x = self.block2(F.interpolate(self.reduce2(coarse), scale_factor=2.0, mode=up) + middle)
        x = self.block1(F.interpolate(self.reduce1(x), scale_factor=2.0, mode=up) + fine)
        logits = depth_to_space(self.output(x))  # [B*levels, 1, H, W] or [B, 1, levels, H, W]
        if self.dims == 3:
            return logits[:, 0, inner : levels - inner]
        return logits.view(-1, levels - 2 * inner, *logits.shape[-2:])

    def _mix(self, x: Tensor, layer: nn.Module, levels: int, step: int, inner: int) -> Tensor:
        x = x.view(-1, levels, *x.shape[1:])  # [B, levels, C, h, w]
        last = levels - inner
        if inner >= step:  # plain slices: their gradient costs far less than that of an index
            below, above = x[:, inner - step : last - step], x[:, inner + step : last + step]
        else:
            kept = torch.arange(inner, last, device=x.device)
            below = x[:, (kept - step).clamp(min=0)]
            above = x[:, (kept + step).clamp(max=levels - 1)]
        around = torch.cat([below, above], 2).flatten(0, 1)
        mixed: Tensor = x[:, inner:last].flatten(0, 1) + layer(around)
        return mixed


def _fold(parent: nn.Module, conv_name: str, norm_name: str) -> None:
    layer: Any = parent.get_submodule(conv_name)
    bn: Any = parent.get_submodule(norm_name)
    parent.register_module(conv_name, fuse_conv_bn_eval(layer, bn))
    parent.register_module(norm_name, nn.Identity())


def _zero(layer: nn.Module) -> nn.Module:
    """Start a link at nothing, so that it is learnt only where it helps."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
