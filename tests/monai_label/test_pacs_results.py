"""Results in a real PACS (Orthanc): stored, extended, corrected by readers, retracted."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from made_findings import make_finding
from resmtnet.cli.demo_pacs.orthanc import (
    HOW_TO_INSTALL,
    orthanc_program,
    running_orthanc,
    send_files,
)
from resmtnet.ct.phantom import Phantom, write_dicom_series
from resmtnet.ct.phantom.files import series_uid
from resmtnet.errors import InputError, PacsError
from resmtnet.findings import Finding, ModelInfo
from resmtnet.monai_label.dicom_node import DicomNode
from resmtnet.monai_label.pacs import send
from resmtnet.monai_label.pacs_inbox import PacsInbox
from resmtnet.monai_label.pacs_results import PacsResults
from resmtnet.monai_label.site_images import SiteFiles
from resmtnet.readings.answer_log import GivenAnswer
from resmtnet.readings.dicom.identity import Author, ObjectPlace, new_place
from resmtnet.readings.dicom.nodule import ResultNodule, from_finding
from resmtnet.readings.dicom.results_log import ReadObject
from resmtnet.readings.dicom.seg_read import read_seg
from resmtnet.readings.dicom.seg_write import write_seg
from resmtnet.readings.dicom.sr_write import write_sr
from resmtnet.readings.inbox import Inbox
from resmtnet.server.launch import free_port

MODEL = ModelInfo("resmtnet", "1.0", "ab" * 32)
READER = "DOE ANN"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if orthanc_program() is None:
        pytest.skip(f"no Orthanc: {HOW_TO_INSTALL}")
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), free_port()) as url:
        yield url


@pytest.fixture
def site(
    orthanc: str, phantom: Phantom, tmp_path: Path, request: pytest.FixtureRequest
) -> PacsResults:
    """A site whose PACS holds the CT of a patient of this test alone."""
    send_files(orthanc, write_dicom_series(phantom, tmp_path / "ct", request.node.name[:60]))
    images = SiteFiles(f"{orthanc}/dicom-web")
    assert images.pacs is not None
    return PacsResults(images.pacs, Inbox(tmp_path / "site" / "readings.sqlite", images))


@pytest.fixture
def image(phantom: Phantom, request: pytest.FixtureRequest) -> str:
    return series_uid(phantom, request.node.name[:60])


def _findings(phantom: Phantom, *numbers: int, source: str = "point") -> list[Finding]:
    grid = phantom.geometry
    return [
        make_finding(grid, (20 + 20 * n, 30 + 10 * n, 20 + 10 * n), n, source=source)
        for n in numbers
    ]


def _in_pacs(site: PacsResults, image: str, modality: str) -> list[Dataset]:
    study = site.source(image).study_uid
    entries = [one for one in site.pacs.series(StudyInstanceUID=study) if one.modality == modality]
    return [
        site.pacs.fetch(e.study_uid, e.uid, uid) for e in entries for uid in site.pacs.instances(e)
    ]


def test_answers_to_clicks_are_stored_and_candidates_are_not(
    site: PacsResults, image: str, phantom: Phantom
) -> None:
    assert site.store_findings(image, _findings(phantom, 0, source="candidate"), MODEL) == []
    stored = site.store_findings(image, _findings(phantom, 0), MODEL)
    assert [one.kind for one in stored] == ["SEG", "SR"]
    assert [one.series_number for one in stored] == [2, 3]  # the CT has 1
    (seg,), (sr,) = _in_pacs(site, image, "SEG"), _in_pacs(site, image, "SR")
    assert seg.SegmentSequence[0].TrackingUID == stored[0].nodules[0].tracking_uid
    assert sr.StudyInstanceUID == seg.StudyInstanceUID == site.source(image).study_uid


def test_a_second_click_extends_the_result_and_a_third_replaces_its_nodule(
    site: PacsResults, image: str, phantom: Phantom
) -> None:
    (first,) = site.store_findings(image, _findings(phantom, 0), MODEL)[1].nodules
    both = site.store_findings(image, _findings(phantom, 1), MODEL)
    assert [one.name for one in both[1].nodules] == ["N1", "N2"]
    changed = replace(_findings(phantom, 0)[0], class_name="benign", probability_malignant=0.2)
    last = site.store_findings(image, [changed], MODEL)
    told = {one.name: one for one in last[1].nodules}
    assert told["N1"].tracking_uid == first.tracking_uid
    assert told["N1"].label.startswith("N1 benign 80%")
    assert len({one.series_uid for one in (both[1], last[1])}) == 1
    newest = next(d for d in _in_pacs(site, image, "SR") if d.InstanceNumber == 3)
    previous = newest.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert previous.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == both[1].sop_instance_uid
    seg = next(d for d in _in_pacs(site, image, "SEG") if d.InstanceNumber == 3)
    read = read_seg(seg, phantom.geometry)
    assert [one.tracking_id for one in read.segments] == ["N2", "N1"]
    for finding in _findings(phantom, 0, 1):
        assert finding.mask is not None
    assert int((read.label_map > 0).sum()) == sum(
        int((one.mask > 0).sum()) for one in _findings(phantom, 0, 1) if one.mask is not None
    )


def _as_reader(
    site: PacsResults,
    image: str,
    change: Callable[[ResultNodule], Any],
    author: Author = Author(reader=READER),  # noqa: B008 - it is frozen
) -> Dataset:
    """Store an SR as a reader's viewer does: our nodules, changed, by somebody else."""
    results = site.log.of(image)
    last = results.standing("SR")[-1]
    nodules = []
    for told in last.nodules:
        assert told.finding is not None
        nodule = from_finding(Finding.from_json(told.finding), told.tracking_uid)
        nodule = replace(
            nodule,
            name=told.name,
            long_axis_lps_mm=told.long_axis_lps_mm,
            short_axis_lps_mm=told.short_axis_lps_mm,
        )
        nodules.append(change(nodule))
    before = site.pacs.fetch(last.study_uid, last.series_uid, last.sop_instance_uid)
    place = ObjectPlace(40, new_place(1).series_uid, 1, before)
    sr = write_sr([n for n in nodules if n], site.source(image), author, place)
    sr.Manufacturer = "A viewer"
    site.pacs.store([sr])
    return sr


