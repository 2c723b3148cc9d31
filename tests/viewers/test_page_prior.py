"""The review page compares a case with an earlier CT of the same patient, in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from page_site import QUICK, PageSite
from resmtnet.ct.phantom import NoduleSpec, Phantom, write_dicom_series, write_nifti
from resmtnet.ct.phantom.files import series_uid
from resmtnet.ct.phantom.follow_up import FollowUp, make_follow_up
from resmtnet.server.launch import ServerOptions, free_port, running_server

PATIENT = "GROWING"
THEN, NOW = "20260101", "20260401"
DRAWN = "() => window.resmtnetViewer && window.resmtnetViewer.spec && !window.resmtnetViewer.state"


@pytest.fixture(scope="module")
def pair() -> FollowUp:
    """A solid nodule that has doubled its volume, and one that has stayed as it was."""
    nodules = [NoduleSpec(9.0, "solid"), NoduleSpec(9.0, "solid")]
    return make_follow_up(
        5, nodules, [2.0, 1.0], shape_kji=(120, 220, 220), spacing_mm=(1.9, 1.45, 1.45)
    )


def write_visit(phantom: Phantom, folder: Path, day: str) -> str:
    """Write one CT of the patient; returns the id of the study."""
    for path in write_dicom_series(phantom, folder, PATIENT):
        header = pydicom.dcmread(path)
        for name in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
            setattr(header, name, day)
        header.save_as(path)
    return series_uid(phantom, PATIENT)


@pytest.fixture(scope="module")
def site(pair: FollowUp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    """Both CTs of the patient as DICOM, and the current one as NIfTI, which names no patient."""
    folder = tmp_path_factory.mktemp("prior")
    studies = folder / "studies"
    write_visit(pair.prior, studies / "then", THEN)
    write_visit(pair.current, studies / "now", NOW)
    write_nifti(pair.current, studies / "nameless.nii.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(folder / "cache"))
        conf = {**QUICK, "context": "screening_baseline"}
        options = ServerOptions(str(studies), port=free_port(), conf=conf)
        with running_server(options, timeout_s=300.0) as url:
            yield PageSite(url, studies, pair.current)


def open_case(page: Any, site: PageSite, image: str) -> None:
    page.set_default_timeout(180_000)
    page.goto(f"{site.url}/resmtnet/case/{image}?at={','.join(map(str, site.centre))}")
    page.wait_for_function(DRAWN)


def test_the_change_since_the_earlier_ct_of_the_patient_is_told_and_shown(
    browser: Any, site: PageSite, pair: FollowUp, keep: Any
) -> None:
    now = series_uid(pair.current, PATIENT)
    with site.opened(browser, "Ann") as page:
        site.answer(now, *(one.centre_lps_mm for one in pair.current.nodules))
        open_case(page, site, now)
        page.wait_for_selector("text=Earlier CT of this patient: 2026-01-01")
        page.get_by_role("button", name="Compare…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_text("2026-01-01").wait_for()
        assert dialog.get_by_role("checkbox", name="Both CTs are of one patient").is_hidden()
        dialog.get_by_role("button", name="Compare", exact=True).click()
        page.wait_for_selector(".prior")
        told = page.inner_text(".prior")
        assert "Growing" in told
        assert "since 2026-01-01, 90 days before" in told
        assert "Doubling time" in told
        assert "(90%: +" in told
        assert "screening follow-up" in page.inner_text(".details")
        chips = sorted(page.locator(".nodule-change").all_inner_texts())
        assert chips == ["growing", "stable"]
        keep(page, "review-prior")
        page.get_by_role("button", name="Earlier CT (h)").click()
        page.wait_for_function("window.resmtnetViewer.spec.key.startsWith('prior')")
        page.wait_for_function(DRAWN)
        assert "Earlier CT: 2026-01-01" in page.inner_text(".viewer-hint")
        keep(page, "review-prior-then")
        page.keyboard.press("p")
        page.wait_for_selector("text=This is the earlier CT")
        page.keyboard.press("h")
        page.wait_for_function("window.resmtnetViewer.spec.key.startsWith('nodule')")


def test_without_a_patient_id_the_reader_says_that_it_is_one_patient(
    browser: Any, site: PageSite, pair: FollowUp
) -> None:
    with site.opened(browser, "Ann") as page:
        site.answer("nameless", site.centre)
        open_case(page, site, "nameless")
        page.get_by_role("button", name="Compare…").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Earlier CT", exact=True).click()
        page.get_by_role("option", name="2026-01-01").click()
        go = dialog.get_by_role("button", name="Compare", exact=True)
        assert go.is_disabled()
        dialog.get_by_role("checkbox", name="Both CTs are of one patient").click()
        dialog.get_by_label("Date of this CT").fill("2026-04-01")
        go.click()
        page.wait_for_selector(".prior")
        assert "90 days before" in page.inner_text(".prior")
