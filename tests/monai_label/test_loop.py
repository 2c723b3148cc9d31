"""The radiologist's loop through REST: infer, correct by each way in, train, infer, next study."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from monailabel.client.client import MONAILabelClient

from resmtnet.cli.demo.patients import DemoStudy, write_patients
from resmtnet.cli.demo.reader import AXES, correction
from resmtnet.ct import CTVolume
from resmtnet.server.launch import ServerOptions, free_port, running_server
from resmtnet.types import Json

pytestmark = [
    pytest.mark.server,
    # MONAI Label's client leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


UNREAD = 2
"""Of the patients; nobody corrects anything in their studies."""
READER = "dr-surer"
OPTIONS = {
    "min_patients": 3,
    "min_patients_of_weights": 3,
    "replay_share": 0.05,
    "score_margin": 0.1,
    "size_margin": 0.1,
}
NAMES = ("benign", "malignant", "indeterminate")
AXIS, STRATEGY = "long_axis_mm", "resmtnet_informative"
REAL_NODULE = (56.2, 86.2, -115.9)
REAL_PATIENT = "a patient of this site"
"""By its own name the patient is of the reference set, and would not train."""


def ask(client: Any, path: str, document: object = None, **query: str) -> Any:
    """JSON of a reply of status 200 or 201."""
    body = None if document is None else json.dumps(document).encode()
    address = f"{client.get_server_url()}{path}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.loads(reply.read())


def infer(client: Any, case: DemoStudy, model: str = "resmtnet_click") -> tuple[Path, Json]:
    file, document = client.infer(model, case.image_id, {"foreground": case.points_ijk})
    assert len(document["nodules"]) == len(case.points_lps_mm)
    return Path(file), document


# -- the ways in: each corrects a study; returns the model's answers and what was understood ------

Sent = tuple[list[Json], list[str]]


def by_mask(client: Any, case: DemoStudy) -> Sent:
    """What Slicer submits after segments were renamed; the outlines are as the app drew them."""
    mask, document = infer(client, case)
    names = list(NAMES)
    for nodule in document["nodules"]:
        said = correction(nodule)
        names[nodule["mask_value"] - 1] = f"{said['class']} malignancy={said['malignancy']}"
    info = [{"name": name, "idx": n} for n, name in enumerate(names, start=1)]
    return document["nodules"], saved(client, case, mask, {"label_info": info})


def by_markups(client: Any, case: DemoStudy) -> Sent:
    """Slicer Markups: points renamed, lines drawn longer."""
    file, document = infer(client, case, "resmtnet_findings")
    markups = json.loads(file.read_text())
    points = markups["markups"][0]["controlPoints"]
    for point, nodule in zip(points, document["nodules"], strict=True):
        said = correction(nodule)
        point["label"] = f"{nodule['id']} {said['class']}"
        point["description"] += f"; malignancy={said['malignancy']}"
    lines = [node["controlPoints"] for node in markups["markups"] if node["type"] == "Line"]
    for line, nodule in zip(lines, document["nodules"], strict=True):
        ends = np.array([end["position"] for end in line])
        factor = correction(nodule)["size"][AXIS] / np.linalg.norm(ends[1] - ends[0])
        for end, place in zip(line, ends, strict=True):
            end["position"] = (ends.mean(0) + factor * (place - ends.mean(0))).tolist()
    file.write_text(json.dumps(markups))
    return document["nodules"], saved(client, case, file, {})


def by_label(client: Any, case: DemoStudy) -> Sent:
    """One JSON label with a reading of each nodule."""
    file, document = infer(client, case)
    readings = [
        {"centre_lps_mm": nodule["centre_lps_mm"], **correction(nodule)}
        for nodule in document["nodules"]
    ]
    label = file.with_suffix(".json")
    label.write_text(json.dumps(readings))
    return document["nodules"], saved(client, case, label, {})


def by_post(client: Any, case: DemoStudy) -> Sent:
    """A reading of each nodule to POST /resmtnet/readings."""
    _, document = infer(client, case)
    understood = []
    for nodule in document["nodules"]:
        place = {"image": case.image_id, "centre_lps_mm": nodule["centre_lps_mm"]}
        reading = {"reader": READER, **place, **correction(nodule)}
        reply = ask(client, "/resmtnet/readings", reading)
        understood.append(reply["understood"])
    return document["nodules"], understood


def saved(client: Any, case: DemoStudy, file: Path, params: Json) -> list[str]:
    reply = client.save_label(case.image_id, str(file), params=params)
    assert reply["not_understood"] == []
    return list(reply["understood"])


WAYS: tuple[tuple[Callable[[Any, DemoStudy], Sent], str, tuple[str, ...]], ...] = (
    (by_mask, "mask", ()),
    (by_markups, "markups", (AXIS,)),
    (by_label, "label", AXES),
    (by_post, "rest", AXES),
)
"""Each with the source of its readings, and the sizes that it says."""


def correct(client: Any, case: DemoStudy, way: int) -> list[Json]:
    """Correct a study, check what is said of it and what is kept; return the model's answers."""
    send, source, sizes = WAYS[way]
    before, understood = send(client, case)
    said = [correction(nodule) for nodule in before]
    kept = ask(client, "/resmtnet/readings", image=case.image_id, every="true")["readings"]
    for n, (line, reading, wanted) in enumerate(
        zip(understood, kept[-len(said) :], said, strict=True), start=1
    ):
        assert line.startswith(f"N{n}: {wanted['class']}; malignancy {wanted['malignancy']}")
        assert all((axis.removesuffix("_mm").replace("_", " ") in line) for axis in sizes)
        assert (reading["source"], reading["reader"]) == (source, READER)
        assert {name: reading[name] for name in ("class", "malignancy")} == {
            name: wanted[name] for name in ("class", "malignancy")
        }
        expected = {axis: wanted["size"][axis] for axis in sizes}
        assert reading["size"] == pytest.approx(expected, abs=0.01)
    return before


