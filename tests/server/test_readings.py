"""The reader's loop through REST: infer, correct by each way in, find the readings again."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid
import warnings
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import pytest

from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import series_uid, write_nifti
from resmtnet.inference.model_folder import default_model_dir
from resmtnet.readings.patients import pseudonym
from resmtnet.server.launch import PLAIN_APP, ServerOptions, free_port, running_server
from resmtnet.training.carried_sets import read_reference

pytestmark = [
    pytest.mark.server,
    # Both clients leave their connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NAMES = ("benign", "malignant", "indeterminate")
SLICER_CLIENT = "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"
START_S = 240.0


@pytest.fixture
def studies(shared_server: Any) -> Path:
    return Path(shared_server.studies)


@pytest.fixture
def url(shared_server: Any) -> str:
    return str(shared_server.url)


@pytest.fixture(params=["monailabel", "slicer"])
def client(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Any:
    """MONAI Label's own client, or the one that Slicer's plugin brings; both import cgi."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if request.param == "monailabel":
            from monailabel.client import client as module
        else:
            path = Path(sys.prefix) / SLICER_CLIENT
            spec = importlib.util.spec_from_file_location("slicer_client", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    return module.MONAILabelClient(url, str(tmp_path), f"dr-{request.node.name}")


@pytest.fixture
def reader(client: Any) -> str:
    """Of this test alone."""
    return str(client._client_id)


@pytest.fixture
def place(phantom: Phantom) -> Any:
    return list(phantom.nodules[0].centre_lps_mm)


@pytest.fixture
def point(phantom: Phantom, place: Any) -> list[int]:
    return [round(float(x)) for x in phantom.geometry.lps_to_ijk(place)]


def ask(url: str, path: str, document: object = None, **query: str) -> tuple[int, Any]:
    """Status and JSON of a reply."""
    body = None if document is None else json.dumps(document).encode()
    address = f"{url}{path}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def readings(url: str, **query: str) -> Any:
    status, found = ask(url, "/resmtnet/readings", **query)
    assert status == 200
    return found["readings"]


def other_class(nodule: Any) -> str:
    return "benign" if nodule["class"]["name"] == "malignant" else "malignant"


def renamed(nodule: Any) -> list[dict[str, Any]]:
    """label_info with the segment of a nodule renamed, as Slicer's plugin sends it."""
    info = [{"name": name, "idx": n} for n, name in enumerate(NAMES, start=1)]
    info[nodule["mask_value"] - 1]["name"] = other_class(nodule)
    return info


def test_a_renamed_segment_arrives_as_a_reading(
    client: Any, reader: str, url: str, phantom: Phantom, studies: Path, point: list[int]
) -> None:
    image = series_uid(phantom)
    mask, answer = client.infer("resmtnet_click", image, {"foreground": [point]})
    (nodule,) = answer["nodules"]
    reply = client.save_label(image, mask, params={"label_info": renamed(nodule)})
    assert reply["understood"] == [f"N1: {other_class(nodule)}"]
    assert reply["not_understood"] == []
    (reading,) = readings(url, image=image, reader=reader)
    assert reading["class"] == other_class(nodule)
    assert reading["size"] == {}
    assert reading["source"] == "mask"
    header = pydicom.dcmread(next(studies.glob("patient/study/series/*")), stop_before_pixels=True)
    assert reading["patient"] == pseudonym(header.PatientID)
    assert reading["answered"]["seen"] is True
    assert reading["answered"]["model_version"] == answer["model"]["version"]
    shown = {name: value for name, value in nodule.items() if name != "url"}  # the page's address
    assert reading["answered"]["finding"] == shown


def test_an_edited_mask_arrives_with_its_sizes(
    client: Any, reader: str, url: str, point: list[int]
) -> None:
    mask, answer = client.infer("resmtnet_click", "phantom", {"foreground": [point]})
    image = itk.imread(mask)
    voxels = itk.array_from_image(image).copy()
    value, (i, j, k) = answer["nodules"][0]["mask_value"], point
    voxels[k - 8 : k + 9, j - 8 : j + 9, i - 8 : i + 9] = value
    edited = itk.image_from_array(voxels)
    edited.CopyInformation(image)
    itk.imwrite(edited, mask)
    info = [{"name": name, "idx": n} for n, name in enumerate(NAMES, start=1)]
    client.save_label("phantom", mask, params={"label_info": info})
    (reading,) = readings(url, image="phantom", reader=reader)
    volume = (voxels > 0).sum() * np.prod(itk.spacing(image))
    assert reading["size"]["volume_mm3"] == pytest.approx(volume, rel=1e-4)
    assert reading["size"]["long_axis_mm"] > answer["nodules"][0]["size"]["long_axis_mm"]
    assert reading["mask"]["file"]


def test_edited_markups_arrive_as_a_reading(
    client: Any, reader: str, url: str, point: list[int]
) -> None:
    file, answer = client.infer("resmtnet_findings", "phantom", {"foreground": [point]})
    document = json.loads(Path(file).read_text())
    (control,) = document["markups"][0]["controlPoints"]
    control["label"] = f"N1 {other_class(answer['nodules'][0])}"
    control["description"] += "; malignancy=3 texture=part-solid; to be followed"
    Path(file).write_text(json.dumps(document))
    reply = client.save_label("phantom", file, params={})
    assert reply["not_understood"] == []
    (reading,) = readings(url, image="phantom", reader=reader)
    assert reading["class"] == other_class(answer["nodules"][0])
    assert reading["malignancy"] == 3
    assert reading["characteristics"] == {"texture": 3}
    assert reading["comment"] == "to be followed"
    assert reading["size"] == {}
    assert reading["source"] == "markups"


def test_a_json_label_arrives_as_a_reading(
    client: Any, reader: str, url: str, place: Any, tmp_path: Path
) -> None:
    file = tmp_path / "readings.json"
    file.write_text(json.dumps([{"centre_lps_mm": place, "class": "benign", "malignancy": 1}]))
    reply = client.save_label("phantom", str(file), params={})
    assert "benign; malignancy 1" in reply["understood"][0]
    (reading,) = readings(url, image="phantom", reader=reader)
    assert (reading["class"], reading["source"]) == ("benign", "label")


def test_a_bad_label_replaces_no_other_one(
    client: Any, reader: str, url: str, place: Any, tmp_path: Path
) -> None:
    good, bad = tmp_path / "readings.json", tmp_path / "mask.nrrd"
    good.write_text(json.dumps([{"centre_lps_mm": place, "class": "benign"}]))
    client.save_label("phantom", str(good), params={})
    bad.write_bytes(b"NRRD0004\n")
    with pytest.raises(Exception, match=r"400.*cannot be read.*is kept"):
        client.save_label("phantom", str(bad), params={})
    kept = client.datastore()["objects"]["phantom"]["labels"]["final"]
    assert kept["ext"] == ".json"
    assert len(readings(url, image="phantom", reader=reader)) == 1


def test_a_bad_first_label_is_saved_and_the_reply_says_why_it_is_not_read(
    client: Any, reader: str, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "mask.nrrd"
    file.write_bytes(b"NRRD0004\n")
    reply = client.save_label("phantom", str(file), tag=f"first-{uuid.uuid4().hex}", params={})
    assert "not read" in reply["not_understood"][0]["why"]
    assert readings(url, reader=reader) == []


def test_a_posted_reading_is_stored_and_found_again(url: str, place: Any) -> None:
    document = {
        "image": "phantom",
        "reader": "poster",
        "centre_lps_mm": place,
        "class": "malignant",
        "malignancy": 5,
        "size": {"long_axis_mm": 11.5},
        "characteristics": {"texture": 5},
        "evidence": "histology",
        "comment": "adenocarcinoma",
    }
    status, first = ask(url, "/resmtnet/readings", document)
    assert status == 201
    assert first["understood"].endswith(
        "malignant; malignancy 5; long axis 11.5 mm; texture 5; comment 'adenocarcinoma'"
    )
    stored = first["reading"]
    assert {key: stored[key] for key in document} == document
    assert ask(url, f"/resmtnet/readings/{stored['id']}") == (200, stored)
    later = {"image": "phantom", "reader": "poster", "nodule": stored["nodule"]}
    ask(url, "/resmtnet/readings", later | {"evidence": "histology", "malignancy": 4})
    (latest,) = readings(url, reader="poster")
    assert (latest["malignancy"], latest["size"]) == (4, {"long_axis_mm": 11.5})
    assert ask(url, f"/resmtnet/readings/{latest['id']}")[1]["size"] == {}
    assert len(readings(url, reader="poster", every="true")) == 2
    assert stored["nodule"] in {reading["nodule"] for reading in readings(url, image="phantom")}
    assert readings(url, nodule=stored["nodule"], reader="poster") == [latest]
    assert readings(url, image="other") == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"class": "cancer"}, "class"),
        ({"malignancy": 6}, "malignancy"),
        ({"size": {"volume_mm3": -1}}, "size.volume_mm3"),
        ({"image": "none"}, "image"),
        ({"centre_lps_mm": [0, 0, 9000]}, "centre_lps_mm"),
        ({"nodule": "none"}, "nodule"),
        ({"colour": "red"}, "colour"),
        ({"reader": None}, "reader"),
    ],
)
def test_a_bad_reading_is_refused_with_its_field(
    url: str, place: Any, changes: Any, field: str
) -> None:
    document = {"image": "phantom", "reader": "bad", "centre_lps_mm": place} | changes
    status, reply = ask(url, "/resmtnet/readings", document)
    assert status == 422
    assert reply["detail"][0]["field"] == field
    assert reply["detail"][0]["message"]
    assert readings(url, reader="bad") == []


