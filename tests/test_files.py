"""Files and folders appear whole, or not at all."""

import os
import stat
from contextlib import suppress

import pytest

from resmtnet.errors import InputError
from resmtnet.files import atomic_file, atomic_folder


@pytest.mark.parametrize("durable", [False, True])
def test_file_appears_whole_and_alone_in_a_folder_made_for_it(tmp_path, durable):
    path = tmp_path / "new" / "file.json"
    with atomic_file(path, durable=durable) as draft:
        draft.write_text("whole")
        assert draft.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["file.json"]


def test_file_that_fails_half_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("before")
    with suppress(RuntimeError), atomic_file(path) as draft:
        draft.write_text("ha")
        raise RuntimeError
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["file.json"]


def test_file_gets_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    with atomic_file(tmp_path / "file"):
        pass
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "other")}
    assert len(modes) == 1


def test_durable_file_and_its_folder_are_on_the_disk_before_the_block_ends(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(os, "fsync", lambda handle: waited.append(os.fstat(handle).st_mode))
    with atomic_file(tmp_path / "quick", durable=False):
        pass
    assert waited == []
    with atomic_file(tmp_path / "durable"):
        pass
    assert list(map(stat.S_ISDIR, waited)) == [False, True, True]


def test_two_writers_of_one_file_do_not_share_a_draft(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path) as first, atomic_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # whose block ended last


def test_folder_replaces_only_one_of_its_kind(tmp_path):
    place = tmp_path / "model"
    for text in ("old", "new"):
        with atomic_folder(place, "manifest.json") as draft:
            (draft / "manifest.json").write_text(text)
    assert (place / "manifest.json").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").touch()
    with pytest.raises(InputError, match=r"holds no manifest\.json"):
        atomic_folder(tmp_path / "thesis", "manifest.json").__enter__()


def test_folder_that_fails_half_way_leaves_what_was_there(tmp_path):
    place = tmp_path / "model"
    place.mkdir()
    (place / "manifest.json").write_text("old")
    with suppress(RuntimeError), atomic_folder(place, "manifest.json") as draft:
        (draft / "manifest.json").write_text("new")
        raise RuntimeError
    assert (place / "manifest.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


class Journal:
    """What was waited for and renamed, in order."""

    def __init__(self, monkeypatch):
        self.events = []
        really_wait, really_rename = os.fsync, os.replace

        def wait(handle):
            self.events.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
            really_wait(handle)

        def rename(old, new):
            self.events.append(("rename", str(old), str(new)))
            really_rename(old, new)

        monkeypatch.setattr(os, "fsync", wait)
        monkeypatch.setattr(os, "replace", rename)


linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="names of open files: Linux")


@linux
def test_file_is_on_the_disk_before_it_gets_its_name_and_its_folder_after(tmp_path, monkeypatch):
    journal = Journal(monkeypatch)
    with atomic_file(tmp_path / "new" / "file") as draft:
        draft.write_text("whole")
    rename = ("rename", str(draft), str(tmp_path / "new" / "file"))
    at = journal.events.index(rename)
    assert ("fsync", str(tmp_path)) in journal.events[:at]  # the name of the new folder
    assert ("fsync", str(draft)) in journal.events[:at]
    assert ("fsync", str(draft.parent)) in journal.events[at:]


@linux
def test_all_of_a_folder_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    journal = Journal(monkeypatch)
    with atomic_folder(tmp_path / "model", "manifest.json") as draft:
        (draft / "manifest.json").write_text("{}")
        (draft / "inner").mkdir()
        (draft / "inner" / "weights").write_text("w")
    at = journal.events.index(("rename", str(draft), str(tmp_path / "model")))
    waited = {path for kind, path, *_ in journal.events[:at] if kind == "fsync"}
    assert waited >= {str(draft / name) for name in ("manifest.json", "inner", "inner/weights")}
    assert str(draft) in waited
    assert ("fsync", str(tmp_path)) in journal.events[at:]


def test_what_disappeared_with_a_disk_is_not_made_anew(tmp_path):
    gone = tmp_path / "mounted"
    with pytest.raises(FileNotFoundError, match="has disappeared"):
        atomic_file(gone / "answers" / "file", within=gone).__enter__()
    assert not gone.exists()