def train(client: Any, timeout_s: float = 300.0) -> Json:
    """Train, wait for the end as the viewers do, and return the trainer's stats."""
    client.train_start("resmtnet", dict(OPTIONS))
    end_s = time.monotonic() + timeout_s
    while (status := client.train_status())["status"] in ("SUBMITTED", "RUNNING"):
        assert time.monotonic() < end_s, status
        time.sleep(0.3)
    assert status["status"].startswith("DONE. Version "), status
    stats: Json = client.info()["train_stats"]["resmtnet"]
    return stats


def errors(answers: Sequence[Json], said: Sequence[Json]) -> dict[str, float]:
    """Mean distance of answers from the corrections: levels, and log ratios of the long axis."""
    score = [a["malignancy"]["score"] - s["malignancy"] for a, s in zip(answers, said, strict=True)]
    axis = [
        np.log(a["size"]["long_axis_mm"] / s["size"]["long_axis_mm"])
        for a, s in zip(answers, said, strict=True)
    ]
    return {"score": float(np.abs(score).mean()), "size": float(np.abs(axis).mean())}


@dataclass(frozen=True)
class Story:
    """What happened on one server, from the first answers to those of the new version."""

    client: Any
    cases: list[DemoStudy]
    """Those that were read."""
    unread: list[DemoStudy]
    before: list[list[Json]]
    """The answers, nodule by nodule and case by case."""
    stats: Json
    """Of the training."""
    documents: list[Json]
    """The answers at the same points after it."""

    def errors(self, *which: int) -> tuple[dict[str, float], dict[str, float]]:
        """How far the answers of some cases were from the corrections, and are now."""
        before = [nodule for n in which for nodule in self.before[n]]
        after = [nodule for n in which for nodule in self.documents[n]["nodules"]]
        said = [correction(nodule) for nodule in before]
        return errors(before, said), errors(after, said)


@pytest.fixture(scope="module")
def real_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path | None:
    """The real CT, where there is one, as of a patient of whom the model knows nothing."""
    try:
        series = request.getfixturevalue("real_ct")
    except pytest.skip.Exception:
        return None
    folder = tmp_path_factory.mktemp("real")
    for file in series.glob("*.dcm"):
        header = pydicom.dcmread(file)
        header.PatientID = REAL_PATIENT
        header.save_as(folder / file.name)
    return folder