def _relabel(sr_label: str) -> Callable[[ResultNodule], ResultNodule]:
    class Renamed(ResultNodule):
        @property
        def label(self) -> str:
            return sr_label

    return lambda nodule: Renamed(**vars(nodule))


@pytest.mark.parametrize(
    ("label", "outcome", "class_name", "malignancy"),
    [
        ("N1 benign", "modified", "benign", None),
        ("malignant 4/5", "modified", "malignant", 4),
        ("not a nodule", "rejected", "not_a_nodule", None),
        ("accept", "accepted", "malignant", None),
    ],
)
def test_a_label_that_a_reader_has_changed_is_a_reading(
    site: PacsResults, image: str, phantom: Phantom, label: str, outcome: str, class_name: str,
    malignancy: int | None,
) -> None:  # fmt: skip
    site.store_findings(image, _findings(phantom, 0), MODEL)
    _as_reader(site, image, _relabel(label))
    (read,) = PacsInbox(site).read(image)
    (reading,) = read["readings"]
    assert read["reader"] == reading["reader"] == READER
    assert (reading["class"], reading["malignancy"]) == (class_name, malignancy)
    assert read["outcomes"][0]["outcome"] == outcome
    assert reading["size"] == {}  # no handle was dragged
    (kept,) = site.inbox.store.readings(image)
    assert kept.answered is not None
    assert kept.answered.model_sha256 == MODEL.sha256
    assert PacsInbox(site).read() == []  # each object once


@pytest.mark.parametrize(("asker", "reader"), [("Roe Bob", "Roe Bob"), (None, "unknown (OHIF)")])
def test_an_sr_of_nobody_is_of_whoever_asks(
    site: PacsResults, image: str, phantom: Phantom, asker: str | None, reader: str
) -> None:
    site.store_findings(image, _findings(phantom, 0), MODEL)
    _as_reader(site, image, _relabel("N1 benign"), Author(MODEL))
    (read,) = PacsInbox(site).read(image, asker)
    assert [one["reader"] for one in (read, *read["readings"])] == [reader, reader]


def test_an_sr_without_changes_records_nothing_and_unknown_words_are_kept_and_told(
    site: PacsResults, image: str, phantom: Phantom
) -> None:
    site.store_findings(image, _findings(phantom, 0), MODEL)
    _as_reader(site, image, lambda nodule: nodule)
    (read,) = PacsInbox(site).read(image)
    assert read["readings"] == []
    assert "accept" in read["warnings"][0]
    _as_reader(site, image, _relabel("looks like a granuloma"))
    (read,) = PacsInbox(site).read(image)
    assert read["readings"][0]["comment"] == "looks like a granuloma"
    assert read["readings"][0]["class"] is None
    assert "names no class" in read["warnings"][0]


