"""A cohort that lies in a PACS: scored from there, and its summary page in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cohort_model import CohortModel
from resmtnet.cli.demo_pacs.orthanc import (
    HOW_TO_INSTALL,
    orthanc_program,
    running_orthanc,
    send_files,
)
from resmtnet.cohort.score import ROWS, SUMMARY, Outcome, score_cohort
from resmtnet.cohort.studies import list_studies
from resmtnet.ct.phantom import NoduleSpec, make_phantom, write_dicom_series, write_nifti
from resmtnet.ct.phantom.files import series_uid
from resmtnet.inference.characterizer import Characterizer
from resmtnet.server.launch import free_port

parquet = pytest.importorskip("pyarrow.parquet", reason="needs resmtnet[cohort]")

PATIENTS = ("COHORT-ONE", "COHORT-TWO")
CENTRE = (-75.0, 0.0, 20.0)
NODULES: tuple[tuple[float, str], ...] = (
    *((5.0, "solid"), (7.0, "solid"), (9.0, "non-solid"), (12.0, "part-solid")),
    *((16.0, "solid"), (22.0, "solid")),
)
"""Diameter, mm, and texture."""


@pytest.fixture(scope="module")
def phantom() -> Any:
    return make_phantom(shape_kji=(16, 24, 24), nodules=[], centre_lps_mm=(-75.0, 0.0, 20.0))


@pytest.fixture(scope="module")
def orthanc(phantom: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An Orthanc with a CT of two patients."""
    if orthanc_program() is None:
        pytest.skip(f"no Orthanc: {HOW_TO_INSTALL}")
    folder = tmp_path_factory.mktemp("orthanc")
    with running_orthanc(folder / "pacs", free_port()) as url:
        for patient in PATIENTS:
            send_files(url, write_dicom_series(phantom, folder / patient, patient))
        yield url


def scored(source: str, folder: Path) -> Outcome:
    (folder / "asked").mkdir(parents=True, exist_ok=True)
    load = partial(CohortModel, folder / "asked")
    return score_cohort(list_studies(source), load, folder / "results")


def test_every_ct_of_a_pacs_is_scored_once(orthanc: str, phantom: Any, tmp_path: Path) -> None:
    service = f"{orthanc}/dicom-web"
    assert scored(service, tmp_path).scored == 2
    assert scored(service, tmp_path).scored == 0
    rows = parquet.read_table(tmp_path / "results" / ROWS).to_pylist()
    assert {row["study_id"] for row in rows} == {series_uid(phantom, one) for one in PATIENTS}
    assert {row["status"] for row in rows} == {"ok"}


def test_a_csv_names_series_of_a_pacs_and_points(
    orthanc: str, phantom: Any, tmp_path: Path
) -> None:
    (first, *_) = list_studies(f"{orthanc}/dicom-web")
    missing = f"{orthanc}/dicom-web/studies/1.2/series/1.2.3"
    table = tmp_path / "points.csv"
    table.write_text(
        f"path,x,y,z\n{first.place},-75,0,20\n{first.place},-76,0,20\n{missing},0,0,0\n"
    )
    outcome = scored(str(table), tmp_path)
    assert (outcome.studies, outcome.failed, outcome.rows) == (2, 1, 3)


def test_the_summary_page_tells_counts_and_failures(
    page: Any, screenshot: Callable[[str], Path], tmp_path: Path
) -> None:
    """With the shipped model, for the picture in docs/."""
    lines = ["path,x,y,z"]
    for n, (diameter_mm, texture) in enumerate(NODULES):
        nodule = NoduleSpec(diameter_mm, texture, centre_lps_mm=CENTRE)
        one = make_phantom(seed=n, shape_kji=(48, 64, 64), nodules=[nodule], centre_lps_mm=CENTRE)
        write_nifti(one, tmp_path / f"phantom-{n}.nii")
        lines.append(f"phantom-{n}.nii,{','.join(map(str, CENTRE))}")
    (tmp_path / "bad.nii").write_bytes(b"this is no image")
    (tmp_path / "points.csv").write_text("\n".join([*lines, "bad.nii,0,0,0"]))
    studies = list_studies(str(tmp_path / "points.csv"))
    score_cohort(studies, partial(Characterizer.load, device="cpu"), tmp_path / "results")
    page.goto((tmp_path / "results" / SUMMARY).as_uri())
    text = page.inner_text("body")
    assert "Cohort scored by Res-MTNet" in text
    assert "Not a medical device" in text
    first = page.locator("tr", has_text="studies").first
    assert first.inner_text().split() == ["studies", str(len(NODULES) + 1)]
    assert page.locator("tr", has_text="mm³").count() == len(NODULES)
    assert "bad.nii" in page.locator("table").last.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1400, "height": 1650})
    screenshot("cohort-summary")
