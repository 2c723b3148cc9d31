"""A real PACS (Orthanc) behind the app: series stay DICOM, corrections go back as DICOM SEG."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.active.study_scores import StudyScores
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import series_uid, write_dicom_series
from resmtnet.monai_label.dicomweb import keep_dicom, use_installed_dcmqi
from resmtnet.readings.patients import pseudonym
from resmtnet.server.launch import ServerOptions, free_port, running_server

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
OTHERS = ("OTHER-1", "OTHER-2", "OTHER-3")
"""Patients whose series no test asks for by itself."""


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, phantom: Phantom) -> Iterator[str]:
    """The URL of an Orthanc that holds a few phantoms; skipped where Orthanc is not installed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None or not PLUGIN.exists():
        pytest.skip("no Orthanc: apt-get install orthanc orthanc-dicomweb")
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    config = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait(f"{url}/system", process)
            for patient in (None, *OTHERS):
                for path in write_dicom_series(phantom, folder / f"dicom-{patient}", patient):
                    _ask(f"{url}/instances", path.read_bytes())
            yield url
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dicomweb")


@pytest.fixture(scope="module")
def url(orthanc: str, cache: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", str(cache))
        # A virtual environment that is not activated has no dcmqi on PATH.
        patch.setenv("PATH", "/usr/bin:/bin")
        conf = {"readings": str(cache / "site" / "readings.sqlite")}
        options = ServerOptions(f"{orthanc}/dicom-web", port=free_port(), conf=conf)
        with running_server(options, timeout_s=240.0) as url:
            yield url


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(150):
        try:
            _ask(url)
        except OSError:
            assert process.poll() is None, "Orthanc stopped"
            time.sleep(0.2)
        else:
            return
    pytest.fail("Orthanc did not answer")


def _ask(url: str, body: bytes | None = None, method: str | None = None, **headers: str) -> bytes:
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return bytes(reply.read())


def _click(url: str, image: str, point: list[int], output: str = "json") -> bytes:
    body = urllib.parse.urlencode({"params": json.dumps({"foreground": [point]})}).encode()
    query = urllib.parse.urlencode({"image": image, "output": output})
    return _ask(f"{url}/infer/resmtnet_click?{query}", body)


@pytest.fixture
def point(phantom: Phantom) -> list[int]:
    centre = phantom.nodules[0].centre_lps_mm
    return [round(float(x)) for x in phantom.geometry.lps_to_ijk(centre)]


@pytest.mark.server
def test_a_series_of_the_pacs_is_answered_and_stays_dicom(
    url: str, cache: Path, phantom: Phantom, point: list[int]
) -> None:
    uid = series_uid(phantom)
    document = json.loads(_click(url, uid, point))
    assert document["image"]["id"] == uid
    assert document["nodules"][0]["centre_ijk"] == pytest.approx(point)
    (folder,) = cache.glob(f"*/{uid}")
    assert len(list(folder.iterdir())) == len(phantom.hu)
    assert not list(cache.rglob("*.nii.gz"))
    assert not list(cache.rglob("*.nrrd"))
    assert not list(cache.glob("*/.download-*"))


@pytest.mark.server
def test_a_viewer_downloads_a_series_as_one_file(
    url: str, phantom: Phantom, tmp_path: Path, read_array: Any
) -> None:
    path = tmp_path / "ct.nrrd"
    path.write_bytes(_ask(f"{url}/datastore/image?image={series_uid(phantom)}"))
    assert np.array_equal(read_array(path)[0], phantom.hu)


@pytest.mark.server
def test_a_corrected_mask_arrives_in_the_pacs_as_dicom_seg(
    url: str, orthanc: str, phantom: Phantom, point: list[int]
) -> None:
    import pydicom

    uid = series_uid(phantom)
    mask = _click(url, uid, point, output="image")
    info = {"label_info": [{"name": "benign", "idx": 1}]}
    body, kind = _form({"params": json.dumps(info)}, "label", "mask.nrrd", mask)
    query = urllib.parse.urlencode({"image": uid, "tag": "final"})
    saved = _ask(f"{url}/datastore/label?{query}", body, "PUT", **{"Content-Type": kind})
    assert json.loads(saved)["label"] == uid
    query = json.dumps({"Level": "Instance", "Query": {"Modality": "SEG"}})
    (instance,) = json.loads(_ask(f"{orthanc}/tools/find", query.encode()))
    seg = pydicom.dcmread(io.BytesIO(_ask(f"{orthanc}/instances/{instance}/file")))
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == uid
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["benign"]
    label = _ask(f"{url}/datastore/label?label={uid}&tag=final")
    assert label == mask
    # OHIF hangs what has the lowest number, and a viewer shows who made what.
    assert seg.SeriesNumber > 1
    assert "RESEARCH" in seg.SeriesDescription
    assert str(seg.ContentCreatorName) != ""
    (segment,) = seg.SegmentSequence
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "27925004"  # not a spleen
    assert segment.SegmentAlgorithmType == "MANUAL"
    # OHIF sends the UID of what it shows in front.
    asked = json.loads(_click(url, seg.SeriesInstanceUID, point))
    assert asked["image"]["id"] == uid


def _save(url: str, uid: str, name: str, content: bytes, params: Any, tag: str = "final") -> Any:
    """The reply to a label."""
    body, kind = _form({"params": json.dumps(params)}, "label", name, content)
    query = urllib.parse.urlencode({"image": uid, "tag": tag})
    return json.loads(_ask(f"{url}/datastore/label?{query}", body, "PUT", **{"Content-Type": kind}))


def _readings(url: str, reader: str) -> Any:
    return json.loads(_ask(f"{url}/resmtnet/readings?reader={reader}"))["readings"]


@pytest.mark.server
def test_a_json_label_of_a_series_of_the_pacs_is_a_reading(url: str, phantom: Phantom) -> None:
    uid, place = series_uid(phantom), list(phantom.nodules[0].centre_lps_mm)
    document = {"centre_lps_mm": place, "class": "benign", "reader": "json"}
    reply = _save(url, uid, "reading.json", json.dumps(document).encode(), {})
    assert reply["understood"][0].endswith("benign")
    (reading,) = _readings(url, "json")
    assert reading["image"] == uid
    assert reading["patient"]
    label = _ask(f"{url}/datastore/label?label={uid}&tag=final")
    assert json.loads(label) == document


@pytest.mark.server
def test_a_segment_keeps_its_name_in_the_pacs_whatever_others_are_empty(
    url: str, orthanc: str, phantom: Phantom, point: list[int]
) -> None:
    """MONAI Label alone names the first segment that has voxels like the first of the list."""
    import pydicom

    uid = series_uid(phantom)
    mask = _click(url, uid, point, output="image")
    value = json.loads(_click(url, uid, point))["nodules"][0]["mask_value"]
    info = [{"name": f"N1 name {n}", "idx": n} for n in (1, 2, 3)]
    info[value - 1]["name"] = "N1 not a nodule"
    before = json.loads(_ask(f"{orthanc}/instances"))
    reply = _save(url, uid, "mask.nrrd", mask, {"label_info": info, "client_id": "ann"})
    assert reply["understood"] == ["N1: not a nodule"]
    assert reply["warnings"] == []
    (new,) = set(json.loads(_ask(f"{orthanc}/instances"))) - set(before)
    seg = pydicom.dcmread(io.BytesIO(_ask(f"{orthanc}/instances/{new}/file")))
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["N1 not a nodule"]
    stored = json.loads(_ask(f"{url}/datastore/label/info?label={uid}&tag=final"))
    assert stored["label_info"] == info


@pytest.mark.server
def test_a_mask_that_cannot_be_read_does_not_replace_the_one_saved_before(
    url: str, phantom: Phantom
) -> None:
    uid = series_uid(phantom)
    with pytest.raises(urllib.error.HTTPError) as caught:
        _save(url, uid, "mask.nrrd", b"NRRD0004\n", {"client_id": "bad"})
    assert caught.value.code == 400
    assert "The one saved before is kept" in json.loads(caught.value.read())["detail"]
    caught.value.close()
    assert _readings(url, "bad") == []
    assert _ask(f"{url}/datastore/label?label={uid}&tag=final") != b"NRRD0004\n"


@pytest.mark.server
@pytest.mark.parametrize(
    ("image", "status"), [("1.2.3", 404), ("../x", 400), ("phantom", 400), ("1" * 65, 400)]
)
def test_what_is_no_series_of_the_pacs_is_refused(
    url: str, point: list[int], image: str, status: int
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        _click(url, image, point)
    assert caught.value.code == status
    detail = json.loads(caught.value.read())["detail"]
    assert "\n" not in detail
    assert "Traceback" not in detail
    caught.value.close()


@pytest.mark.server
def test_the_strategies_offer_the_studies_of_the_pacs_that_nobody_has_read(
    url: str, cache: Path, phantom: Phantom
) -> None:
    patients = {series_uid(phantom, patient): patient for patient in OTHERS}
    place = list(phantom.nodules[0].centre_lps_mm)

    def read(image: str) -> None:
        document = {"image": image, "reader": "worklist", "centre_lps_mm": place, "malignancy": 3}
        _ask(f"{url}/resmtnet/readings", json.dumps(document).encode(), **header)

    header = {"Content-Type": "application/json"}

    def offered(strategy: str, client: str) -> Any:
        body = json.dumps({"client_id": client}).encode()
        return json.loads(_ask(f"{url}/activelearning/{strategy}", body, **header))

    def downloaded() -> set[str]:
        return {path.name for path in cache.glob("*/*") if path.is_dir()} & set(patients)

    read(series_uid(phantom))
    assert downloaded() == set()
    first = offered("random", "ann")
    assert first["PatientID"] == patients[first["id"]]
    assert downloaded() == {first["id"]}
    read(first["id"])

    second = offered("resmtnet_informative", "ann")
    assert second["active_learning"]["unread"] == 2
    unread = set(patients) - {first["id"]}
    assert second["id"] in unread
    scores = StudyScores(cache / "site" / "scores")
    end = time.monotonic() + 60
    while not all(scores.patient(image) for image in unread) and time.monotonic() < end:
        time.sleep(0.2)
    assert {image: scores.patient(image) for image in patients} == {
        image: pseudonym(patient) if image in unread else None
        for image, patient in patients.items()
    }
    assert not list(cache.rglob("*.nii.gz"))

    read(second["id"])
    third = offered("resmtnet_diverse", "ann")
    assert {third["id"]} == unread - {second["id"]}
    assert offered("resmtnet_informative", "bob") == {}  # ann has it
    read(third["id"])
    for strategy in ("resmtnet_informative", "resmtnet_diverse", "random"):
        assert offered(strategy, "ann") == {}


def test_installed_dcmqi_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    use_installed_dcmqi()
    assert shutil.which("itkimage2segimage")


def test_another_kind_of_datastore_is_left_alone() -> None:
    datastore = object()
    assert keep_dicom(datastore) is datastore


def _form(fields: dict[str, str], name: str, file: str, content: bytes) -> tuple[bytes, str]:
    """A multipart/form-data body with one file, and its content type."""
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--limit\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
    parts += [head.encode(), b"Content-Type: application/octet-stream\r\n\r\n", content, b"\r\n"]
    return b"".join([*parts, b"--limit--\r\n"]), "multipart/form-data; boundary=limit"
