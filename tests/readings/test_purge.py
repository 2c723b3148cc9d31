"""A purge deletes what readers said of one patient, and leaves the order of arrival whole."""

import json
import sqlite3

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from resmtnet.cli import run
from resmtnet.readings.answer_log import AnswerLog
from resmtnet.readings.patients import pseudonym
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore

SECRET = "remarkable finding of Mr X"


@pytest.fixture
def studies(tmp_path, monkeypatch):
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache" / "volumes").mkdir(parents=True)
    (tmp_path / "cache" / "volumes" / "ct.npy").touch()
    folder = tmp_path / "studies"
    mask = tmp_path / "mask.nrrd"
    with ReadingStore.open(folder / "resmtnet" / "readings.sqlite") as store:
        for n, patient in enumerate(("P1", "P2", "P1")):
            mask.write_text(f"mask {n}")
            store.add(
                Reading(
                    image=f"ct{n}",
                    reader="ann",
                    centre_lps_mm=(0.0, 0.0, 0.0),
                    malignancy=3,
                    comment=SECRET if patient == "P1" else "ordinary",
                    study_patient=pseudonym(patient),
                    mask=store.keep_mask(mask),
                )
            )
    labels = folder / "labels" / "final"
    labels.mkdir(parents=True)
    for n in range(3):
        (labels / f"ct{n}.nrrd").touch()
        answers = AnswerLog(folder / "resmtnet" / "answers")._folder_of(f"ct{n}")
        answers.mkdir(parents=True)
        (answers / "1.npz").touch()
    return folder


def purge(studies, *options):
    assert run(["purge", "--studies", str(studies), "--patient", "P1", *options]) == 0


def bytes_of(studies):
    return b"".join(file.read_bytes() for file in studies.rglob("*") if file.is_file())


def test_nothing_of_the_patient_is_left_and_all_of_the_others(studies, tmp_path):
    assert SECRET.encode() in bytes_of(studies)
    purge(studies)
    assert SECRET.encode() not in bytes_of(studies)
    with ReadingStore.open(studies / "resmtnet" / "readings.sqlite") as store:
        assert [(r.image, r.comment) for r in store.readings(every=True)] == [("ct1", "ordinary")]
        assert [mask.read_text() for mask in store.masks.iterdir()] == ["mask 1"]
        assert store.problems() == []
        assert store.revision() == 3
        new = store.add(
            Reading(image="ct1", reader="ben", centre_lps_mm=(0.0, 0.0, 0.0), malignancy=2)
        )
        assert [kept.sequence for kept in store.kept(every=True)] == [2, 4]
        assert new.nodule == store.readings("ct1")[0].nodule
    assert [file.name for file in (studies / "labels" / "final").iterdir()] == ["ct1.nrrd"]
    assert len([*(studies / "resmtnet" / "answers").iterdir()]) == 1
    assert not (tmp_path / "cache" / "volumes").exists()


