"""Writes a model as a MONAI bundle, and answers when `monai.bundle run` asks it.

https://docs.monai.io/en/stable/mb_specification.html
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from resmtnet.ct.volume import CTVolume
from resmtnet.files import atomic_file, atomic_folder
from resmtnet.inference.characterizer import Characterizer
from resmtnet.inference.model_folder import MANIFEST, Model, read_model
from resmtnet.network.resmtnet import BRANCHES, ResMTNet, head_tasks
from resmtnet.types import Json

METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"
WEIGHTS, OURS = "models/model.pt", "models/resmtnet"
"""The state of the networks as MONAI's specification wants it; and the model folder."""
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
"""The version of MONAI's schema that metadata.json follows."""
README = """# Res-MTNet as a MONAI bundle

Not a medical device. Class and score estimate what LIDC readers would say of a nodule, not a risk
proven by pathology; see model_card.md.

Search a CT, or characterise points (LPS mm); the answer is JSON of schema resmtnet.findings/1:

    python -m monai.bundle run --bundle_root . --meta_file configs/metadata.json \\
        --config_file configs/inference.json --image ct.nii.gz --output findings.json
    ... --points "[[56.2, 86.2, -115.9]]"

It needs the package resmtnet, which holds patches, calibration, measuring and post-processing.
"""


def export_bundle(model: Model, folder: Path) -> Json:
    """Write a folder that `monai.bundle run` takes.

    Args:
        model: to write.
        folder: to make; replaced only when the new one is complete.

    Returns:
        metadata.json.

    Raises:
        InputError: the place holds something else than a bundle.
    """
    metadata = _metadata(model)
    with atomic_folder(folder, METADATA) as draft:
        for name in ("configs", "models", "docs"):
            (draft / name).mkdir()
        names = [MANIFEST, *json.loads((model.folder / MANIFEST).read_text())["files"]]
        (draft / OURS).mkdir()
        for name in names:
            shutil.copyfile(model.folder / name, draft / OURS / name)
        torch.save(networks(draft / OURS).state_dict(), draft / WEIGHTS)
        _write_json(draft / METADATA, metadata)
        _write_json(draft / INFERENCE, _inference())
        (draft / "docs" / "README.md").write_text(README)
        card = model.folder / "MODEL_CARD.md"
        if card.is_file():
            shutil.copyfile(card, draft / "docs" / "model_card.md")
    return metadata


class Networks(nn.ModuleList):
    """The networks of a model, which MONAI's commands take for one network."""

    def forward(self, slices: Tensor) -> Tensor:
        """Return the mean logits of the members.

        Args:
            slices: axial slices of each nodule, [N, S, P, P].

        Returns:
            The outputs of all tasks, one after the other as metadata.json names them,
            [N, outputs].
        """
        members = [cast(ResMTNet, member) for member in self]
        told = [member(member.encode(slices), len(slices)).tasks for member in members]
        return torch.stack([torch.cat(list(tasks.values()), 1) for tasks in told]).mean(0)


def networks(folder: str | Path) -> Networks:
    """Return the networks of a model folder, the `network_def` of the bundle."""
    return Networks(read_model(folder).networks)


class Answer:
    """What `run` of the bundle does: one CT becomes a file of schema resmtnet.findings/1."""

    def __init__(self, folder: str | Path, device: str | None = None) -> None:
        """Load the model.

        Args:
            folder: the model folder of the bundle.
            device: "cpu", "cuda" or "cuda:N"; None: a GPU if there is one.
        """
        self._model = Characterizer.load(folder, device)

    def __call__(
        self,
        image: str,
        output: str | None = None,
        points: Sequence[Sequence[float]] | None = None,
        max_candidates: int = 10,
        context: str | None = None,
    ) -> Json:
        """Characterise points of a CT, or search it.

        Args:
            image: what `CTVolume.open` takes.
            output: file to write; None: nothing is written.
            points: LPS mm; None: the whole CT is searched.
            max_candidates: greatest number of nodules of a search.
            context: for a guideline category; see Characterizer.
        """
        ct = CTVolume.open(image)
        if points is None:
            findings = self._model.find(ct, max_candidates=max_candidates, context=context)
        else:
            findings = self._model(ct, points, context=context)
        document = self._model.document(ct, findings)
        if output is not None:
            _write_json(Path(output), document)
        return document


def _inference() -> Json:
    here = "$@bundle_root + '/"
    return {
        "bundle_root": ".",
        "image": None,
        "points": None,
        "output": "findings.json",
        "max_candidates": 10,
        "context": None,
        "device": None,
        "network_def": {
            "_target_": "resmtnet.inference.bundle.networks",
            "folder": f"{here}{OURS}'",
        },
        "answer": {
            "_target_": "resmtnet.inference.bundle.Answer",
            "folder": f"{here}{OURS}'",
            "device": "@device",
        },
        "initialize": [],
        "run": ["$@answer(@image, @output, @points, @max_candidates, @context)"],
        "finalize": [],
    }


def _metadata(model: Model) -> Json:
    patch, info = model.config.patch, model.info
    source = model.provenance.get("data", {})
    needed = ("itk", "scipy", "safetensors", "nibabel", "pydicom")
    slices: Json = {
        "type": "image",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": len(patch.offsets_mm),
        "spatial_shape": [patch.size_px, patch.size_px],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": True,
        "channel_def": {
            str(n): f"axial slice at {mm:g} mm; {patch.hu_low} HU is 0, {patch.hu_high} HU is 1"
            for n, mm in enumerate(patch.offsets_mm)
        },
    }
    return {
        "schema": SCHEMA,
        "version": _three_parts(info.version),
        "changelog": {_three_parts(info.version): f"version {info.version} of {info.name}"},
        "monai_version": version("monai"),
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {
            "resmtnet": version("resmtnet"),
            **{name: version(name) for name in needed},
        },
        "name": "Res-MTNet",
        "task": "Class, malignancy score, size and mask of lung nodules in chest CT",
        "description": "What LIDC readers would say of a lung nodule; not a medical device",
        "authors": "The Res-MTNet for MONAI Label developers",
        "copyright": "Apache-2.0; weights: attribution of LIDC-IDRI, CC BY 3.0",
        "data_source": source.get("data", "not told") if isinstance(source, dict) else str(source),
        "data_type": "DICOM series, NIfTI, NRRD or MetaImage",
        "image_classes": "CT, Hounsfield units",
        "intended_use": "Research and education only",
        "references": ["Lin et al., arXiv 2502.19692 (2025)"],
        "resmtnet": {"name": info.name, "version": info.version, "sha256": info.sha256},
        "network_data_format": {"inputs": {"image": slices}, "outputs": {"pred": _logits(model)}},
    }


def _logits(model: Model) -> Json:
    config = model.config.network
    branches = [branch for branch in BRANCHES if branch in config.branches]
    tasks = [task for branch in branches for task in head_tasks(branch, config)]
    names = [f"{task.name}: output {n}" for task in tasks for n in range(task.outputs)]
    return {
        "type": "probabilities",
        "format": "classes",
        "num_channels": len(names),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(n): f"{name}, before calibration" for n, name in enumerate(names)},
    }


def _three_parts(text: str) -> str:
    """Return a version as MONAI writes it.

    >>> _three_parts("4"), _three_parts("3.1")
    ('4.0.0', '3.1.0')
    """
    parts = [part for part in text.split(".") if part.isdigit()]
    return ".".join((*parts, "0", "0", "0")[:3])


def _write_json(path: Path, document: Json) -> None:
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
