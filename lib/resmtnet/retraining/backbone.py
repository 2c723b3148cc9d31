"""The feature extractor of a candidate: that of its parent, or a retrained one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from resmtnet.inference.calibration import Calibration
from resmtnet.inference.model_folder import Model
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import REPLAY, Write, read_calibration_set

REPLAY_FILES = (f"{REPLAY}.csv", f"{REPLAY}.safetensors")
"""They hold as long as the trunk does."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A feature extractor with all that is stored of it."""

    look: Callable[[Sequence[CachedNodule]], list[CachedNodule]]
    """Gives nodules that the parent has seen as this one sees them, with the parent's outputs."""
    calibration: Calibration
    """From which the candidate's is made."""
    kept: Sequence[CachedNodule]
    """The calibration set as it sees it, to which a calibration is fitted again; may be empty."""
    files: Mapping[str, Write]
    """Replay set by file name, for the next fine-tuning."""


def backbone_of_parent(parent: Model) -> Backbone:
    """Return the feature extractor of a version, for new output layers on it."""
    kept = parent.carried(read_calibration_set)
    return Backbone(list, parent.calibration, kept, carried(parent.folder, *REPLAY_FILES))


def carried(folder: Path, *names: str) -> dict[str, Write]:
    """Return writers that copy those of these files that a folder has."""
    return {n: partial(shutil.copyfile, folder / n) for n in names if (folder / n).is_file()}
