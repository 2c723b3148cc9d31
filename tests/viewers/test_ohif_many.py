"""One SEG and one SR of 50 varied nodules: OHIF 3.13 lists all of them."""

from __future__ import annotations

import io
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from dicom_results import MODEL, varied_nodules
from ohif_pages import open_measurements, open_result, open_study
from resmtnet.ct.phantom import write_dicom_series
from resmtnet.readings.dicom.identity import new_place
from resmtnet.readings.dicom.seg_write import write_seg
from resmtnet.readings.dicom.source_series import SourceSeries
from resmtnet.readings.dicom.sr_write import editable_axes, write_sr

Screenshot = Callable[[str], Path]
COUNT = 50


def send(pacs: str, dataset: Dataset) -> None:
    """Send an object to Orthanc."""
    file = io.BytesIO()
    dataset.save_as(file, write_like_original=False)
    request = urllib.request.Request(f"{pacs}/instances", file.getvalue(), method="POST")
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.status == 200


def test_fifty_nodules_are_listed_as_segments_and_as_measurements(
    scripted_pacs: Any, page: Any, screenshot: Screenshot, tmp_path: Path
) -> None:
    site, patient = scripted_pacs, "FIFTY"
    write_dicom_series(site.phantom, tmp_path / "ct", patient)
    source = SourceSeries.open(tmp_path / "ct")
    nodules = varied_nodules(source.geometry, COUNT, source.series_uid)
    seg = write_seg(nodules, source, MODEL, new_place(1))
    send(site.pacs, seg)
    send(site.pacs, write_sr(nodules, source, MODEL, new_place(2)))

    open_study(page, site.ohif, site.study(patient))
    open_result(page, "SR")
    open_measurements(page)
    editable = [one for one in nodules if editable_axes(one, source) is not None]
    rows = page.locator('[data-cy="data-row"]')
    rows.nth(len(editable) - 1).wait_for(state="attached")
    screenshot("ohif-fifty-sr")
    listed = [" ".join(text.split()) for text in rows.all_inner_texts()]
    assert len(listed) == len(editable)
    for one in editable:
        assert any(one.label in text for text in listed), one.label

    open_study(page, site.ohif, site.study(patient), mode="segmentation")
    open_result(page, "SEG")
    segments = [str(one.SegmentLabel) for one in seg.SegmentSequence]
    rows.nth(len(segments) - 1).wait_for(state="attached")
    screenshot("ohif-fifty-seg")
    listed = [" ".join(text.split()) for text in rows.all_inner_texts()]
    assert len(listed) == len(segments)
    for name in segments:
        assert any(name in text for text in listed), name