def test_a_segmentation_that_a_reader_has_edited_is_a_reading_with_its_size(
    site: PacsResults, image: str, phantom: Phantom
) -> None:
    finding = _findings(phantom, 0)[0]
    ct = site.inbox.images.open(site.inbox.images.volume(image))
    given = GivenAnswer(READER, MODEL.version, MODEL.sha256, ct.geometry, (finding,))
    site.inbox.remember(image, given)
    stored = site.store_findings(image, [finding], MODEL)
    told = stored[1].nodules[0]
    edited = make_finding(phantom.geometry, finding.centre_ijk, 0, radius_mm=7.0)
    nodule = replace(from_finding(edited, told.tracking_uid), class_name="benign")
    seg = write_seg(
        [replace(nodule, probability_malignant=None)],
        site.source(image),
        Author(reader=READER),
        new_place(50),
    )
    seg.Manufacturer = "A viewer"
    site.pacs.store([seg])
    (read,) = PacsInbox(site).read(image)
    (reading,) = read["readings"]
    assert reading["source"] == "dicom_seg"
    assert reading["class"] == "benign"
    assert reading["size"]["long_axis_mm"] == pytest.approx(14.0, abs=2.0)
    assert read["outcomes"] == [
        {"tracking_uid": told.tracking_uid, "outcome": "modified", "reading": reading["id"]}
    ]


def test_what_a_reader_says_is_stored_with_the_same_tracking_uid(
    site: PacsResults, image: str, phantom: Phantom
) -> None:
    told = site.store_findings(image, _findings(phantom, 0), MODEL)[1].nodules[0]
    document = {
        "image": image,
        "reader": "ann",
        "centre_lps_mm": list(told.centre_lps_mm),
        "class": "benign",
        "malignancy": 2,
    }
    site.inbox.add_document(document)
    (stored,) = site.store_readings(image, "ann")[-1:]
    assert stored.nodules[0].tracking_uid == told.tracking_uid
    assert stored.nodules[0].label.startswith("N1 benign | score 2")
    srs = {d.SOPInstanceUID: d for d in _in_pacs(site, image, "SR")}
    whole = json.dumps(srs[stored.sop_instance_uid].to_json_dict(), default=str)
    assert "ann^" in whole
    assert PacsInbox(site).read(image) == []  # our own are no readings
    site.inbox.add_document({**document, "reader": "bob", "purpose": "repeat"})
    assert site.store_readings(image, "bob") == []


def test_results_are_deleted_and_nothing_else_is(
    site: PacsResults, image: str, phantom: Phantom
) -> None:
    """Orthanc's DICOMweb answers 405 to DELETE; its REST interface deletes."""
    first = site.store_findings(image, _findings(phantom, 0), MODEL)
    _as_reader(site, image, _relabel("N1 benign"))
    site.store_findings(image, _findings(phantom, 1), MODEL)
    slices = len(_in_pacs(site, image, "CT"))
    withdrawn = site.retract(image)
    assert [one.retracted for one in withdrawn] == ["deleted"] * 4
    assert {one.sop_instance_uid for one in first} < {one.sop_instance_uid for one in withdrawn}
    assert _in_pacs(site, image, "SEG") == _in_pacs(site, image, "KO") == []
    (readers,) = _in_pacs(site, image, "SR")
    assert readers.Manufacturer == "A viewer", "what a reader has stored stays"
    assert len(_in_pacs(site, image, "CT")) == slices
    assert site.retract(image) == []
    assert not site.pacs.delete("1.2", "1.3", "1.4"), "there is no such object"