def test_copies_of_a_pacs_go_too(tmp_path, monkeypatch):
    """The CT in the cache, its download, its label, and its lines in MONAI Label's lists."""
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "dicom"))
    monkeypatch.setenv("RESMTNET_APP_DIR", str(tmp_path / "app"))
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").touch()
    cache = tmp_path / "dicom" / "0123"
    (cache / "labels" / "final").mkdir(parents=True)
    for uid in ("1.2.1", "1.2.2", "1.2.3"):
        (cache / uid).mkdir()
        (cache / f"{uid}.nrrd").touch()
        (cache / "labels" / "final" / f"{uid}.nrrd").touch()
    entries = {f"1.2.{n}": {"image": {"info": {"PatientID": f"P{n}"}}} for n in (1, 2, 3)}
    for entry in entries.values():
        entry["labels"] = {"final": {"info": {}}}
    for name in ("datastore_v2.json", "datastore_v2.previous.json"):
        (cache / name).write_text(json.dumps({"objects": entries}))
    with ReadingStore.open(tmp_path / "app" / "resmtnet" / "readings.sqlite") as store:
        for n, patient in ((1, "P1"), (2, "P2")):
            reading = Reading(
                image=f"1.2.{n}",
                reader="ann",
                centre_lps_mm=(0.0, 0.0, 0.0),
                malignancy=3,
                study_patient=pseudonym(patient),
            )
            store.add(reading)
    for n in (1, 2):  # what a server that was killed has left
        part = cache / f".download-{n}"
        part.mkdir()
        slice_of = Dataset()
        slice_of.SOPClassUID, slice_of.SeriesInstanceUID = CTImageStorage, f"1.2.{n}"
        slice_of.PixelData = bytes(200)
        slice_of.is_little_endian, slice_of.is_implicit_VR = True, True
        slice_of.save_as(part / "1.dcm")
    url = "http://127.0.0.1:1/dicom-web"
    assert run(["purge", "--studies", url, "--patient", "P1", "--dry-run"]) == 0
    assert (cache / "1.2.1").is_dir()
    assert run(["purge", "--studies", url, "--patient", "P1"]) == 0
    names = sorted(path.name for path in cache.rglob("*") if "1.2." in path.name)
    assert names == ["1.2.2", "1.2.2.nrrd", "1.2.2.nrrd", "1.2.3", "1.2.3.nrrd", "1.2.3.nrrd"]
    assert [path.name for path in cache.glob(".download-*")] == [".download-2"]
    for name in ("datastore_v2.json", "datastore_v2.previous.json"):
        assert "P1" not in (cache / name).read_text()
        assert set(json.loads((cache / name).read_text())["objects"]) == {"1.2.2", "1.2.3"}
    (line,) = (tmp_path / "app" / "resmtnet" / "audit.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["event"], told["readings"], told["series"]) == ("patient purged", 1, 3)
    assert "P1" not in line


def test_a_label_is_forgotten_in_the_list_and_the_image_stays(studies):
    entry = {"image": {"info": {}}, "labels": {"final": {"info": {"reader": "ann"}}}}
    listed = studies / "datastore_v2.json"
    listed.write_text(json.dumps({"objects": {"ct0": entry, "ct1": entry}}))
    names = studies / "resmtnet" / "upload_names.json"
    names.write_text(json.dumps({"ann\nMr X 1.0": "ct0", "ann\n4: LUNG": "ct1"}))
    purge(studies)
    assert json.loads(names.read_text()) == {"ann\n4: LUNG": "ct1"}
    objects = json.loads(listed.read_text())["objects"]
    assert (objects["ct0"]["labels"], objects["ct1"]) == ({}, entry)


def test_dry_run_deletes_nothing_and_says_how_much_it_would(studies, capsys):
    before = bytes_of(studies)
    purge(studies, "--dry-run", "--json")
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["readings"], said["masks"]) == (["ct0", "ct2"], 2, 2)
    assert said["labels"] == 2
    assert SECRET.encode() in bytes_of(studies)
    assert len(bytes_of(studies)) >= len(before)


def test_reading_that_is_deleted_without_a_tombstone_is_told(studies):
    purge(studies)
    path = studies / "resmtnet" / "readings.sqlite"
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("DELETE FROM readings")
    connection.execute("DROP TRIGGER readings_delete")
    connection.execute("DELETE FROM readings")
    connection.commit()
    connection.close()
    with ReadingStore.open(path) as store:
        assert store.problems() == ["reading 2 is missing, and no purge has deleted it"]


def test_labels_of_studies_that_cannot_be_written_go_too(tmp_path, monkeypatch, studies):
    """They lie beside the database, as do their lines in MONAI Label's list."""
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "none"))
    database = studies / "resmtnet" / "readings.sqlite"
    beside = database.parent / "labels-0123abcd"
    (beside / "labels" / "final").mkdir(parents=True)
    for n in range(2):
        (beside / "labels" / "final" / f"ct{n}.nrrd").touch()
    entry = {"image": {"info": {}}, "labels": {"final": {"info": {"reader": "ann"}}}}
    (beside / "datastore_v2.json").write_text(json.dumps({"objects": {"ct0": entry, "ct1": entry}}))
    assert run(["purge", "--readings", str(database), "--patient", "P1"]) == 0
    assert [file.name for file in (beside / "labels" / "final").iterdir()] == ["ct1.nrrd"]
    objects = json.loads((beside / "datastore_v2.json").read_text())["objects"]
    assert (objects["ct0"]["labels"], objects["ct1"]) == ({}, entry)
