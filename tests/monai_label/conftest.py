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

from resmtnet.calibration import Calibration
from resmtnet.characteristics import SIZES
from resmtnet.config import NetworkConfig, TrainingConfig
from resmtnet.conformal import Bands, LogInterval
from resmtnet.ct import CTVolume, Geometry
from resmtnet.data.archive import Archive
from resmtnet.findings import (
    Finding,
    Malignancy,
    ModelInfo,
    Size,
    Uncertainty,
    findings_document,
)
from resmtnet.held import Held
from resmtnet.inference import Inference
from resmtnet.interpret import MEASURED
from resmtnet.model_store import FILES, MANIFEST, SCHEMA, write_model
from resmtnet.monai_label.infer import SharedCharacterizer, make_tasks
from resmtnet.monai_label.served import ServedModel
from resmtnet.monai_label.settings import AppSettings
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.replay import embed, reference_files, replay_files
from resmtnet.versions import Versions

SIZE_IJK = (24, 20, 12)
SPACING_MM = (0.8, 0.9, 2.0)
ORIGIN_LPS_MM = (-30.0, 12.5, -100.0)
CLASSES = (("malignant", 0.83), ("benign", 0.1), ("indeterminate", 0.48))


@pytest.fixture
def grid() -> Geometry:
    """A small grid whose axes are not the patient's."""
    angle = 0.2
    turned = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    return Geometry(SIZE_IJK, SPACING_MM, ORIGIN_LPS_MM, turned)


def _ball(grid: Geometry, centre_ijk: Sequence[float], radius_mm: float) -> tuple[Any, Any]:
    """A ball on the voxels of a grid: mask [k, j, i] and the voxel at which it starts."""
    spacing = np.asarray(grid.spacing_mm)
    start = np.floor(np.asarray(centre_ijk) - radius_mm / spacing).astype(int)
    stop = np.ceil(np.asarray(centre_ijk) + radius_mm / spacing).astype(int) + 1
    index = np.stack(
        np.meshgrid(*[np.arange(*ends) for ends in zip(start, stop, strict=True)], indexing="ij"),
        axis=-1,
    )
    inside = np.linalg.norm((index - centre_ijk) * spacing, axis=-1) <= radius_mm
    return inside.transpose(2, 1, 0).astype(np.uint8), tuple(int(n) for n in start)


def _make_finding(
    grid: Geometry, centre_ijk: Sequence[float], n: int = 0, radius_mm: float = 4.0, **changes: Any
) -> Finding:
    """The n-th nodule, a ball."""
    name, probability = CLASSES[n % 3]
    mask, start = _ball(grid, centre_ijk, radius_mm)
    centre = tuple(float(x) for x in grid.ijk_to_lps(centre_ijk))
    values: dict[str, Any] = {
        "id": f"N{n + 1}",
        "source": "point",
        "centre_lps_mm": centre,
        "centre_ijk": tuple(float(x) for x in centre_ijk),
        "class_name": name,
        "probability_malignant": probability,
        "malignancy": Malignancy(4.1, (3.3, 4.8), (0.0, 0.1, 0.1, 0.3, 0.5)),
        "size": Size(long_axis_mm=8.4, mean_diameter_mm=8.2, equivalent_diameter_mm=8.0),
        "characteristics": {},
        "uncertainty": Uncertainty(0.3, 0.1, 0.5),
        "guidelines": {"context": None},
        "centroid_lps_mm": centre,
        "mask": mask,
        "start_ijk": start,
    }
    return Finding(**values | changes)


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
            _make_finding(ct.geometry, ct.geometry.lps_to_ijk(centre), n, **without)
            for n, centre in enumerate(centres_mm)
        ]

    def find(
        self, ct: CTVolume, context: str | None = None, max_candidates: int = 10
    ) -> list[Finding]:
        self.calls.append({"ct": ct, "context": context, "max_candidates": max_candidates})
        centre = (np.asarray(ct.geometry.size_ijk) - 1) / 2
        return [_make_finding(ct.geometry, centre, source="candidate", candidate_score=0.7)]

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
    return ServedModel(Versions(tmp_path / "versions", tmp_path), lambda folder: fake)


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


def _read_array(path: Path | str) -> tuple[np.ndarray, Any]:
    """Voxels [k, j, i] and the image, as ITK reads a file."""
    image = itk.imread(str(path))
    return itk.array_from_image(image), image


@pytest.fixture
def ball() -> Callable[..., Any]:
    return _ball


@pytest.fixture
def make_finding() -> Callable[..., Finding]:
    return _make_finding


@pytest.fixture
def voxels() -> np.ndarray:
    return _voxels()


@pytest.fixture
def read_array() -> Callable[..., Any]:
    return _read_array


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
    bright: Inference,
    held: list[Held],
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
