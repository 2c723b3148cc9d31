"""A model folder, or one network of a cross-validation, as a Characterizer."""

from __future__ import annotations

from pathlib import Path

import torch

from resmtnet import Characterizer
from resmtnet.config import TrainingConfig, from_dict
from resmtnet.training.run import inference_of


def characterizer(path: Path | None) -> Characterizer:
    """Load a model folder, or a checkpoint.pt: its one network with the shipped calibration.

    Args:
        path: None: the shipped model.
    """
    if path is None or path.suffix != ".pt":
        return Characterizer.load(path)
    state = torch.load(path, weights_only=True, map_location="cpu")
    model = Characterizer.load()
    config = from_dict(TrainingConfig, state["config"])
    model.inference = inference_of([state["averaged"]], config, "cpu")
    return model
