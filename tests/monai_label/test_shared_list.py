"""The list of images and labels: what one process saves, no other undoes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monailabel.datastore.local import DataModel

from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.shared_list import merged

Opened = Callable[[], StudiesDatastore]


@pytest.fixture
def studies(tmp_path: Path, write_image: Any) -> Path:
    folder = tmp_path / "studies"
    for name in ("a", "b"):
        write_image(folder / f"{name}.nrrd")
    return folder


@pytest.fixture
def opened(studies: Path) -> Opened:
    """A datastore with a memory of its own, as another process has."""
    return lambda: StudiesDatastore(str(studies), auto_reload=False)


@pytest.fixture
def label(tmp_path: Path) -> str:
    path = tmp_path / "label.nrrd"
    path.write_bytes(b"voxels")
    return str(path)


def test_what_another_process_writes_back_does_not_erase_a_label(
    opened: Opened, label: str
) -> None:
    server, training = opened(), opened()
    server.save_label("a", label, "final", {"by": "ann"})
    training.set_description("as it was when the training began")
    training.update_image_info("b", {"seen": True})
    for store in (server, opened()):
        store.refresh()
        assert store.get_label_info("a", "final")["by"] == "ann"
        assert store.get_image_info("b")["seen"] is True


def test_a_label_that_is_saved_while_a_training_starts_is_kept(
    opened: Opened, label: str, studies: Path, write_image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = opened()
    write_image(studies / "c.nrrd")  # the training process finds it, and writes the list
    plain, calls = StudiesDatastore._remove_non_existing, []

    def meanwhile(store: StudiesDatastore) -> int:
        found = plain(store)
        calls.append(found)
        if len(calls) == 2:  # it has read the list for the last time
            server.save_label("a", label, "final", {"by": "ann"})
        return found

    monkeypatch.setattr(StudiesDatastore, "_remove_non_existing", meanwhile)
    training = opened()
    monkeypatch.undo()
    assert training.get_label_info("a", "final")["by"] == "ann"
    last = opened()
    assert last.get_label_info("a", "final")["by"] == "ann"
    assert "c" in last.list_images()


def test_processes_that_save_at_once_lose_nothing(opened: Opened, label: str) -> None:
    stores = [opened() for _ in range(4)]

    def save(n: int) -> None:
        for turn in range(5):
            stores[n].save_label("ab"[n % 2], label, f"tag{n}-{turn}", {"by": n})

    threads = [threading.Thread(target=save, args=(n,)) for n in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = opened()
    for n in range(len(stores)):
        for turn in range(5):
            assert last.get_label_info("ab"[n % 2], f"tag{n}-{turn}")["by"] == n


def test_of_one_label_that_two_save_the_last_word_and_the_last_file_hold(
    opened: Opened, tmp_path: Path
) -> None:
    one, other = opened(), opened()
    for store, text in ((one, "one"), (other, "other")):
        path = tmp_path / f"{text}.nrrd"
        path.write_text(text)
        store.save_label("a", str(path), "final", {"by": text})
    last = opened()
    assert last.get_label_info("a", "final")["by"] == "other"
    assert Path(last.get_label_uri("a", "final")).read_text() == "other"


def test_what_was_removed_stays_removed(opened: Opened, label: str) -> None:
    opened().save_label("a", label, "final", {})
    server, training = opened(), opened()
    server.remove_label("a", "final")
    training.update_image_info("b", {"seen": True})
    assert opened().get_labels_by_image_id("a") == {}


def test_a_list_that_is_damaged_while_the_server_runs_is_written_anew(
    opened: Opened, label: str, studies: Path
) -> None:
    server = opened()
    (studies / "datastore_v2.json").write_text("{")
    server.save_label("a", label, "final", {"by": "ann"})
    assert json.loads((studies / "datastore_v2.json").read_text())["objects"]["a"]["labels"]
    (studies / "datastore_v2.json").write_text("{")
    assert opened().get_label_info("a", "final")["name"] == "a.nrrd"
    assert len([*studies.glob("datastore_v2.damaged-*.json")])


@pytest.mark.parametrize(
    ("agreed", "mine", "theirs", "mine_first", "held"),
    [
        ("", "m", "", False, "m"),  # added here
        ("", "", "t", True, "t"),  # added there
        ("a", "m", "a", False, "m"),  # changed here
        ("a", "a", "t", True, "t"),  # changed there
        ("a", "", "a", False, ""),  # removed here
        ("a", "a", "", True, ""),  # removed there
        ("a", "m", "t", True, "m"),
        ("a", "m", "t", False, "t"),
    ],
)
def test_both_sides_changes_hold(
    agreed: str, mine: str, theirs: str, mine_first: bool, held: str
) -> None:
    def entries(text: str) -> Any:
        return {("a", None): DataModel(ext=text)} if text else {}

    assert merged(*map(entries, (agreed, mine, theirs)), mine_first) == entries(held)
