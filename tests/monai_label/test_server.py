"""The app behind `monailabel start_server`, asked by MONAI Label's and by Slicer's own client."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import series_uid

pytestmark = [
    pytest.mark.server,
    # Both clients leave their connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LABELS = {"benign": 1, "malignant": 2, "indeterminate": 3}
MODELS = {
    "resmtnet": "segmentation",
    "resmtnet_click": "deepedit",
    "resmtnet_findings": "detection",
}
SLICER_CLIENT = "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"


@pytest.fixture
def studies(shared_server: Any) -> Path:
    """Has the phantom as NIfTI, and as a DICOM series in a folder of its study."""
    return Path(shared_server.studies)


@pytest.fixture
def url(shared_server: Any) -> str:
    return str(shared_server.url)


def client_class(which: str) -> Any:
    """MONAI Label's client, or the one that Slicer's plugin brings; both import cgi."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if which == "monailabel":
            from monailabel.client.client import MONAILabelClient

            return MONAILabelClient
        spec = importlib.util.spec_from_file_location("plugin", Path(sys.prefix) / SLICER_CLIENT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.MONAILabelClient


@pytest.fixture(params=["monailabel", "slicer"])
def client(request: pytest.FixtureRequest, url: str, tmp_path: Path) -> Any:
    return client_class(request.param)(url, str(tmp_path))


@pytest.fixture
def centre_ijk(phantom: Phantom) -> list[int]:
    """The voxel of the nodule of the phantom."""
    nodule = phantom.nodules[0]
    return [round(float(x)) for x in phantom.geometry.lps_to_ijk(nodule.centre_lps_mm)]


def get(url: str, path: str, **query: str) -> bytes:
    with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(query)}") as reply:
        return bytes(reply.read())


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """What the client is told; one line, without a traceback."""
    try:
        call(*arguments)
    except Exception as error:
        message = str(error.msg)  # type: ignore[attr-defined]
    else:
        pytest.fail("the request was answered")
    assert "Traceback" not in message
    assert "\\n" not in message
    return message


def test_info_lists_models_labels_and_nothing_that_does_not_exist(client: Any) -> None:
    info = client.info()
    assert {name: model["type"] for name, model in info["models"].items()} == MODELS
    assert list(info["models"]) == list(MODELS)
    assert all(model["labels"] == LABELS for model in info["models"].values())
    assert info["labels"] == list(LABELS)
    assert list(info["trainers"]) == ["resmtnet"]
    assert list(info["strategies"]) == ["resmtnet_informative", "resmtnet_diverse", "random"]
    assert info["scoring"] == {}


def test_files_and_series_are_listed(client: Any, phantom: Phantom) -> None:
    objects = client.datastore()["objects"]
    assert {"phantom", series_uid(phantom)} <= set(objects)


@pytest.mark.parametrize("image", ["nifti", "dicom"])
def test_a_click_is_answered_with_class_numbers_and_mask(
    client: Any, phantom: Phantom, centre_ijk: list[int], read_array: Any, image: str
) -> None:
    image_id = "phantom" if image == "nifti" else series_uid(phantom)
    request = {"foreground": [centre_ijk], "background": [], "result_extension": ".nrrd"}
    file, params = client.infer("resmtnet_click", image_id, request)
    (nodule,) = params["nodules"]
    array, _ = read_array(file)
    i, j, k = centre_ijk
    assert file.endswith(".nrrd")
    assert array.shape == phantom.hu.shape
    assert array[k, j, i] == nodule["mask_value"] == LABELS[nodule["class"]["name"]]
    assert set(np.unique(array)) == {0, nodule["mask_value"]}
    assert params["schema"] == "resmtnet.findings/1"
    assert params["label_names"] == LABELS
    assert params["image"]["id"] == image_id
    assert nodule["guidelines"]["context"] == "screening_baseline"


def test_a_run_without_points_searches_the_whole_ct(client: Any, read_array: Any) -> None:
    request = {"result_extension": ".nii.gz", "max_candidates": 1}
    file, params = client.infer("resmtnet", "phantom", request)
    assert file.endswith(".nii.gz")
    assert read_array(file)[0].dtype == np.uint8
    assert all(nodule["source"] == "candidate" for nodule in params["nodules"])


def test_markups_come_as_json(client: Any, centre_ijk: list[int]) -> None:
    request = {"foreground": [centre_ijk], "result_extension": ".nrrd"}
    file, params = client.infer("resmtnet_findings", "phantom", request)
    points = json.loads(Path(file).read_text())["markups"][0]["controlPoints"]
    assert file.endswith(".json")
    assert points[0]["label"].startswith(f"N1 {params['nodules'][0]['class']['name']}")


@pytest.mark.parametrize("output", ["json", "image", "all"])
def test_every_kind_of_output_is_answered(
    url: str, centre_ijk: list[int], tmp_path: Path, output: str
) -> None:
    body = urllib.parse.urlencode({"params": json.dumps({"foreground": [centre_ijk]})}).encode()
    address = f"{url}/infer/resmtnet_click?image=phantom&output={output}"
    with urllib.request.urlopen(address, data=body) as reply:
        kind, content = reply.headers["Content-Type"], reply.read()
    if output == "json":
        assert json.loads(content)["nodules"][0]["id"] == "N1"
    else:
        assert b"NRRD0004" in content
        assert kind.startswith("multipart") == (output == "all")


