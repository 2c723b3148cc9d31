"""What is deleted from the caches and when, and what never is."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from resmtnet.ct.cache import VolumeCache
from resmtnet.ct.phantom import Phantom, write_nifti
from resmtnet.errors import StoreError
from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.retention import DAY_S, series_in, sweep, too_many
from resmtnet.monai_label.settings import AppSettings

NOW_S = time.time()
LATER_S = NOW_S + 31 * DAY_S


def app_of(datastore: Any, read: set[str] | None = None, **settings: Any) -> Any:
    def images() -> set[str]:
        if read is None:
            raise StoreError("the database is gone")
        return read

    return SimpleNamespace(
        shared=SimpleNamespace(settings=AppSettings(**settings)),
        datastore=lambda: datastore,
        inbox=SimpleNamespace(store=SimpleNamespace(images=images)),
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_cached_cts_go_after_the_days_of_the_setting(cache: Path, tmp_path: Path) -> None:
    source = tmp_path / "ct.nii"
    source.write_bytes(b"x" * 100)
    VolumeCache().get(source, lambda: (np.zeros((2, 2, 2), np.int16), {}))
    made = cache / "downloads" / "0123" / "ct.nrrd"
    made.parent.mkdir(parents=True)
    made.touch()
    app = app_of(SimpleNamespace(), set())
    assert sweep(app, NOW_S + 29 * DAY_S) == {}
    assert len(files_in(cache)) == 3
    assert sweep(app, LATER_S) == {"volumes": 1, "downloads": 1}
    assert files_in(cache) == []


def test_nothing_goes_where_the_setting_says_never(cache: Path) -> None:
    made = cache / "downloads" / "0123" / "ct.nrrd"
    made.parent.mkdir(parents=True)
    made.touch()
    assert sweep(app_of(SimpleNamespace(), set(), cache_days=0), LATER_S) == {}
    assert made.exists()


def series(folder: Path, uid: str, age_days: float, n_bytes: int = 10) -> Path:
    (folder / uid).mkdir(parents=True)
    with (folder / uid / "1.dcm").open("wb") as file:
        file.truncate(n_bytes)  # takes no space
    (folder / f"{uid}.nrrd").write_bytes(b"x")
    os.utime(folder / uid, (NOW_S - age_days * DAY_S,) * 2)
    return folder / uid


def test_old_series_of_the_pacs_go_with_their_download_and_labels_stay(
    cache: Path, tmp_path: Path
) -> None:
    old, new = series(tmp_path, "1.2.3", 40), series(tmp_path, "1.2.4", 1)
    label = tmp_path / "labels" / "final" / "1.2.3.nrrd"
    label.parent.mkdir(parents=True)
    label.touch()
    (tmp_path / "datastore_v2.json").touch()
    gone = sweep(app_of(SimpleNamespace(cache_of_pacs=str(tmp_path))), NOW_S)
    assert gone == {"series": 1}
    assert not old.exists()
    assert not old.with_name("1.2.3.nrrd").exists()
    assert new.exists()
    assert label.exists()
    assert (tmp_path / "datastore_v2.json").exists()


def test_of_too_many_series_those_not_used_for_longest_go(tmp_path: Path) -> None:
    for n in range(4):
        series(tmp_path, f"1.2.{n}", age_days=n, n_bytes=400_000_000 - 1)
    found = too_many(series_in(tmp_path), AppSettings(pacs_cache_gb=1), NOW_S)
    assert sorted(kept.paths[0].name for kept in found) == ["1.2.2", "1.2.3"]


@pytest.fixture
def studies(tmp_path: Path, phantom: Phantom) -> StudiesDatastore:
    """With `own`, which lies in the folder, and four uploads."""
    folder = tmp_path / "studies"
    folder.mkdir()
    write_nifti(phantom, folder / "own.nii.gz")
    store = StudiesDatastore(str(folder), auto_reload=False)
    for name in ("read", "labelled", "forgotten", "new"):
        store.add_image(name, str(folder / "own.nii.gz"), {})
    store.save_label("labelled", str(folder / "own.nii.gz"), "final", {})
    for name in ("own", "read", "labelled", "forgotten"):
        store._datastore.objects[name].image.info["ts"] = int(NOW_S - 10 * DAY_S)
    return store


def test_an_upload_goes_if_nobody_has_read_or_labelled_it(
    cache: Path, studies: StudiesDatastore
) -> None:
    assert sweep(app_of(studies, {"read"}), NOW_S) == {}  # the default
    assert sweep(app_of(studies, {"read"}, upload_days=7), NOW_S) == {"uploads": 1}
    assert set(studies.list_images()) == {"own", "read", "labelled", "new"}


def test_without_the_readings_no_upload_goes(cache: Path, studies: StudiesDatastore) -> None:
    assert sweep(app_of(studies, None, upload_days=7), NOW_S) == {}
    assert len(studies.list_images()) == 5


def test_downloads_that_a_killed_server_has_left_go_after_a_day(
    cache: Path, tmp_path: Path
) -> None:
    part = tmp_path / "pacs" / ".download-abc"
    part.mkdir(parents=True)
    (part / "1.dcm").write_bytes(b"half a series")
    app = app_of(SimpleNamespace(cache_of_pacs=str(part.parent)), set())
    assert sweep(app, NOW_S + DAY_S / 2) == {}
    assert sweep(app, NOW_S + 2 * DAY_S) == {"unfinished downloads": 1}
    assert not part.exists()
