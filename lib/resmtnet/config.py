"""Configurations: frozen dataclasses; unknown keys and wrong types are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from resmtnet.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class PatchConfig:
    """Sampling of the network's input from a CT, in LPS mm around a centre."""

    size_px: int = 32
    """In-plane edge of the patch that the heads see and that trains, pixels."""
    mask_size_px: int = 48
    """In-plane edge of the patch in which the mask is drawn; the network has no fixed input."""
    pixel_mm: float = 1.0
    """In-plane distance of two pixels."""
    offsets_mm: tuple[float, ...] = (-4.0, -2.0, 0.0, 2.0, 4.0)
    """Heights of the slices that the heads see, mm above the centre."""
    mask_step_mm: float = 1.0
    """Distance of two levels at which the mask is decoded."""
    hu_low: float = -1000.0
    """HU mapped to 0; lower values are clipped."""
    hu_high: float = 400.0
    """HU mapped to 1; higher values are clipped."""

    def __post_init__(self) -> None:
        for name in ("size_px", "mask_size_px"):
            edge = getattr(self, name)
            _check(
                edge >= 16 and edge % 8 == 0,
                f"{name} is {edge}; a multiple of 8 from 16 on is needed",
            )
        _check(bool(self.offsets_mm), "offsets_mm is empty; at least one slice is needed")
        _check(
            self.pixel_mm > 0 and self.mask_step_mm > 0,
            f"pixel_mm {self.pixel_mm}, mask_step_mm {self.mask_step_mm}; both must be above 0",
        )
        _check(
            self.hu_low < self.hu_high,
            f"hu_low is {self.hu_low}, hu_high {self.hu_high}; the first must be the lower",
        )


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of Res-MTNet and its switches for ablation."""

    spatial_dims: int = 2
    """2: slices are encoded alone and fused late; 3: the slices are the depth of one volume."""
    widths: tuple[int, ...] = (32, 64, 128)
    """Channels of the two shared stages and of the branches' stage."""
    branch_blocks: int = 2
    """Residual blocks of each branch; the branches are linked after each."""
    hidden: int = 128
    """Width of the embedding that enters a branch's last layer."""
    dropout: float = 0.2
    """Dropout before and after the embedding."""
    links: bool = True
    """Residual links between the branches; off for ablation."""
    residual: bool = True
    """Identity connections of the blocks; off for ablation."""
    mask: bool = True
    """Mask decoder; off for ablation."""
    branches: tuple[str, ...] = ("classification", "regression")
    """Branches that exist; one alone is the single-task ablation."""
    nodule_task: bool = False
    """The classification branch also says whether there is a nodule at all; needs negatives."""
    second_window: tuple[float, ...] = ()
    """Part of the input's range, (low, high) in 0..1, that is shown once more, stretched to 0..1,
    as a second channel: (0, 0.5) of -1000 to 400 HU shows ground glass from -1000 to -300 HU."""

    def __post_init__(self) -> None:
        known = ("classification", "regression")
        _check(
            bool(self.branches) and set(self.branches) <= set(known),
            f"branches are {self.branches}; allowed are one or both of {known}",
        )
        low_high = self.second_window
        _check(
            not low_high or (len(low_high) == 2 and 0 <= low_high[0] < low_high[1] <= 1),
            f"second_window is {low_high}; allowed are none, or (low, high) with 0 <= low < high "
            "<= 1",
        )
        _check(self.spatial_dims in (2, 3), f"spatial_dims is {self.spatial_dims}; allowed: 2, 3")
        _check(
            len(self.widths) == 3 and min(self.widths) > 0,
            f"widths are {self.widths}; three numbers above 0 are needed",
        )
        _check(
            self.branch_blocks > 0 and self.hidden > 0 and 0 <= self.dropout < 1,
            f"branch_blocks {self.branch_blocks}, hidden {self.hidden}, dropout {self.dropout}; "
            "the first two must be above 0, the last from 0 to below 1",
        )


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the joint loss."""

    balance: str = "fixed"
    """"fixed": the weights below; "uncertainty": each term is also weighed by a learnt variance
    (Kendall, Gal and Cipolla, 2018)."""
    class_weight: float = 1.0
    """Cross entropy of benign/malignant."""
    malignancy_weight: float = 0.5
    """Cross entropy with the readers' distribution of malignancy."""
    score_weight: float = 0.7
    """Huber loss of the mean of that distribution."""
    size_weight: float = 0.4
    """Huber loss of each log size, in units of 25%."""
    size_spread_weight: float = 0.1
    """Gaussian likelihood of each log size's sigma."""
    texture_class_weight: float = 0.3
    """Cross entropy of the three texture classes."""
    rating_weight: float = 0.1
    """Cross entropy with the readers' distribution of each other rating."""
    mask_weight: float = 1.0
    """Cross entropy and soft Dice of the mask."""
    nodule_weight: float = 0.5
    """Cross entropy of nodule or not, over nodules and negatives alike."""

    def __post_init__(self) -> None:
        _check(
            self.balance in ("fixed", "uncertainty"),
            f"balance is {self.balance!r}; allowed are 'fixed' and 'uncertainty'",
        )


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of a training patch; sizes follow the scale."""

    scale: float = 0.10
    """Greatest relative enlargement or reduction."""
    shift_mm: float = 3.0
    """Greatest shift along each axis of the patch that the heads see."""
    mask_shift_mm: float = 10.0
    """Greatest in-plane shift of the extra levels of the mask."""
    gain: float = 0.05
    """Greatest relative change of contrast."""
    offset_hu: float = 30.0
    """Greatest offset."""
    noise_hu: float = 25.0
    """Greatest standard deviation of white noise."""
    blur: float = 0.8
    """Greatest share of a 3 x 3 mean blended in: a softer reconstruction kernel."""
    sharpen: float = 0.5
    """The same share taken away: a sharper kernel."""
    kernel_share: float = 0.5
    """Share of the patches whose kernel is changed."""
    thickness_mm: float = 3.0
    """Greatest height over which slices are averaged, as thick slices are."""
    thickness_share: float = 0.3
    """Share of the patches whose slices are thickened."""
    faded_share: float = 0.0
    """Share of the extra samples of the mask in which a solid nodule is faded to ground glass."""
    fade: tuple[float, ...] = (0.5, 0.9)
    """Least and greatest share of the contrast to the lung that fading takes away."""
    flip_and_rotate: bool = True
    """Any rotation in the plane and a flip along each axis."""


@dataclass(frozen=True)
class TrainingConfig:
    """One experiment: everything that `resmtnet train` needs beside the data."""

    seed: int = 0
    """Seeds weights, order and augmentation."""
    epochs: int = 24
    """Passes over the training nodules."""
    mask_epochs: int = 8
    """Passes after those, in which the mask decoder alone learns, at mask_size_px: large nodules
    and the chest wall beside them need more than the heads' patch. The heads' answers stay."""
    batch_size: int = 32
    """Nodules a step, over all processes."""
    learning_rate: float = 2e-3
    """Peak of the cosine schedule, AdamW."""
    weight_decay: float = 0.05
    """On weight matrices only."""
    warm_up: float = 0.05
    """Share of the steps in which the rate rises from 0."""
    ema_decay: float = 0.99
    """Decay per step of the averaged weights that are kept."""
    clip_norm: float = 5.0
    """Greatest norm of the gradient."""
    freeze_norms: bool = False
    """Keep the running statistics of the norms as they are, for fine-tuning."""
    slices: int = 3
    """Neighbouring slices of patch.offsets_mm that a step sees of a nodule, drawn anew each time:
    cheaper than all, and a shift along the axis."""
    mask_share: float = 0.375
    """Extra samples that train the mask at random heights, as a share of the batch."""
    mask_inside_share: float = 0.0
    """Share of those samples whose level is drawn within the nodule's height; the others are drawn
    up to 7 mm beyond its ends, where most levels of a small nodule are empty."""
    subsolid_factor: float = 3.0
    """How much more often sub-solid nodules are drawn for those samples, and how much more
    the class of their texture weighs."""
    large_factor: float = 2.0
    """How much more often nodules above 15 mm are drawn for those samples."""
    members: int = 1
    """Networks of the ensemble; member m is trained with seed + m."""
    head_views: int = 4
    """In-plane flips over which the heads of each member are averaged, 1 to 4; members begin at
    different ones, so that two members with 2 views each see all four."""
    splits: tuple[str, ...] = ("train",)
    """Splits of the archive to train on; the others stay apart."""
    calibration_folds: tuple[int, ...] = (0,)
    """Folds of patients kept out of training, for calibration."""
    reference_folds: tuple[int, ...] = ()
    """Folds of patients kept out of training and calibration, for comparing later models."""
    stopping_folds: tuple[int, ...] = ()
    """Folds of patients kept out of training on which it is watched; see patience."""
    patience: int = 0
    """Epochs without a lower loss on stopping_folds after which training ends; 0: never."""
    context_variants: int = 2
    """Continuations made beyond the ends of a stack that has no lung around it."""
    negative_share: float = 0.0
    """Places without a nodule that a step adds to its nodules, as a share of the batch."""
    bfloat16_on_cpu: bool = False
    """Train in bfloat16 on a CPU with instructions for it (AVX-512 BF16), as a GPU always does;
    about 1.7 times as fast, and not bit for bit the same from one machine to another."""
    network: NetworkConfig = field(default_factory=NetworkConfig)
    patch: PatchConfig = field(default_factory=PatchConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "context_variants", "members"):
            _check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; above 0 is needed")
        _check(1 <= self.head_views <= 4, f"head_views is {self.head_views}; allowed are 1 to 4")
        for name in ("mask_share", "mask_inside_share"):
            value = getattr(self, name)
            _check(0 <= value <= 1, f"{name} is {value}; allowed are 0 to 1")
        _check(
            0 <= self.negative_share <= 2,
            f"negative_share is {self.negative_share}; allowed are 0 to 2",
        )
        _check(
            self.network.nodule_task == (self.negative_share > 0),
            f"network.nodule_task is {self.network.nodule_task} and negative_share "
            f"{self.negative_share}: the task learns from negatives, so give both or neither",
        )
        slices = len(self.patch.offsets_mm)
        _check(
            self.slices >= 1 and (self.slices >= 3 or not self.network.mask),
            f"slices is {self.slices}; at least 1 is needed, and 3 to train the mask",
        )
        held = (*self.calibration_folds, *self.reference_folds, *self.stopping_folds)
        _check(
            len(set(held)) == len(held),
            f"calibration_folds {self.calibration_folds}, reference_folds {self.reference_folds} "
            f"and stopping_folds {self.stopping_folds} must have no fold in common",
        )
        _check(
            bool(self.stopping_folds) == bool(self.patience),
            f"patience is {self.patience} and stopping_folds {self.stopping_folds}: give both or "
            "neither",
        )
        if self.network.spatial_dims == 3:
            _check(
                slices >= 16 and slices % 8 == 0 and not self.network.mask,
                f"spatial_dims 3 with {slices} offsets_mm and mask {self.network.mask}; it needs "
                "a multiple of 8 from 16 on, and mask false",
            )


def _check(valid: bool, problem: str) -> None:
    if not valid:
        raise ConfigError(problem)


def from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a configuration, refusing what it does not know.

    Args:
        kind: one of the dataclasses of this module.
        values: plain values, as read from JSON; missing keys take their defaults.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.

    >>> from_dict(PatchConfig, {"size_px": 32}).size_px
    32
    """
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        allowed = ", ".join(sorted(hints))
        raise ConfigError(f"{kind.__name__}: unknown key {unknown[0]!r}. Allowed: {allowed}")
    return kind(**{k: _convert(f"{kind.__name__}.{k}", hints[k], v) for k, v in values.items()})


def _convert(name: str, hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(hint, value)  # type: ignore[arg-type]
    if getattr(hint, "__origin__", None) is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(name, hint.__args__[0], entry) for entry in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (
        isinstance(hint, type)
        and isinstance(value, hint)
        and (hint is bool) == isinstance(value, bool)
    ):
        return value
    raise ConfigError(
        f"{name}: got {value!r}; a value of type {getattr(hint, '__name__', hint)} is needed"
    )


def to_dict(config: Any) -> dict[str, Any]:
    """Return the plain values of a configuration, for JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))  # type: ignore[no-any-return]


def load(kind: type[T], path: Path) -> T:
    """Read a configuration from a JSON file.

    Raises:
        ConfigError: the file cannot be read, or holds what the configuration does not know.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable JSON configuration ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a JSON object is needed, got {type(values).__name__}")
    return from_dict(kind, values)
