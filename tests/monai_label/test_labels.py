"""What readers send becomes readings, whichever way it comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest

from resmtnet.ct import CTVolume
from resmtnet.errors import ReadingError, StoreError
from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.infer import SharedCharacterizer, make_tasks
from resmtnet.monai_label.labels import Submissions, _saved_label
from resmtnet.monai_label.served_model import ServedModel
from resmtnet.monai_label.settings import AppSettings
from resmtnet.readings.formats.label_map import read_label_map
from resmtnet.readings.patients import pseudonym

LABEL_INFO = [
    {"name": name, "idx": n}
    for n, name in enumerate(("benign", "malignant", "indeterminate"), start=1)
]
POINTS = [[7, 7, 4], [17, 13, 8]]


class Site:
    """A server's parts, without the server."""

    def __init__(self, studies: Path, served: ServedModel) -> None:
        self.folder = studies
        self.datastore = StudiesDatastore(str(studies), auto_reload=False)
        shared = SharedCharacterizer(served, AppSettings())
        self.database = studies / "resmtnet" / "readings.sqlite"
        self.submissions = Submissions(self.database, lambda: self.datastore, shared.open)
        self.inbox = self.submissions.inbox
        shared.on_answer = self.submissions.remember
        self._tasks = make_tasks(shared)

    def ask(
        self, model: str = "resmtnet_click", client: str | None = "ann", image: str = "ct"
    ) -> Path:
        """The file of an answer for both points."""
        path = self.datastore.volume_path(image)
        asked = {"image": path, "image_id": image, "client_id": client, "foreground": POINTS}
        return Path(self._tasks[model](asked)[0])

    def send(self, file: Path, image: str = "ct", tag: str = "final", **params: Any) -> Any:
        """The reply to a label."""
        label_id = self.datastore.save_label(image, str(file), tag, params)
        reply = self.submissions.on_save_label(image, label_id)
        json.dumps(reply, allow_nan=False)
        return reply


@pytest.fixture
def site(tmp_path: Path, served: ServedModel, write_image: Any, write_series: Any) -> Site:
    write_image(tmp_path / "studies" / "ct.nrrd")
    write_series(tmp_path / "studies" / "patient", uid="1.2.3")
    return Site(tmp_path / "studies", served)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(document: object, name: str = "label.json") -> Path:
        path = tmp_path / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    return write


def edited(file: Path, **renamed: str) -> Path:
    """A markups file with points renamed, by the name they begin with."""
    document = json.loads(file.read_text())
    for point in document["markups"][0]["controlPoints"]:
        point["label"] = renamed.get(point["label"].split()[0], point["label"])
    file.write_text(json.dumps(document))
    return file


def test_a_renamed_segment_is_a_reading_that_answers_what_the_reader_saw(site: Site) -> None:
    info = [LABEL_INFO[0], {"name": "benign", "idx": 2}, LABEL_INFO[2]]
    reply = site.send(site.ask(), label_info=info, client_id="ann")
    assert reply["understood"] == ["N1: benign"]
    assert reply["warnings"] == [
        "N2: as the model answered; nothing is recorded. If you agree, add the word 'accept' to "
        "the name"
    ]
    readings = site.inbox.store.readings("ct")
    (first,) = [r for r in readings if r.answered and r.answered.finding["id"] == "N1"]
    assert first.reader == "ann"
    assert first.source == "mask"
    assert first.class_name == "benign"
    assert first.answered is not None
    assert first.answered.seen is True
    assert first.answered.model_version == "0"
    assert first.answered.finding["class"]["name"] == "malignant"
    assert not first.sizes
    assert first.mask is None


def test_an_edited_mask_is_kept_alone_on_its_voxels(site: Site, read_array: Any) -> None:
    file = site.ask()
    voxels, image = read_array(file)
    voxels = voxels.copy()
    voxels[3:7, 4:12, 3:12] = 2
    changed = itk.image_from_array(voxels)
    changed.CopyInformation(image)
    itk.imwrite(changed, str(file))
    reply = site.send(file, label_info=LABEL_INFO, client_id="ann")
    (reading,) = [r for r in site.inbox.store.readings("ct") if r.mask]
    assert reading.mask is not None
    kept = read_label_map(site.inbox.store.masks / reading.mask.file)
    assert kept.mask.sum() == (voxels == 2).sum()
    assert set(np.unique(kept.mask)) <= {0, 1}
    ct = CTVolume.open(Path(site.datastore.volume_path("ct")))
    start = ct.geometry.lps_to_ijk(kept.geometry.origin_lps_mm)
    assert start == pytest.approx(np.rint(start), abs=1e-3)
    assert reading.sizes["volume_mm3"] == pytest.approx((voxels == 2).sum() * 0.8 * 0.9 * 2.0)
    assert "long axis" in " ".join(reply["understood"])


