"""A model on disk: the members' weights, configuration, calibration, further files, manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resmtnet import config as configs
from resmtnet.config import TrainingConfig
from resmtnet.errors import ConfigError, InputError, ModelError
from resmtnet.files import atomic_folder
from resmtnet.findings import ModelInfo
from resmtnet.inference.calibration import Calibration
from resmtnet.network.resmtnet import ResMTNet

SCHEMA = "resmtnet.model/3"
NAME = "resmtnet"
WEIGHTS, CONFIG, CALIBRATION, ARRAYS = (
    "weights.safetensors",
    "config.json",
    "calibration.json",
    "calibration.safetensors",
)
MANIFEST = "manifest.json"
FILES = (WEIGHTS, CONFIG, CALIBRATION, ARRAYS)
"""Every model has these; the manifest lists them and what else came with it."""
EMBEDDING_LAYER = "heads.<branch>.outputs"
"""The layer that embeddings enter, in every member; replayed embeddings are its inputs."""
STORED = torch.float16
"""Type of stored weights; loaded to float32, they change a probability by less than 0.002."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model that has been read and checked."""

    info: ModelInfo
    config: TrainingConfig
    networks: tuple[ResMTNet, ...]
    """The members, in evaluation mode."""
    calibration: Calibration
    folder: Path
    """Where it was read from; replay.py reads its further files."""


def default_model_dir() -> Path:
    """Return RESMTNET_MODEL_DIR, else the model of the checkout, else that of the package."""
    named = os.environ.get("RESMTNET_MODEL_DIR")
    if named:
        return Path(named)
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1] / "model"
    return checkout if (checkout / MANIFEST).is_file() else package / "shipped_model"


def read_model(folder: str | Path | None = None, device: str = "cpu") -> Model:
    """Read a model after comparing every file with the manifest.

    Raises:
        ModelError: a file is missing, damaged, or of another version.
    """
    path = Path(folder) if folder is not None else default_model_dir()
    manifest = verify(path)
    try:
        config = configs.load(TrainingConfig, path / CONFIG)
        values = json.loads((path / CALIBRATION).read_text())
        arrays = {name: tensor.numpy() for name, tensor in read_tensors(path / ARRAYS).items()}
        calibration = Calibration.from_json(values, arrays)
        states = split_members(read_tensors(path / WEIGHTS))
        networks = tuple(_network(config, state, device) for state in states)
    except (ConfigError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: made by another version of the package ({error})") from error
    info = ModelInfo(manifest["name"], manifest["version"], manifest["sha256"])
    return Model(info, config, networks, calibration, path)


def _network(config: TrainingConfig, state: Mapping[str, Tensor], device: str) -> ResMTNet:
    network = ResMTNet(config.network)
    network.load_state_dict(state)
    return network.to(device).eval().requires_grad_(False)


def split_members(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ...]:
    """Return the state of each member from names such as "1.stem.0.weight"; halves become floats.

    >>> split_members({"0.a": torch.zeros(1), "1.a": torch.ones(1)})
    ({'a': tensor([0.])}, {'a': tensor([1.])})
    """
    members: dict[int, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        number, _, own = name.partition(".")
        members.setdefault(int(number), {})[own] = (
            tensor.float() if tensor.dtype == STORED else tensor
        )
    return tuple(members[number] for number in sorted(members))


def join_members(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the tensors of all members under numbered names, floats as halves.

    Raises:
        ModelError: no members, or a value that a half cannot hold.
    """
    if not members:
        raise ModelError("a model without members cannot be written; give at least one")
    joined = {
        f"{number}.{name}": tensor.to(
            "cpu",
            STORED if tensor.is_floating_point() else tensor.dtype,
            copy=True,
            memory_format=torch.contiguous_format,
        )
        for number, state in enumerate(members)
        for name, tensor in state.items()
    }
    for name, tensor in joined.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{name} holds a value that is not finite in {STORED}: train anew")
    return joined


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
    schema = manifest.get("schema")
    if schema != SCHEMA:
        raise ModelError(f"{folder}: schema {schema!r}; this version reads {SCHEMA}")
    files = manifest["files"]
    for name in sorted({*FILES, *files}):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing")
        if _sha256(folder / name) != files.get(name):
            raise ModelError(f"{folder}: {name} differs from the manifest; copy the model anew")
    if _sha256_of_table(files) != manifest["sha256"]:
        raise ModelError(f"{folder}: manifest.json is inconsistent; copy the model anew")
    return manifest


def write_model(
    folder: Path,
    version: str,
    members: Sequence[Mapping[str, Tensor]],
    config: TrainingConfig,
    calibration: Calibration,
    provenance: Mapping[str, Any],
    further: Mapping[str, Callable[[Path], object]] | None = None,
) -> ModelInfo:
    """Write a model; the folder appears, or is replaced, only when it is complete.

    Args:
        folder: to make.
        version: of the model.
        members: weights of each member, as state_dict gives them.
        config: that the members share.
        calibration: of the members together.
        provenance: data, licence, what was trained on; kept in the manifest.
        further: writers of more files by name; see replay.py.

    Raises:
        InputError: a further file has the name of one that every model has.
        ModelError: no members, or weights that cannot be stored.
    """
    from safetensors.torch import save_file

    further = further or {}
    taken = sorted({*FILES, MANIFEST} & set(further))
    if taken:
        raise InputError(f"{taken[0]} is a file of every model; give the further file another name")
    weights = join_members(members)
    with atomic_folder(folder, MANIFEST) as draft:
        save_file(weights, draft / WEIGHTS)
        (draft / CONFIG).write_text(json.dumps(configs.to_dict(config), indent=1) + "\n")
        values, found = calibration.to_json()
        (draft / CALIBRATION).write_text(json.dumps(values, indent=1) + "\n")
        arrays = {k: torch.from_numpy(v).contiguous() for k, v in found.items()}
        save_file(arrays, draft / ARRAYS)
        for name, write in further.items():
            write(draft / name)
        files = {name: _sha256(draft / name) for name in (*FILES, *further)}
        for name in files:
            (draft / name).chmod(0o644)  # safetensors makes them private
        manifest: dict[str, Any] = {
            "schema": SCHEMA,
            "name": NAME,
            "version": version,
            "sha256": _sha256_of_table(files),
            "members": len(members),
            "embedding_layer": EMBEDDING_LAYER,
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
