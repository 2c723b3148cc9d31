"""What several folders of tests share: the real data, if it is there, and one small phantom."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from resmtnet.ct.phantom import NoduleSpec, Phantom, make_phantom

CHECKOUT = Path(__file__).resolve().parents[1]


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