def test_markups_and_documents_give_the_same_record(site: Site, write: Any) -> None:
    markups = edited(site.ask("resmtnet_findings"), N1="N1 benign malignancy=2")
    site.send(markups, client_id="ann")
    centre = json.loads(markups.read_text())["markups"][0]["controlPoints"][0]["position"]
    document = {"centre_lps_mm": centre, "class": "benign", "malignancy": 2}
    site.send(write([document]), client_id="bob")
    site.inbox.add_document({**document, "image": "ct", "reader": "cyd"})
    same = [r for r in site.inbox.store.readings("ct") if r.malignancy == 2]
    assert [(r.reader, r.source) for r in same] == [
        ("ann", "markups"),
        ("bob", "label"),
        ("cyd", "rest"),
    ]
    assert len({reading.nodule for reading in same}) == 1
    assert len({(r.class_name, r.centre_lps_mm) for r in same}) == 1
    assert all(r.answered and r.answered.finding["id"] == "N1" for r in same)
    assert [r.answered.seen for r in same if r.answered] == [True, None, None]


def test_the_line_and_box_that_slicer_sends_back_are_no_sizes(site: Site) -> None:
    reply = site.send(site.ask("resmtnet_findings"), client_id="ann")
    assert reply["understood"] == []
    assert reply["not_understood"] == []
    assert reply["warnings"][0].startswith("N1, N2: as the model answered")


def test_agreement_is_recorded_where_the_reader_says_so(site: Site) -> None:
    file = edited(site.ask("resmtnet_findings"), N1="N1 malignant 83% accept")
    reply = site.send(file, client_id="ann")
    assert reply["understood"] == ["N1: malignant"]
    (reading,) = site.inbox.store.readings("ct")
    assert (reading.acceptance, reading.comment, dict(reading.sizes)) == ("single", "", {})


def test_a_restart_remembers_what_the_reader_saw(site: Site, served: ServedModel) -> None:
    file = edited(site.ask("resmtnet_findings"), N1="N1 benign")
    reply = Site(site.folder, served).send(file, client_id="ann")
    assert "N1: benign" in reply["understood"]


def test_what_was_left_as_it_is_does_not_undo_an_earlier_correction(site: Site) -> None:
    site.send(edited(site.ask("resmtnet_findings"), N1="N1 benign"), client_id="ann")
    reply = site.send(site.ask(), label_info=LABEL_INFO, client_id="ann")
    assert reply["readings"] == []
    assert any("nothing is recorded" in text for text in reply["warnings"])
    standing = {r.class_name for r in site.inbox.store.readings("ct") if r.reader == "ann"}
    assert standing == {"benign"}