def test_a_volume_that_is_only_in_the_viewer_is_answered(
    client: Any, studies: Path, centre_ijk: list[int]
) -> None:
    session = client.create_session(str(studies / "phantom.nii.gz"))["session_id"]
    request = {"foreground": [centre_ijk]}
    _, params = client.infer("resmtnet_click", "no-id", request, session_id=session)
    assert params["nodules"][0]["id"] == "N1"
    client.remove_session(session)


def test_an_uploaded_volume_is_answered(client: Any, studies: Path, centre_ijk: list[int]) -> None:
    request = {"foreground": [centre_ijk]}
    file = str(studies / "phantom.nii.gz")
    _, params = client.infer("resmtnet_click", "", request, file=file)
    assert params["nodules"][0]["id"] == "N1"


def test_a_series_is_downloaded_as_one_file_on_its_grid(
    url: str, phantom: Phantom, tmp_path: Path, read_array: Any
) -> None:
    path = tmp_path / "ct.nrrd"
    path.write_bytes(get(url, "/datastore/image", image=series_uid(phantom)))
    array, _ = read_array(path)
    assert np.array_equal(array, phantom.hu)
    geometry = CTVolume.open(path).geometry
    assert geometry.origin_lps_mm == pytest.approx(phantom.geometry.origin_lps_mm, abs=1e-3)
    assert geometry.spacing_mm == pytest.approx(phantom.geometry.spacing_mm, abs=1e-6)


def test_a_corrected_mask_of_a_series_is_kept(
    client: Any, phantom: Phantom, centre_ijk: list[int]
) -> None:
    image_id = series_uid(phantom)
    mask, _ = client.infer("resmtnet_click", image_id, {"foreground": [centre_ijk]})
    sent = Path(mask).read_bytes()
    info = {"label_info": [{"name": "benign", "idx": 1}]}
    assert client.save_label(image_id, mask, params=info)["label"] == image_id
    stored = client.datastore()["objects"][image_id]["labels"]["final"]
    assert stored["info"]["label_info"] == info["label_info"]
    label = get(client.get_server_url(), "/datastore/label", label=image_id, tag="final")
    assert label == sent


@pytest.mark.parametrize(
    ("model", "image", "request_", "told"),
    [
        ("resmtnet_click", "phantom", {}, "400.*no point"),
        ("resmtnet_click", "phantom", {"foreground": [[999, 0, 0]]}, "400.*outside the CT"),
        ("resmtnet_click", "phantom", {"foreground": "here"}, "400.*foreground"),
        ("resmtnet", "phantom", {"context": "screening"}, "400.*incidental"),
        ("resmtnet", "phantom", {"result_extension": ".png"}, r"400.*\.nii\.gz"),
        ("resmtnet", "nothing", {}, "404.*no image"),
        ("resmtnet", "../../etc/hostname", {}, "40[34]"),
        ("resmtnet", "phantom", {"image": "/etc/hostname"}, "403.*outside the studies"),
        ("resmtnet", "phantom", {"image": ["a"]}, "400.*id of an image"),
        ("deepedit", "phantom", {}, "404.*Available: resmtnet"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(
    client: Any, model: str, image: str, request_: dict[str, Any], told: str
) -> None:
    assert re.search(told, refusal(client.infer, model, image, request_))


def test_labels_do_not_leave_their_folder(client: Any, studies: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.nrrd"
    mask.write_bytes(b"NRRD0004\n")
    before = sorted(studies.parent.rglob("*.nrrd"))
    assert "400" in refusal(client.save_label, "phantom", str(mask), "../../x")
    assert "404" in refusal(client.save_label, "../x", str(mask), "final")
    assert sorted(studies.parent.rglob("*.nrrd")) == before


@pytest.fixture
def linked_ct(studies: Path, real_ct: Path) -> Iterator[Path]:
    """A real CT among the studies, as long as the test runs."""
    link = studies / "LIDC-IDRI-0001"
    link.symlink_to(real_ct)
    yield real_ct
    link.unlink()


@pytest.mark.real_data
def test_the_real_nodule_is_malignant_and_as_large_as_readers_say(
    client: Any, linked_ct: Path, read_array: Any
) -> None:
    ct = CTVolume.open(linked_ct)
    point = [round(float(x)) for x in ct.geometry.lps_to_ijk((56.2, 86.2, -115.9))]
    answers = {model: client.infer(model, ct.image_id, {"foreground": [point]}) for model in MODELS}
    for _, params in answers.values():
        (nodule,) = params["nodules"]
        assert nodule["class"]["name"] == "malignant"
        assert nodule["size"]["long_axis_mm"] == pytest.approx(32.8, rel=0.25)
    for model in ("resmtnet", "resmtnet_click"):
        array, _ = read_array(answers[model][0])
        assert array.shape == ct.geometry.shape_kji
        assert array[point[2], point[1], point[0]] == 2
    points, line, _ = json.loads(Path(answers["resmtnet_findings"][0]).read_text())["markups"]
    assert points["controlPoints"][0]["label"].startswith("N1 malignant")
    ends = np.array([end["position"] for end in line["controlPoints"]])
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(32.8, rel=0.25)
