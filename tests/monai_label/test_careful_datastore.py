"""No label is lost: not to a damaged list, a full disk, a read-only folder or one that is gone."""

import errno
import json
import os
import shutil
import subprocess
from contextlib import suppress

import pytest

from resmtnet.errors import ConfigError, StoreError
from resmtnet.monai_label import careful_datastore as module
from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.studies import studies_datastore
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.location import database_in
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore

LIST = "datastore_v2.json"
DAMAGE = {
    "empty": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "halved": lambda content: content[: len(content) // 2],
    "deleted": None,
}


@pytest.fixture
def studies(tmp_path):
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.nii.gz").write_bytes(b"ct")
    return folder


@pytest.fixture
def label(tmp_path):
    def write(text, name="label.json"):
        path = tmp_path / name
        path.write_text(json.dumps(text))
        return str(path)

    return write


def opened(studies, **named):
    return StudiesDatastore(str(studies), auto_reload=False, **named)


def damage(path, kind):
    if DAMAGE[kind] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGE[kind](path.read_bytes()))


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("previous", ["kept", "deleted", "damaged too"])
def test_server_starts_with_every_label_whatever_became_of_its_list(studies, label, kind, previous):
    store = opened(studies)
    store.save_label("one", label("markups"), "final", {"reader": "ann"})
    store.save_label("two", label("mask", "label.nrrd"), "final", {})
    damage(studies / LIST, kind)
    before = studies / "datastore_v2.previous.json"
    if previous == "deleted":
        before.unlink()
    elif previous == "damaged too":
        before.write_bytes(b"{")
    again = opened(studies)
    assert sorted(again.get_labeled_images()) == ["one", "two"]
    with open(again.get_label_uri("one", "final")) as file:
        assert json.load(file) == "markups"
    assert sorted(opened(studies).get_labeled_images()) == ["one", "two"]
    assert len([*studies.glob("*damaged*")]) == (kind != "deleted")


def test_what_was_known_of_a_label_comes_from_the_list_before(studies, label):
    store = opened(studies)
    store.save_label("one", label("markups"), "final", {"reader": "ann", "device": "x"})
    store.save_label("two", label("markups"), "final", {})
    damage(studies / LIST, "halved")
    assert opened(studies).get_label_info("one", "final")["device"] == "x"


def test_reader_of_a_label_comes_from_the_readings_where_both_lists_are_lost(studies, label):
    inbox = Inbox(database_in(studies), None)
    store = studies_datastore(str(studies), inbox)
    store.save_label("one", label("markups"), "final", {"reader": "ann"})
    inbox.store.add(
        Reading(
            image="one",
            reader="ann",
            centre_lps_mm=(0.0, 0.0, 0.0),
            malignancy=3,
            source="markups",
        )
    )
    for file in studies.glob("datastore_v2*"):
        file.unlink()
    assert opened(studies, reader_of=lambda image: "ann").get_label_info("one", "final")["reader"]
    again = studies_datastore(str(studies), inbox)
    assert again.get_label_info("one", "final")["reader"] == "ann"


def test_failing_save_leaves_the_earlier_label_and_says_that_the_disk_is_full(
    studies, label, monkeypatch
):
    store = opened(studies)
    store.save_label("one", label("first"), "final", {"by": "first"})
    path = store.get_label_uri("one", "final")

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name in ((module.shutil, "copyfile"), (StudiesDatastore, "_write_list")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(Refusal, match="disk is full") as refused:
                store.save_label("one", label("second"), "final", {"by": "second"})
        assert refused.value.status_code == 507
        with open(path) as file:
            assert json.load(file) == "first"
        for one in (store, opened(studies)):
            assert one.get_label_info("one", "final")["by"] == "first"
        assert os.listdir(studies / "labels" / "final") == ["one.json"]


def test_label_that_was_not_there_before_is_not_there_after_a_failing_save(
    studies, label, monkeypatch
):
    store = opened(studies)

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StudiesDatastore, "_write_list", full)
    with pytest.raises(Refusal):
        store.save_label("one", label("first"), "final", {})
    assert store.get_labeled_images() == []
    assert os.listdir(studies / "labels" / "final") == []


def mounted(place, size="2m"):
    """Mount a real small file system; the test is skipped where that is not allowed."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here: that needs root")


@pytest.fixture
def disk(tmp_path):
    place = tmp_path / "disk"
    mounted(place)
    yield place
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def fill(place):
    with suppress(OSError), open(place / "filling", "wb", buffering=0) as file:
        for size in (1_000_000, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass


def test_on_a_disk_that_is_really_full_the_server_starts_and_keeps_every_label(disk, label):
    (disk / "one.nii.gz").write_bytes(b"ct")
    (disk / "two.nii.gz").write_bytes(b"ct")
    store = opened(disk)
    store.save_label("one", label("first"), "final", {})
    fill(disk)
    with pytest.raises(Refusal) as refused:
        store.save_label("one", label("second" * 3000), "final", {})
    assert refused.value.status_code == 507
    again = opened(disk)
    assert again.get_labeled_images() == ["one"]
    with open(again.get_label_uri("one", "final")) as file:
        assert json.load(file) == "first"
    (disk / "filling").unlink()
    again.save_label("two", label("later"), "final", {})
    assert sorted(opened(disk).get_labeled_images()) == ["one", "two"]


def test_a_disk_that_disappears_stops_writes_and_nothing_lands_below_it(disk, label):
    (disk / "one.nii.gz").write_bytes(b"ct")
    store = opened(disk)
    readings = ReadingStore.open(database_in(disk))
    subprocess.run(["umount", "-l", str(disk)], check=True)
    with pytest.raises(Refusal, match="has disappeared") as refused:
        store.save_label("one", label("lost?"), "final", {})
    assert refused.value.status_code == 503
    store.refresh()
    assert store.list_images() == ["one"]
    with pytest.raises(StoreError, match="has disappeared"):
        readings.add(Reading(image="one", reader="ann", centre_lps_mm=(0, 0, 0), malignancy=3))
    with pytest.raises(StoreError, match="has disappeared"):
        readings.count()
    assert os.listdir(disk) == []


def test_a_folder_that_is_deleted_stops_writes_and_is_not_made_anew(studies, label):
    store = opened(studies)
    shutil.rmtree(studies)
    with pytest.raises(Refusal, match="has disappeared"):
        store.save_label("one", label("lost?"), "final", {})
    store.refresh()
    assert not studies.exists()


def test_read_only_studies_keep_list_and_labels_beside_a_database_elsewhere(disk, tmp_path, label):
    (disk / "one.nii.gz").write_bytes(b"ct")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    elsewhere = tmp_path / "site" / "readings.sqlite"
    store = studies_datastore(str(disk), Inbox(elsewhere, None))
    assert store.list_images() == ["one"]
    store.save_label("one", label("kept"), "final", {})
    again = opened(disk, beside=elsewhere.parent)
    with open(again.get_label_uri("one", "final")) as file:
        assert json.load(file) == "kept"
    assert os.listdir(disk) == ["one.nii.gz"]
    with pytest.raises(ConfigError, match="--conf readings"):
        opened(disk, beside=database_in(disk).parent)