@pytest.mark.parametrize(
    ("params", "reader"),
    [
        ({"client_id": "ann"}, "ann"),
        ({"client_id": "station-7", "reader": "dr-b"}, "dr-b"),
        ({"client_id": None}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_the_reader_is_named_by_the_request(
    site: Site, write: Any, params: Any, reader: str
) -> None:
    document = {"centre_lps_mm": [-24.0, 18.0, -92.0], "class": "benign"}
    (reading,) = site.send(write(document), **params)["readings"]
    assert reading["reader"] == reader


def test_the_patient_of_a_series_is_known_by_a_pseudonym(site: Site) -> None:
    place = {"reader": "ann", "centre_lps_mm": [-24.0, 18.0, -92.0], "class": "benign"}
    assert site.inbox.add_document({**place, "image": "1.2.3"}).study_patient == pseudonym("P1")
    assert site.inbox.add_document({**place, "image": "ct"}).study_patient is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not valid JSON"),
        ("[" * 100000, "not valid JSON"),
        ('{"schema": "other/1"}', "schema"),
        ('{"class": "bad", "centre_lps_mm": [-24, 18, -92]}', "class"),
        ('{"image": "other", "centre_lps_mm": [-24, 18, -92]}', "image"),
        ('{"centre_lps_mm": [24, -18, -92], "class": "benign"}', "outside the CT"),
        ('{"nodule": "abc", "class": "benign"}', "nodule"),
        ("7", "resmtnet.reading/1"),
        ('{"markups": 3}', "markups"),
    ],
)
def test_a_bad_document_is_saved_and_the_reply_says_what_is_wrong(
    site: Site, write: Any, content: str, told: str
) -> None:
    reply = site.send(write(content))
    assert reply["readings"] == []
    assert told in reply["not_understood"][0]["what"] + reply["not_understood"][0]["why"]
    assert Path(site.datastore.get_label_uri("ct", "final")).read_text() == content


def test_the_good_ones_of_several_documents_are_kept(site: Site, write: Any) -> None:
    place = [-24.0, 18.0, -92.0]
    documents = [
        {"centre_lps_mm": place, "class": "bad"},
        {"centre_lps_mm": place, "class": "benign"},
        {"nodule": "unknown", "class": "benign"},
    ]
    reply = site.send(write(documents))
    assert reply["understood"] == ["benign"]
    assert len(reply["not_understood"]) == 2


def test_the_wrong_one_of_several_readings_keeps_no_other_out(site: Site, write: Any) -> None:
    """Two near nodules stay two, whatever else is wrong with the label."""
    near = [[-24.0, 18.0, -92.0], [-21.0, 18.0, -92.0]]
    documents = [
        {"centre_lps_mm": near[0], "class": "benign"},
        {"nodule": "of another image", "malignancy": 3},
        {"centre_lps_mm": near[1], "class": "malignant"},
        {"centre_lps_mm": near[0], "mask": {"file": "none.nrrd", "sha256": "0"}},
    ]
    reply = site.send(write(documents), client_id="ann")
    assert len(reply["readings"]) == 2
    assert [problem["why"].split()[0] for problem in reply["not_understood"]] == ["nodule", "mask"]
    kept = site.inbox.store.readings("ct")
    assert [reading.class_name for reading in kept] == ["benign", "malignant"]
    assert kept[0].nodule != kept[1].nodule


def test_a_label_of_too_many_documents_is_saved_and_not_read(site: Site, write: Any) -> None:
    document = {"centre_lps_mm": [-24.0, 18.0, -92.0], "class": "benign"}
    reply = site.send(write([document] * 201))
    assert reply["readings"] == []
    assert "201 readings; at most 200" in reply["not_understood"][0]["why"]


@pytest.mark.parametrize(
    ("name", "field"),
    [("N1 benign; " + "x" * 10_001, "comment"), ("N1 benign long_axis_mm=0.0001", "size")],
)
def test_a_nodule_that_is_no_reading_keeps_no_other_of_the_file_out(
    site: Site, name: str, field: str
) -> None:
    reply = site.send(edited(site.ask("resmtnet_findings"), N1=name), client_id="ann")
    assert reply["understood"] == []
    (problem,) = reply["not_understood"]
    assert problem["what"] == "N1"
    assert field in problem["why"]


def test_what_was_said_earlier_and_is_not_said_again_goes_on_holding(site: Site) -> None:
    place = {"reader": "ann", "image": "ct", "centre_lps_mm": [-24.0, 18.0, -92.0]}
    site.inbox.add_document({**place, "size": {"long_axis_mm": 9.0}})
    site.inbox.add_document({**place, "class": "malignant"})
    (standing,) = site.inbox.store.readings("ct")
    assert (standing.class_name, standing.sizes) == ("malignant", {"long_axis_mm": 9.0})


def test_every_way_in_tells_how_many_readings_there_are(site: Site, write: Any) -> None:
    counts: list[int] = []
    site.inbox.on_kept = counts.append
    document = {"reader": "ann", "centre_lps_mm": [-24.0, 18.0, -92.0], "class": "benign"}
    site.inbox.add_document({**document, "image": "ct"})
    site.send(write(document))
    assert counts == [1, 2]


@pytest.mark.parametrize("name", ["mask.nrrd", "mask.nii.gz", "mask.bin"])
def test_a_damaged_mask_is_saved_and_the_reply_says_so(site: Site, write: Any, name: str) -> None:
    reply = site.send(write("NRRD0004\n", name), label_info=LABEL_INFO)
    assert reply["readings"] == []
    assert "is saved, but not read" in reply["not_understood"][0]["why"]


def test_a_mask_of_another_image_is_not_read(site: Site, tmp_path: Path) -> None:
    far = itk.image_from_array(np.pad(np.ones((4, 8, 8), np.uint8), 2))
    far.SetOrigin((500.0, 500.0, 500.0))
    itk.imwrite(far, str(tmp_path / "far.nrrd"))
    reply = site.send(tmp_path / "far.nrrd", label_info=LABEL_INFO)
    assert reply["readings"] == []
    assert "outside the CT" in reply["not_understood"][0]["why"]


def test_labels_of_the_model_are_no_readings(site: Site) -> None:
    reply = site.send(site.ask(), tag="original", label_info=LABEL_INFO)
    assert reply["readings"] == []
    assert site.inbox.store.count() == 0


def test_a_mask_without_label_info_is_read_as_the_app_writes_it(site: Site) -> None:
    reply = site.send(site.ask(), client_id="ann")
    assert reply["understood"] == []
    assert "label_info" in reply["warnings"][0]
    assert reply["warnings"][1].startswith("N2, N1: as the model answered")


def test_a_database_that_cannot_be_opened_keeps_no_label_from_being_saved(
    site: Site, write: Any
) -> None:
    site.database.parent.mkdir()
    site.database.write_text("something else")
    place = {"centre_lps_mm": [-24.0, 18.0, -92.0], "class": "benign"}
    reply = site.send(write(place))
    assert str(site.database.name) in reply["not_understood"][0]["why"]
    with pytest.raises(StoreError):
        site.inbox.add_document({**place, "image": "ct", "reader": "ann"})
    assert site.database.read_text() == "something else"


def test_a_document_sent_again_under_its_id_is_the_same_reading(site: Site) -> None:
    place = {"reader": "ann", "image": "ct", "id": "one", "class": "benign"}
    document = {**place, "centre_lps_mm": [-24.0, 18.0, -92.0]}
    first = site.inbox.add_document(document)
    site.ask()
    assert site.inbox.add_document(document) == first
    assert site.inbox.store.count() == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image": "none"}, "image"),
        ({"image": "../x"}, "image"),
        ({"centre_lps_mm": [900, 0, 0]}, "centre_lps_mm"),
        ({"reader": ""}, "reader"),
        ({"reader": None}, "reader"),
        ({"mask": {"file": "../x", "sha256": "0"}}, "mask"),
    ],
)
def test_a_document_that_does_not_fit_its_image_is_refused_by_its_field(
    site: Site, changes: Any, field: str
) -> None:
    document = {"reader": "ann", "image": "ct", "centre_lps_mm": [-24.0, 18.0, -92.0]}
    with pytest.raises(ReadingError) as caught:
        site.inbox.add_document(document | changes)
    assert caught.value.field == field
    assert site.inbox.store.count() == 0


