"""A model on disk: the members' weights, configuration, calibration, further files, manifest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from resmtnet import config as configs
from resmtnet.config import TrainingConfig
from resmtnet.errors import ConfigError, InputError, ModelError
from resmtnet.files import atomic_folder
from resmtnet.findings import ModelInfo
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.member_states import (
    join_members,
    networks_of,
    read_tensors,
    split_members,
)
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


Write = Callable[[Path], object]
"""Writes one file."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Model:
    """A model that has been read and checked, and what its folder holds beside the weights."""

    info: ModelInfo
    config: TrainingConfig
    networks: tuple[ResMTNet, ...]
    """The members, in evaluation mode."""
    calibration: Calibration
    folder: Path
    """Where it was read from."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, licence, what was trained on; from the manifest."""
    _read: dict[Callable[[Path], Any], Any] = field(default_factory=dict, init=False, repr=False)

    def carried(self, read: Callable[[Path], T]) -> T:
        """Return what a reader of further files finds in the folder; read once, then kept.

        Args:
            read: one of the readers of training/carried_sets.py.
        """
        if read not in self._read:
            self._read[read] = read(self.folder)
        found: T = self._read[read]
        return found


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
        networks = networks_of(config, states, device)
    except (ConfigError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: made by another version of the package ({error})") from error
    info = ModelInfo(manifest["name"], manifest["version"], manifest["sha256"])
    return Model(info, config, networks, calibration, path, manifest["provenance"])


def read_info(folder: Path) -> ModelInfo:
    """Return what the manifest of a model says it is; its files are not checked.

    Raises:
        ModelError: there is no manifest, or it is damaged.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return ModelInfo(manifest["name"], manifest["version"], manifest["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{MANIFEST} cannot be read: {error}") from error


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
            raise ModelError(f"{folder}: {name} differs from the manifest; copy the model again")
    if _sha256_of_table(files) != manifest["sha256"]:
        raise ModelError(f"{folder}: manifest.json is inconsistent; copy the model again")
    return manifest


def write_model(
    folder: Path,
    version: str,
    members: Sequence[Mapping[str, Tensor]],
    config: TrainingConfig,
    calibration: Calibration,
    provenance: Mapping[str, Any],
    further: Mapping[str, Write] | None = None,
) -> ModelInfo:
    """Write a model; the folder appears, or is replaced, only when it is complete.

    Args:
        folder: to make.
        version: of the model.
        members: weights of each member, as state_dict gives them.
        config: that the members share.
        calibration: of the members together.
        provenance: data, licence, what was trained on; kept in the manifest.
        further: writers of more files by name; see training/carried_sets.py.

    Raises:
        InputError: a further file has the name of one that every model has.
        ModelError: no members, or weights that cannot be stored.
    """
    further = further or {}
    taken = sorted({*FILES, MANIFEST} & set(further))
    if taken:
        raise InputError(f"{taken[0]} is a file of every model; give the further file another name")
    own = {
        WEIGHTS: _tensors(join_members(members)),
        CONFIG: _json(configs.to_dict(config)),
        **_calibration_files(calibration),
    }
    return _write(folder, version, len(members), provenance, {**own, **further})


def revise_model(
    source: Path,
    folder: Path,
    version: str,
    calibration: Calibration,
    further: Mapping[str, Write] | None = None,
    without: Collection[str] = (),
    note: str = "",
) -> ModelInfo:
    """Write a model with the weights of another and a new calibration.

    Args:
        source: the other model; its remaining files are copied as they are.
        folder: to make; may be `source` itself.
        version: of the new model.
        calibration: of the new model.
        further: writers of further files by name, in place of those of `source`.
        without: names of further files that the new model does not have.
        note: what was changed, for the manifest and the model card.

    Raises:
        ModelError: the other model is missing or damaged.
        InputError: a file to be left out is one that every model has.
    """
    manifest = verify(source)
    needed = sorted({*FILES} & set(without))
    if needed:
        raise InputError(f"{needed[0]} is a file of every model: it cannot be left out")
    contents = {
        name: (source / name).read_bytes() for name in manifest["files"] if name not in without
    }
    copies: dict[str, Write] = {name: _bytes(data) for name, data in contents.items()}
    files = {**copies, **_calibration_files(calibration), **(further or {})}
    revised = {"version": manifest["version"], "sha256": manifest["sha256"], "note": note}
    provenance = {**manifest["provenance"], "revised": revised}
    return _write(folder, version, manifest["members"], provenance, files)


def _write(
    folder: Path,
    version: str,
    members: int,
    provenance: Mapping[str, Any],
    writers: Mapping[str, Write],
) -> ModelInfo:
    """Write the files and a manifest that lists them."""
    with atomic_folder(folder, MANIFEST) as draft:
        for name, write in writers.items():
            write(draft / name)
            (draft / name).chmod(0o644)  # safetensors makes them private
        files = {name: _sha256(draft / name) for name in writers}
        manifest: dict[str, Any] = {
            "schema": SCHEMA,
            "name": NAME,
            "version": version,
            "sha256": _sha256_of_table(files),
            "members": members,
            "embedding_layer": EMBEDDING_LAYER,
            "files": files,
            "provenance": dict(provenance),
        }
        _json(manifest)(draft / MANIFEST)
    return ModelInfo(NAME, version, manifest["sha256"])


def _calibration_files(calibration: Calibration) -> dict[str, Write]:
    values, arrays = calibration.to_json()
    tensors = {name: torch.from_numpy(array).contiguous() for name, array in arrays.items()}
    return {CALIBRATION: _json(values), ARRAYS: _tensors(tensors)}


def _json(values: Mapping[str, Any]) -> Write:
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    return lambda path: path.write_text(text)


def _tensors(tensors: Mapping[str, Tensor]) -> Write:
    from safetensors.torch import save_file

    return lambda path: save_file(dict(tensors), path)


def _bytes(data: bytes) -> Write:
    return lambda path: path.write_bytes(data)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sha256_of_table(files: Mapping[str, str]) -> str:
    lines = "".join(f"{name}:{files[name]}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