def test_what_is_not_there_and_what_is_no_json_is_told(url: str) -> None:
    assert ask(url, "/resmtnet/readings/none")[0] == 404
    status, reply = ask(url, "/resmtnet/readings", every="perhaps")
    assert (status, reply["detail"][0]["field"]) == (422, "every")
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/resmtnet/readings", b"{", headers, method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 422
    caught.value.close()


def test_the_versions_of_the_model_are_listed(url: str) -> None:
    status, found = ask(url, "/resmtnet/versions")
    assert status == 200
    assert [version["name"] for version in found["versions"] if version["served"]] == ["shipped"]
    assert found["warning"] is None


def test_the_server_answers_while_it_infers(url: str, point: list[int]) -> None:
    stop = threading.Event()
    asked = {"params": json.dumps({"max_candidates": 1})}
    body = urllib.parse.urlencode(asked).encode()
    runs: list[int] = []

    def infer() -> None:
        while not stop.is_set():
            address = f"{url}/infer/resmtnet?image=phantom&output=json"
            with urllib.request.urlopen(address, data=body, timeout=120) as reply:
                runs.append(len(reply.read()))

    threads = [threading.Thread(target=infer) for _ in range(3)]
    for thread in threads:
        thread.start()
    answered = [ask(url, "/resmtnet/readings")[0] for _ in range(10)]
    stop.set()
    for thread in threads:
        thread.join()
    assert answered == [200] * 10
    assert runs


OF_REFERENCE = "this patient belongs to the reference set of the model"


@pytest.fixture(scope="module")
def reference_patient() -> str:
    """Whose readings never train."""
    return str(read_reference(default_model_dir())[0].case.patient_id)


def test_a_reading_of_a_reference_patient_is_kept_and_its_reader_told_that_it_never_trains(
    url: str, client: Any, reader: str, place: Any, reference_patient: str, tmp_path: Path
) -> None:
    said = {"centre_lps_mm": place, "class": "benign", "reader": reader, "image": "one"}
    status, reply = ask(url, "/resmtnet/readings", said | {"patient": reference_patient})
    assert status == 201
    (told,) = reply["warnings"]
    assert told.startswith(OF_REFERENCE)
    label = tmp_path / "label.json"
    label.write_text(json.dumps([said | {"patient": reference_patient}]))
    reply = client.save_label("one", str(label), params={})
    assert len(reply["readings"]) == 1
    assert [one.startswith(OF_REFERENCE) for one in reply["warnings"]] == [True]
    assert len(readings(url, reader=reader, every="true")) == 2, "they are kept"
    assert ask(url, "/resmtnet/readings", said | {"patient": "another"})[1]["warnings"] == []


def test_a_study_read_by_rest_counts_as_completed(url: str, reader: str, place: Any) -> None:
    said = {"image": "two", "centre_lps_mm": place, "class": "benign", "reader": reader}
    assert ask(url, "/resmtnet/readings", said)[0] == 201
    known = ask(url, "/datastore/", output="all")[1]["objects"]
    labelled = {image for image, entry in known.items() if "final" in entry["labels"]}
    read = {one["image"] for one in readings(url, every="true")}
    assert "two" in read
    told = ask(url, "/info/")[1]["datastore"]["completed"]
    assert told == len((read | labelled) & set(known))


def test_the_rest_of_monai_label_is_served_too(url: str) -> None:
    for path in ("/", "/static/ohif/index.html", "/openapi.json", "/logs/?lines=1"):
        with urllib.request.urlopen(f"{url}{path}") as reply:
            assert reply.status == 200


def test_the_plain_start_of_monai_label_makes_readings_too(
    phantom: Phantom, point: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    write_nifti(phantom, tmp_path / "studies" / "phantom.nii.gz")
    options = ServerOptions(str(tmp_path / "studies"), port=free_port(), uvicorn_app=PLAIN_APP)
    with running_server(options, START_S) as url:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from monailabel.client.client import MONAILabelClient
        client = MONAILabelClient(url, str(tmp_path), "ann")
        mask, answer = client.infer("resmtnet_click", "phantom", {"foreground": [point]})
        info = {"label_info": renamed(answer["nodules"][0])}
        reply = client.save_label("phantom", mask, params=info)
        assert len(reply["readings"]) == 1
        assert ask(url, "/resmtnet/readings")[0] == 200
