"""What several folders of tests share: the real data, if it is there, and one small phantom."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import made_findings
from resmtnet.characteristics import LIDC_RATINGS
from resmtnet.config import NetworkConfig, PatchConfig
from resmtnet.ct import Geometry
from resmtnet.ct.phantom import (
    NoduleSpec,
    Phantom,
    make_phantom,
    write_dicom_series,
    write_nifti,
)
from resmtnet.data import archive
from resmtnet.data.archive import Archive, Nodule
from resmtnet.findings import Finding
from resmtnet.inference.ensemble import Ensemble, Sampler
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.server.launch import ServerOptions, free_port, running_server
from resmtnet.training.cached_nodule import CachedNodule, observe

CHECKOUT = Path(__file__).resolve().parents[1]


KEYS = tempfile.TemporaryDirectory(prefix="resmtnet-keys-")
os.environ["RESMTNET_SIGNING_KEY"] = str(Path(KEYS.name, "signing-key.pem"))
"""No test signs with, or makes, the key of whoever runs it."""

VIEWERS = {"orthanc", "slicer_python", "pacs_site", "scripted_pacs", "browser"}
"""Fixtures that need a program from outside."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Orthanc or Slicer, before pytest looks at the marks."""
    for item in items:
        if VIEWERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.viewers)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder that holds pyproject.toml."""
    return CHECKOUT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the LIDC-IDRI data; the test is skipped without it."""
    folder = Path(os.environ.get("RESMTNET_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no LIDC-IDRI data: set RESMTNET_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def real_ct(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DICOM series of LIDC-IDRI-0001, a folder of 133 files; read it, never write to it."""
    archive = real_data / "ct" / "LIDC-IDRI-0001.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no ct/{archive.name} in RESMTNET_DATA")
    folder = tmp_path_factory.mktemp("LIDC-IDRI-0001")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return next(folder.rglob("*.dcm")).parent


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A box in the right lung of the phantom with one solid nodule of 10 mm at its middle."""
    centre = (-75.0, 0.0, 20.0)
    nodule = NoduleSpec(10.0, "solid", centre_lps_mm=centre)
    return make_phantom(seed=3, shape_kji=(64, 80, 80), nodules=[nodule], centre_lps_mm=centre)


def nodule_ball(n: int) -> tuple[Nodule, np.ndarray, np.ndarray]:
    """A ball in noise, cut at its own ends and read by three readers."""
    radius, rng = 3.0 + n % 4, np.random.default_rng(n)
    spacing = (2.0, 0.8, 0.8)
    z, y, x = (np.arange(s) - (s - 1) / 2 for s in (9, 60, 60))
    distance = np.sqrt(
        (z * 2)[:, None, None] ** 2 + (y * 0.8)[None, :, None] ** 2 + (x * 0.8)[None, None] ** 2
    )
    mask = ((distance <= radius) * 255).astype(np.uint8)
    hu = np.where(mask > 0, 30, -850) + rng.normal(0, 20, mask.shape)
    kept = mask.any((1, 2))
    hu, mask = hu[kept].round().astype(np.int16), mask[kept]
    malignancy = (1, 2, 2) if n % 2 else (4, 5, 4)
    ratings = {t.name: (1, 1, 2) for t in LIDC_RATINGS} | {"malignancy": malignancy}
    nodule = Nodule(
        id=f"N{n}",
        patient_id=f"P{n // 2}",
        split="val" if n >= 20 else "train",
        fold=n // 2 % 5,
        context="none",
        shape_kji=mask.shape,
        spacing_kji_mm=spacing,
        centre_kji=tuple((s - 1) / 2 for s in mask.shape),
        slice_thickness_mm=2.0,
        volume_mm3=float(4 / 3 * np.pi * radius**3),
        long_axis_mm=2 * radius,
        ratings=ratings,
    )
    return nodule, hu, mask


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """24 balls of twelve patients in five folds; the last four are of split val."""
    path = tmp_path_factory.mktemp("archive") / "balls"
    archive.write(path, (nodule_ball(n) for n in range(24)), {"data": "synthetic balls"})
    return Archive.open(path)


class BrightMasks(Ensemble):
    """Members whose mask is what is dense, so that tests need no trained decoder."""

    def mask_probability(
        self, sampler: Sampler, low: int, high: int, config: PatchConfig
    ) -> NDArray[np.float32]:
        heights_mm = [level * config.mask_step_mm for level in range(low, high + 1)]
        slices = sampler.slices(heights_mm, config.mask_size_px)
        tissue = 4 * 600 / 1400 - 1.25  # -400 HU on the scale of ct.patch
        return torch.sigmoid(4 * (slices - tissue)).numpy()


@pytest.fixture(scope="session")
def bright() -> Ensemble:
    """Two random members that draw whatever is dense."""
    torch.manual_seed(0)
    networks = [ResMTNet(NetworkConfig(widths=(4, 4, 4), hidden=8)).eval() for _ in range(2)]
    return BrightMasks(
        networks, PatchConfig(size_px=16, mask_size_px=32, offsets_mm=(-2.0, 0.0, 2.0))
    )


@pytest.fixture(scope="session")
def held(bright: Ensemble, small_archive: Archive) -> list[CachedNodule]:
    """The balls of split train, observed once."""
    nodules = [nodule for nodule in small_archive.nodules if nodule.split == "train"]
    return [observe(bright, small_archive, nodule) for nodule in nodules]


@pytest.fixture(scope="session", autouse=True)
def private_tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No server of the tests reads or makes the user's own tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        for name in ("RESMTNET_TOKEN", "RESMTNET_TOKEN_FILE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def private_temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Answers of models that tests ask directly, or through MONAI Label's client, go with them."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("TMPDIR", folder)
        yield


@dataclass(frozen=True)
class SharedServer:
    """A server that several files of tests ask; no test may rely on what others left there."""

    url: str
    studies: Path
    """phantom, one, two: the phantom as NIfTI; patient/study/series: the same as DICOM."""


@pytest.fixture(scope="session")
def shared_server(
    phantom: Phantom, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedServer]:
    """The server with its app, started once for all tests; context screening_baseline."""
    studies = tmp_path_factory.mktemp("shared") / "studies"
    for name in ("phantom", "one", "two"):
        write_nifti(phantom, studies / f"{name}.nii.gz")
    write_dicom_series(phantom, studies / "patient" / "study" / "series")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path_factory.mktemp("sessions")))
        conf = {"context": "screening_baseline", "sessions": "true"}
        options = ServerOptions(str(studies), port=free_port(), conf=conf)
        with running_server(options, timeout_s=240.0) as url:
            patch.undo()  # of the server alone
            yield SharedServer(url, studies)


@pytest.fixture
def grid() -> Geometry:
    """A small grid whose axes are not the patient's."""
    return made_findings.small_grid()


@pytest.fixture
def ball() -> Callable[..., Any]:
    """Makes the mask of a ball on a grid, and says at which voxel it starts."""
    return made_findings.ball


@pytest.fixture
def make_finding() -> Callable[..., Finding]:
    """Makes the finding of a round nodule."""
    return made_findings.make_finding


@pytest.fixture
def read_array() -> Callable[..., Any]:
    """Reads voxels [k, j, i] and the image, as ITK does."""
    return made_findings.read_array