def test_an_answer_for_no_image_of_the_studies_is_not_remembered(site: Site) -> None:
    site.ask(image="ct").unlink()
    path = site.datastore.volume_path("ct")
    site._tasks["resmtnet_click"]({"image": path, "image_id": "", "foreground": POINTS})
    assert len(list((site.database.parent / "answers").rglob("*.npz"))) == 1


def test_an_answer_for_an_image_that_was_replaced_is_not_corrected(
    site: Site, write: Any, read_array: Any
) -> None:
    document = {"centre_lps_mm": [-24.0, 18.0, -92.0], "class": "benign"}
    site.ask()
    site.send(write(document), client_id="ann")
    file = site.folder / "ct.nrrd"
    voxels, image = read_array(file)
    other = itk.image_from_array(voxels + 1)
    other.CopyInformation(image)
    itk.imwrite(other, str(file))
    site.send(write({**document, "malignancy": 2}), client_id="bob")
    before, after = site.inbox.store.readings("ct")
    assert (before.reader, before.answered is None) == ("ann", False)
    assert (after.reader, after.answered) == ("bob", None)


def test_what_a_client_says_of_a_label_in_another_kind_counts_as_not_said() -> None:
    said = {"label_info": 7, "reader": ["x"], "client_id": 5, "user": ""}
    label = _saved_label("ct", Path("a.nrrd"), said)
    assert (label.reader, label.client, label.segments) == ("unknown", None, [])
    label = _saved_label("ct", Path("a.nrrd"), {"label_info": [1, {"name": "N1"}], "user": "ann"})
    assert (label.reader, label.client, label.segments) == ("ann", None, [{"name": "N1"}])