def test_results_are_rejected_by_a_note_where_the_pacs_does_not_delete(
    site: PacsResults, image: str, phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store_findings(image, _findings(phantom, 1), MODEL)
    monkeypatch.setattr("resmtnet.monai_label.pacs.orthanc_url", lambda *_: None)
    withdrawn = site.retract(image)
    assert [one.retracted for one in withdrawn] == ["rejected", "rejected"]
    (note,) = _in_pacs(site, image, "KO")
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    rejected = {
        sop.ReferencedSOPInstanceUID
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    }
    assert rejected == {one.sop_instance_uid for one in withdrawn}
    assert len(_in_pacs(site, image, "SEG")) == len(_in_pacs(site, image, "SR")) == 1
    assert site.retract(image) == []


def test_of_a_result_that_was_stored_in_part_that_part_can_be_withdrawn(
    site: PacsResults, image: str, phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = site.pacs.store

    def refuse_sr(datasets: list[Dataset]) -> None:
        if any(one.Modality == "SR" for one in datasets):
            raise PacsError("The PACS refused the SR: status 409")
        store(datasets)

    monkeypatch.setattr(site.pacs, "store", refuse_sr)
    with pytest.raises(PacsError, match="409"):
        site.store_findings(image, _findings(phantom, 0), MODEL)
    (seg,) = _in_pacs(site, image, "SEG")
    assert [one.kind for one in site.retract(image)] == ["SEG"]
    assert _in_pacs(site, image, "SEG") == []
    assert site.log.of(image).stored[0].sop_instance_uid == seg.SOPInstanceUID


def test_what_was_deleted_is_known_though_the_note_for_the_rest_is_refused(
    site: PacsResults, image: str, phantom: Phantom, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.store_findings(image, _findings(phantom, 0), MODEL)
    delete = site.pacs.delete

    def only_seg(study: str, series: str, uid: str) -> bool:
        kinds = {one.sop_instance_uid: one.kind for one in site.log.of(image).stored}
        return kinds[uid] == "SEG" and delete(study, series, uid)

    def refuse(datasets: list[Dataset]) -> None:
        raise PacsError("The PACS refused the KO")

    monkeypatch.setattr(site.pacs, "delete", only_seg)
    monkeypatch.setattr(site.pacs, "store", refuse)
    with pytest.raises(PacsError, match="KO"):
        site.retract(image)
    assert [(one.kind, one.retracted) for one in site.log.of(image).stored] == [
        ("SEG", "deleted"),
        ("SR", None),
    ]


def test_an_object_that_cannot_be_read_hides_none_of_those_after_it(
    site: PacsResults, image: str, phantom: Phantom
) -> None:
    site.store_findings(image, _findings(phantom, 0), MODEL)
    damaged = _as_reader(site, image, lambda nodule: nodule)
    for item in _items(damaged):
        if "ReferencedSOPSequence" in item:
            item.ReferencedSOPSequence = [Dataset()]
    damaged.SOPInstanceUID = generate_uid()
    site.pacs.store([damaged])
    _as_reader(site, image, _relabel("N1 benign"))
    entries = {one["sop_instance_uid"]: one for one in PacsInbox(site).read(image)}
    (problem,) = entries[damaged.SOPInstanceUID]["not_understood"]
    assert "damaged" in problem["why"]
    said = [one["understood"] for one in entries.values() if one["understood"]]
    assert said == [["N1: benign"]]
    assert PacsInbox(site).read(image) == []


def _items(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence") or ():
        yield item
        yield from _items(item)


def test_a_ct_that_is_gone_hides_none_of_the_others(
    site: PacsResults, image: str, phantom: Phantom, orthanc: str, tmp_path: Path
) -> None:
    site.store_findings(image, _findings(phantom, 0), MODEL)
    _as_reader(site, image, _relabel("N1 benign"))
    first = site.log._path("0.0.1")  # comes before the other one
    with site.log.changing("0.0.1") as results:
        results.read += [ReadObject("SR", "1.2", "2024-01-01", "ann")]
    (tmp_path / "site" / "pacs-results" / "0.0.0.json").write_text("{")
    assert first.is_file()
    entries = PacsInbox(site).read()
    assert [(one["image"], bool(one["understood"])) for one in entries] == [
        ("0.0.1", False),
        (image, True),
    ]
    assert "no series 0.0.1" in entries[0]["not_understood"][0]["why"]
    with pytest.raises(InputError, match=r"no series 0\.0\.1"):
        PacsInbox(site).read("0.0.1")


def test_nothing_is_stored_under_another_patient(
    site: PacsResults, image: str, phantom: Phantom, orthanc: str
) -> None:
    source = site.source(image)
    for header in source.slices.values():
        header.PatientID = "SOMEBODY-ELSE"
    site.source = lambda image: source  # type: ignore[method-assign]
    with pytest.raises(InputError, match="another patient"):
        site.store_findings(image, _findings(phantom, 0), MODEL)
    with urllib.request.urlopen(f"{orthanc}/statistics") as reply:
        assert json.loads(reply.read())["CountPatients"] >= 1
    assert _in_pacs(site, image, "SR") == []


@pytest.mark.parametrize("status", [0x0000, 0xB000])
def test_objects_are_sent_by_c_store(tmp_path: Path, phantom: Phantom, status: int) -> None:
    """Also where the node has changed an element, and says so with a warning."""
    from pynetdicom import AE, evt

    from resmtnet.readings.dicom.source_series import SourceSeries

    write_dicom_series(phantom, tmp_path / "ct")
    source = SourceSeries.open(tmp_path / "ct")
    nodules = [from_finding(one, "1.2.3") for one in _findings(phantom, 0)]
    sr = write_sr(nodules, source, Author(MODEL), new_place(1))
    got: list[str] = []

    def keep(event: Any) -> int:
        got.append(str(event.dataset.SOPInstanceUID))
        return status

    entity, port = AE("ARCHIVE"), free_port()
    entity.add_supported_context(sr.SOPClassUID)
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    try:
        send(DicomNode("ARCHIVE", "127.0.0.1", port), [sr])
        with pytest.raises(PacsError, match="ARCHIVE takes no CT"):
            send(DicomNode("ARCHIVE", "127.0.0.1", port), [sr, source.any])
    finally:
        server.shutdown()
    assert got == [sr.SOPInstanceUID] * 2
    with pytest.raises(PacsError, match="no association"):
        send(DicomNode("ARCHIVE", "127.0.0.1", free_port()), [sr])