@pytest.fixture(scope="module")
def real(real_folder: Path | None) -> DemoStudy | None:
    """Its nodule."""
    if real_folder is None:
        return None
    ct = CTVolume.open(real_folder)
    return DemoStudy(ct.image_id, ct, (REAL_NODULE,))


@pytest.fixture(scope="module")
def story(
    real: DemoStudy | None, real_folder: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("loop")
    patients = write_patients(folder / "studies")
    if real_folder is not None:
        (folder / "studies" / "real").symlink_to(real_folder)
    options = ServerOptions(str(folder / "studies"), port=free_port(), conf={"device": "cpu"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(folder / "cache"))
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(folder / "sessions"))
        with running_server(options, timeout_s=240.0) as url:
            client = MONAILabelClient(url, str(folder), READER)
            yield told(client, patients[:-UNREAD], patients[-UNREAD:], real)


def told(
    client: Any, read: list[DemoStudy], unread: list[DemoStudy], real: DemoStudy | None
) -> Story:
    """Correct every study, each by the next way in, the real one by all; train; ask again."""
    before = []
    for n, case in enumerate(read):
        way = n % len(WAYS)
        if way == 0:  # one nodule of each class: those of one segment get the same rating
            case = replace(case, points_lps_mm=case.points_lps_mm[:2])
        read[n] = case
        before.append(correct(client, case, way))
    if real is not None:
        before.append([correct(client, real, way) for way in range(len(WAYS))][-1])
        read = [*read, real]
    stats = train(client)
    return Story(client, read, unread, before, stats, [infer(client, case)[1] for case in read])


def test_a_new_version_is_published_and_answers_without_a_restart(story: Story) -> None:
    assert story.stats["verdict"] == "published", story.stats["reason"]
    assert story.stats["readings"] >= sum(map(len, story.before))
    assert story.stats["skipped"] == []
    assert 0 < story.stats["epoch"] <= story.stats["total_epochs"]
    assert story.stats["total_time"]
    shipped, new = ask(story.client, "/resmtnet/versions")["versions"]
    assert (shipped["served"], new["served"], new["parent"]) == (False, True, shipped["name"])
    assert story.stats["version"] == new["version"] != shipped["version"]
    assert {d["model"]["version"] for d in story.documents} == {new["version"]}


def test_the_corrected_nodules_are_scored_closer_and_measured_on_their_masks(story: Story) -> None:
    was, now = story.errors(*range(len(story.cases)))
    print(f"off by {was} before, {now} after")
    assert now["score"] < 0.95 * was["score"]
    # Not "closer": the told axis is the extent of a mask in whole voxels, and the reader's 10% are
    # learnt only as far as so few patients show them.
    assert now["size"] <= was["size"] + 0.02


@pytest.mark.real_data
def test_the_nodule_of_the_real_ct_is_not_scored_further_from_its_corrections(
    story: Story, real: DemoStudy | None
) -> None:
    if real is None:
        pytest.skip("no LIDC-IDRI data: set RESMTNET_DATA to its folder")
    was, now = story.errors(len(story.cases) - 1)
    print(f"off by {was} before, {now} after")
    assert now["score"] <= was["score"]
    assert now["size"] <= was["size"] + 0.05
    (nodule,) = story.documents[-1]["nodules"]
    assert nodule["class"]["name"] == "malignant"


def test_the_next_study_is_one_that_nobody_has_read_and_goes_to_one_reader(story: Story) -> None:
    def offered(name: str) -> Json:
        return ask(story.client, f"/activelearning/{STRATEGY}", {"client_id": name})

    mine, other = offered(READER), offered("dr-other")
    assert {mine["id"], other["id"]} == {case.image_id for case in story.unread}
    assert mine["active_learning"]["unread"] == UNREAD
    assert offered("dr-third") == {}
    (case,) = (case for case in story.unread if case.image_id == mine["id"])
    correct(story.client, case, len(WAYS) - 1)
    assert offered(READER) == {}
