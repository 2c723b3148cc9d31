"""A model on disk: weights in safetensors, configuration, calibration, manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resmtnet import config as configs
from resmtnet.calibration import Calibration
from resmtnet.config import TrainingConfig
from resmtnet.errors import ConfigError, ModelError
from resmtnet.findings import ModelInfo
from resmtnet.folders import published
from resmtnet.network.resmtnet import ResMTNet

SCHEMA = "resmtnet.model/1"
NAME = "resmtnet"
WEIGHTS, CONFIG, CALIBRATION, SPREAD = (
    "weights.safetensors",
    "config.json",
    "calibration.json",
    "embedding_spread.safetensors",
)
MANIFEST = "manifest.json"
FILES = (WEIGHTS, CONFIG, CALIBRATION, SPREAD)


@dataclass(frozen=True, eq=False)
class Model:
    """A model that has been read and checked."""

    info: ModelInfo
    config: TrainingConfig
    network: ResMTNet
    calibration: Calibration


def default_model_dir() -> Path:
    """Return RESMTNET_MODEL_DIR, else the model of the checkout, else that of the package."""
    named = os.environ.get("RESMTNET_MODEL_DIR")
    if named:
        return Path(named)
    here = Path(__file__).resolve().parent
    checkout = here.parents[1] / "model"
    return checkout if (checkout / MANIFEST).is_file() else here / "shipped_model"


def read_model(folder: str | Path | None = None, device: str = "cpu") -> Model:
    """Read a model after comparing every file with the manifest.

    Raises:
        ModelError: a file is missing, damaged, or of another version.
    """
    path = Path(folder) if folder is not None else default_model_dir()
    manifest = verify(path)
    try:
        config = configs.load(TrainingConfig, path / CONFIG)
        calibration = Calibration.from_json(
            json.loads((path / CALIBRATION).read_text()), read_tensors(path / SPREAD)
        )
        network = ResMTNet(config.network)
        network.load_state_dict(read_tensors(path / WEIGHTS))
    except (ConfigError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: made by another version of the package ({error})") from error
    network.to(device).eval().requires_grad_(False)
    info = ModelInfo(manifest["name"], manifest["version"], manifest["sha256"])
    return Model(info, config, network, calibration)


def verify(folder: Path) -> dict[str, Any]:
    """Compare a model's files with its manifest.

    Returns:
        The manifest.

    Raises:
        ModelError: naming the first file that is missing or differs.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} holds no model (manifest.json: {error}); give a folder written by "
            "`resmtnet train`, or unset RESMTNET_MODEL_DIR for the shipped one"
        ) from error
    if manifest.get("schema") != SCHEMA:
        raise ModelError(
            f"{folder}: schema {manifest.get('schema')!r}; this version reads {SCHEMA}"
        )
    for name in FILES:
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing")
        if _sha256(folder / name) != manifest["files"].get(name):
            raise ModelError(f"{folder}: {name} differs from the manifest; copy the model anew")
    if _sha256_of_table(manifest["files"]) != manifest["sha256"]:
        raise ModelError(f"{folder}: manifest.json is inconsistent; copy the model anew")
    return manifest


def write_model(
    folder: Path,
    version: str,
    weights: Mapping[str, Tensor],
    config: TrainingConfig,
    calibration: Calibration,
    provenance: Mapping[str, Any],
) -> ModelInfo:
    """Write a model; the folder appears, or is replaced, only when it is complete."""
    from safetensors.torch import save_file

    with published(folder, MANIFEST) as draft:
        save_file({k: v.cpu().contiguous() for k, v in weights.items()}, draft / WEIGHTS)
        (draft / CONFIG).write_text(json.dumps(configs.to_dict(config), indent=1) + "\n")
        values, spread = calibration.to_json()
        (draft / CALIBRATION).write_text(json.dumps(values, indent=1) + "\n")
        arrays = {k: torch.from_numpy(v).contiguous() for k, v in spread.items()}
        save_file(arrays, draft / SPREAD)
        for name in FILES:
            (draft / name).chmod(0o644)  # safetensors makes them private
        files = {name: _sha256(draft / name) for name in FILES}
        manifest: dict[str, Any] = {
            "schema": SCHEMA,
            "name": NAME,
            "version": version,
            "sha256": _sha256_of_table(files),
            "files": files,
            "provenance": dict(provenance),
        }
        (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return ModelInfo(NAME, version, manifest["sha256"])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file: numbers only, nothing that could run."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error})") from error
    return tensors


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sha256_of_table(files: Mapping[str, str]) -> str:
    lines = "".join(f"{name}:{files[name]}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
