"""A stand-in for the Characterizer, small CTs, and files of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from made_findings import ORIGIN_LPS_MM, SIZE_IJK, SPACING_MM, make_finding
from resmtnet.characteristics import SIZES
from resmtnet.config import NetworkConfig, TrainingConfig
from resmtnet.ct import CTVolume
from resmtnet.ct.measure import MEASURED
from resmtnet.data.archive import Archive
from resmtnet.findings import (
    Finding,
    ModelInfo,
    findings_document,
)
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.conformal import Bands, LogInterval
from resmtnet.inference.ensemble import Ensemble
from resmtnet.inference.model_folder import FILES, MANIFEST, SCHEMA, write_model
from resmtnet.monai_label.infer import SharedCharacterizer, make_tasks
from resmtnet.monai_label.served_model import ServedModel
from resmtnet.monai_label.settings import AppSettings
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.carried_sets import embed, reference_files, replay_files


class FakeModel:
    """Finds a ball at each point; records how it was called."""

    info = ModelInfo("fake", "0", "00")

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.warmed = 0
        self.masks = True

    def __call__(
        self, ct: CTVolume, centres_mm: Sequence[Any], context: str | None = None
    ) -> list[Finding]:
        self.calls.append({"ct": ct, "centres_mm": list(centres_mm), "context": context})
        without = {} if self.masks else {"mask": None, "start_ijk": None, "centroid_lps_mm": None}
        return [
            make_finding(ct.geometry, ct.geometry.lps_to_ijk(centre), n, **without)
            for n, centre in enumerate(centres_mm)
        ]

    def find(
        self,
        ct: CTVolume,
        context: str | None = None,
        max_candidates: int = 10,
        points: Any = None,
        candidate_threshold: float | None = None,
    ) -> list[Finding]:
        self.calls.append(
            {
                "ct": ct,
                "context": context,
                "max_candidates": max_candidates,
                "points": points,
                "candidate_threshold": candidate_threshold,
            }
        )
        centre = (np.asarray(ct.geometry.size_ijk) - 1) / 2
        return [make_finding(ct.geometry, centre, source="candidate", candidate_score=0.7)]

    def document(self, ct: CTVolume, findings: list[Finding], timing_ms: Any = None) -> Any:
        return findings_document(
            findings,
            model=self.info,
            image_id=ct.image_id,
            shape_ijk=ct.geometry.size_ijk,
            spacing_ijk_mm=ct.geometry.spacing_mm,
            timing_ms=timing_ms,
        )

    def warm_up(self) -> None:
        self.warmed += 1


@pytest.fixture
def fake() -> FakeModel:
    return FakeModel()


@pytest.fixture
def served(fake: FakeModel, tmp_path: Path) -> ServedModel:
    """Serves the stand-in, whatever folder is to be read."""
    return ServedModel(ModelRegistry(tmp_path / "versions", tmp_path), lambda folder: fake)


@pytest.fixture
def tasks(served: ServedModel) -> Any:
    """The three models over the stand-in."""
    return make_tasks(SharedCharacterizer(served, AppSettings()))


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or leaves files in the user's cache."""
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _voxels() -> np.ndarray:
    """int16 [k, j, i] HU with lung, each voxel telling where it is."""
    k, j, i = np.indices(SIZE_IJK[::-1])
    return (-900 + 100 * k + 5 * j + i).astype(np.int16)


@pytest.fixture
def write_image() -> Callable[[Path], Path]:
    """Writes the small CT to a file; the extension says as what."""

    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = itk.image_from_array(_voxels())
        image.SetSpacing(SPACING_MM)
        image.SetOrigin(ORIGIN_LPS_MM)
        itk.imwrite(image, str(path))
        return path

    return write


@pytest.fixture
def write_series() -> Callable[..., str]:
    """Writes the small CT as a DICOM series into a folder, and returns its UID."""

    def write(
        folder: Path, modality: str = "CT", slices: int = SIZE_IJK[2], uid: str | None = None
    ) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        uid, study = uid or generate_uid(), generate_uid()
        for k in range(slices):
            _slice_file(_voxels()[k], k, uid, study, modality).save_as(
                folder / f"s{Path(uid).name[-6:]}-{k:03}", write_like_original=False
            )
        return str(uid)

    return write


def _slice_file(hu: np.ndarray, k: int, uid: str, study: str, modality: str) -> FileDataset:
    """One slice as PS3.3 A.3 asks for it, as far as a reader needs."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.is_little_endian, ds.is_implicit_VR = True, False
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, uid
    ds.FrameOfReferenceUID = generate_uid()
    ds.Modality, ds.PatientID, ds.PatientName = modality, "P1", "Phantom"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20240101", "120000", "", "1"
    ds.PatientBirthDate, ds.PatientSex, ds.ReferringPhysicianName = "", "", ""
    ds.SeriesNumber, ds.InstanceNumber = 1, k + 1
    x, y, z = ORIGIN_LPS_MM
    ds.ImagePositionPatient = [x, y, z + k * SPACING_MM[2]]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
    ds.SliceThickness = SPACING_MM[2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = hu.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope = 0, 1
    ds.PixelData = hu.astype("<i2").tobytes()
    return ds


@pytest.fixture
def voxels() -> np.ndarray:
    return _voxels()


def _write_files(folder: Path, version: str) -> ModelInfo:
    """The files of a model and a manifest that belongs to them; no weights that could be loaded."""
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text(f"{name} of {version}")
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    table = "".join(f"{name}:{files[name]}\n" for name in sorted(files))
    sha256 = hashlib.sha256(table.encode()).hexdigest()
    manifest = {"schema": SCHEMA, "name": "resmtnet", "version": version, "sha256": sha256}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": files}))
    return ModelInfo("resmtnet", version, sha256)


@pytest.fixture
def write_files() -> Callable[..., ModelInfo]:
    return _write_files


@pytest.fixture(scope="session")
def small_model(
    bright: Ensemble,
    held: list[CachedNodule],
    small_archive: Archive,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An untrained model of few weights with a replay set, and a reference set of 40 patients."""
    interval = LogInterval(0.0, 1.0, 0.0, Bands((), (1.6,)))
    calibration = Calibration(
        decision_threshold=0.6,
        score_widths=Bands((), (1.5,)),
        size_intervals=dict.fromkeys(MEASURED, interval),
        regressed_intervals={task.name: interval for task in SIZES},
    )
    config = TrainingConfig(network=NetworkConfig(widths=(4, 4, 4), hidden=8), patch=bright.config)
    torch.manual_seed(0)  # the networks of `bright`
    members = [ResMTNet(config.network).state_dict() for _ in range(2)]
    reference = [
        replace(one, case=replace(one.case, id=f"{one.case.id}-{copy}", patient_id=f"R{n}-{copy}"))
        for copy in range(2)
        for n, one in enumerate(held)
    ]
    folder = tmp_path_factory.mktemp("models") / "small"
    write_model(
        folder,
        "2",
        members,
        config,
        calibration,
        {"data": "none"},
        {
            **replay_files(embed(bright, small_archive, small_archive.nodules[:20])),
            **reference_files(reference, calibration),
        },
    )
    return folder
