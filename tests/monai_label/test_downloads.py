"""Downloads of a PACS: who waits for whom, with a client that answers when the test says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from resmtnet.monai_label import dicomweb
from resmtnet.monai_label.dicomweb import DicomWebDatastore
from resmtnet.monai_label.downloads import Locks
from resmtnet.monai_label.refusals import Refusal

SLOW, OTHER, GONE = "1.2.1", "1.2.2", "1.2.404"
PATIENCE_S = 60.0
"""After which a test fails instead of waiting for ever."""


class SlowPacs:
    """Sends OTHER at once, and SLOW when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun, self.go_on = Event(), Event()

    def download(self, study: Any, series: str, folder: str, *_: Any) -> None:
        self.asked.append(series)
        if series == GONE:
            raise IndexError(series)
        (Path(folder) / f"{series}.1.dcm").write_bytes(b"one")
        if series == SLOW:
            self.begun.set()
            assert self.go_on.wait(PATIENCE_S)
        (Path(folder) / f"{series}.2.dcm").write_bytes(b"two")


@pytest.fixture
def pacs(monkeypatch: pytest.MonkeyPatch) -> SlowPacs:
    pacs = SlowPacs()
    monkeypatch.setattr(dicomweb, "dicom_web_download_series", pacs.download)
    return pacs


@pytest.fixture
def datastore(pacs: SlowPacs, tmp_path: Path) -> Iterator[DicomWebDatastore]:
    stock: Any = SimpleNamespace(
        _client=SimpleNamespace(base_url="http://pacs"),
        _search_filter={},
        _datastore_path=str(tmp_path / "hash"),
        _fetch_by_frame=False,
    )
    datastore = DicomWebDatastore(stock)
    yield datastore
    pacs.go_on.set()
    datastore._observer.stop()


def test_a_click_does_not_wait_for_the_download_of_another_series(
    datastore: DicomWebDatastore, pacs: SlowPacs
) -> None:
    with ThreadPoolExecutor(4) as pool:
        slow = pool.submit(datastore.volume_path, SLOW)
        assert pacs.begun.wait(PATIENCE_S)
        folder = pool.submit(datastore.volume_path, OTHER).result(PATIENCE_S)
        assert len(os.listdir(folder)) == 2
        assert pool.submit(datastore.volume_path, OTHER).result(PATIENCE_S) == folder
        assert not slow.done()
        pacs.go_on.set()
        assert len(os.listdir(slow.result(PATIENCE_S))) == 2
    assert pacs.asked == [SLOW, OTHER]


def test_a_series_is_downloaded_once_and_never_seen_incomplete(
    datastore: DicomWebDatastore, pacs: SlowPacs
) -> None:
    with ThreadPoolExecutor(4) as pool:
        clicks = [pool.submit(datastore.volume_path, SLOW) for _ in range(3)]
        assert pacs.begun.wait(PATIENCE_S)
        assert datastore.content_key(SLOW) is None
        assert not any(click.done() for click in clicks)
        pacs.go_on.set()
        (folder,) = {click.result(PATIENCE_S) for click in clicks}
    assert pacs.asked == [SLOW]
    assert len(os.listdir(folder)) == 2


def test_a_series_that_failed_is_asked_for_again(
    datastore: DicomWebDatastore, pacs: SlowPacs
) -> None:
    for _ in range(2):
        with pytest.raises(Refusal, match="no series"):
            datastore.volume_path(GONE)
    assert pacs.asked == [GONE, GONE]


def test_the_content_of_a_series_is_known_when_it_is_downloaded(
    datastore: DicomWebDatastore,
) -> None:
    assert datastore.content_key(OTHER) is None
    folder = Path(datastore.volume_path(OTHER))
    before = datastore.content_key(OTHER)
    assert before is not None
    assert datastore.content_key(OTHER) == before
    (folder / f"{OTHER}.3.dcm").write_bytes(b"three")
    assert datastore.content_key(OTHER) != before


def test_locks_are_forgotten_when_nobody_holds_them() -> None:
    locks = Locks()
    with locks.of("a"), locks.of("b"):
        assert sorted(locks._locks) == ["a", "b"]
    assert locks._locks == {}


def test_of_two_processes_that_download_one_series_neither_is_refused(
    datastore: DicomWebDatastore, pacs: SlowPacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(datastore.cache_of_pacs) / OTHER

    def faster(study: Any, series: str, part: str, *_: Any) -> None:
        pacs.download(study, series, part)
        folder.mkdir()
        (folder / "whole.dcm").write_bytes(b"by another process")

    monkeypatch.setattr(dicomweb, "dicom_web_download_series", faster)
    assert datastore.volume_path(OTHER) == str(folder)
    assert [path.name for path in folder.iterdir()] == ["whole.dcm"]
    assert list(folder.parent.glob(".download-*")) == []
