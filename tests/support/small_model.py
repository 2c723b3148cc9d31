"""A small random model of one member, written as a model folder and read again."""

from __future__ import annotations

from pathlib import Path

import torch

from resmtnet.config import NetworkConfig, TrainingConfig
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.model_folder import Model, read_model, write_model
from resmtnet.network.resmtnet import ResMTNet

SMALL = NetworkConfig(widths=(4, 4, 4), hidden=8)


def small_model(folder: Path, seed: int = 0, shape: NetworkConfig = SMALL) -> Model:
    """Version 7; every parameter is moved, since what starts at 0 would hide a wrong path."""
    torch.manual_seed(seed)
    config = TrainingConfig(network=shape, members=1)
    network = ResMTNet(config.network)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    write_model(folder, "7", [network.state_dict()], config, Calibration(), {"data": "none"})
    return read_model(folder)
