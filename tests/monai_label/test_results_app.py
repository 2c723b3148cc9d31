"""What is stored when: nothing by default, clicks or readings where the settings say so."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SurfaceSegmentationStorage, XRayRadiationDoseSRStorage

from resmtnet.errors import ConfigError, PacsError
from resmtnet.findings import ModelInfo
from resmtnet.monai_label.pacs import SeriesEntry
from resmtnet.monai_label.pacs_inbox import PacsInbox, Poller
from resmtnet.monai_label.results_app import ResultsInPacs
from resmtnet.monai_label.settings import AppSettings
from resmtnet.readings.dicom.results_log import ResultsLog
from resmtnet.readings.inbox import Inbox
from resmtnet.readings.record import Reading

CLICK = SimpleNamespace(image_id="1.2.3", points_ijk=((1.0, 2.0, 3.0),))
SEARCH = SimpleNamespace(image_id="1.2.3", points_ijk=())
ANSWER = SimpleNamespace(
    by=SimpleNamespace(model=SimpleNamespace(info=ModelInfo("m", "1", "00"))), findings=()
)


def _stored(when: str, tmp_path: Path) -> tuple[ResultsInPacs, list[Any]]:
    """Results that only note what they are asked to store."""
    conf = {"store_results": when, "poll_s": "0"}
    inbox = Inbox(tmp_path / "readings.sqlite", SimpleNamespace(open=None))  # type: ignore[arg-type]
    app = ResultsInPacs(SimpleNamespace(_client=None), inbox, AppSettings.from_conf(conf))  # type: ignore[arg-type]
    asked: list[Any] = []
    app.results.store_findings = lambda image, *_: asked.append(image)  # type: ignore[assignment]
    app.results.store_readings = lambda image, reader: asked.append((image, reader))  # type: ignore[assignment, return-value]
    return app, asked


@pytest.mark.parametrize(
    ("when", "stored"),
    [("off", []), ("on_infer", ["1.2.3"]), ("on_submit", [("1.2.3", "ann")])],
)
def test_the_setting_decides_what_is_stored(when: str, stored: list[Any], tmp_path: Path) -> None:
    app, asked = _stored(when, tmp_path)
    app.on_answer(SEARCH, ANSWER)  # type: ignore[arg-type]
    app.on_answer(CLICK, ANSWER)  # type: ignore[arg-type]
    app.on_readings([Reading("1.2.3", "ann", (0.0, 0.0, 0.0), class_name="benign")])
    from_pacs = Reading("1.2.3", "bob", (0.0, 0.0, 0.0), class_name="benign", source="dicom_sr")
    app.on_readings([from_pacs])
    app.wait()
    assert asked == stored


def test_why_a_result_was_not_stored_is_kept_until_one_is(tmp_path: Path) -> None:
    app, _ = _stored("on_infer", tmp_path)

    def refuse(*_: object) -> None:
        raise PacsError("The PACS refused the SR: status 409")

    store = app.results.store_findings
    app.results.store_findings = refuse  # type: ignore[assignment]
    app.on_answer(CLICK, ANSWER)  # type: ignore[arg-type]
    app.wait()
    assert app.last_error == "The PACS refused the SR: status 409"
    app.results.store_findings = store  # type: ignore[method-assign]
    app.on_answer(CLICK, ANSWER)  # type: ignore[arg-type]
    app.wait()
    assert app.last_error is None


def test_the_poll_goes_on_after_the_pacs_was_away() -> None:
    again, looks = threading.Event(), []

    class Away:
        def read(self) -> None:
            looks.append(1)
            if len(looks) < 3:
                raise PacsError("The PACS did not answer")
            again.set()

    poller = Poller(Away(), 0.01)  # type: ignore[arg-type]
    assert again.wait(30)
    poller.stop()


def test_a_setting_that_is_wrong_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="off, on_infer, on_submit"):
        AppSettings.from_conf({"store_results": "always"})
    with pytest.raises(ConfigError, match="AET@HOST:PORT"):
        AppSettings.from_conf({"results_node": "pacs:104"})


@pytest.mark.parametrize("kind", ["SR", "SEG"])
def test_objects_of_another_kind_are_passed_over_without_a_word(tmp_path: Path, kind: str) -> None:
    """Such as the dose report that most CT studies have, which names no image."""
    other = Dataset()
    other.SOPClassUID = XRayRadiationDoseSRStorage if kind == "SR" else SurfaceSegmentationStorage
    entry = SeriesEntry("1.2.9", "1.2", kind, 9, "P1")
    log = ResultsLog(tmp_path)
    site: Any = SimpleNamespace(
        pacs=SimpleNamespace(
            series=lambda **_: [entry], instances=lambda _: ["1.2.9.1"], fetch=lambda *_: other
        ),
        log=log,
        source=lambda image: SimpleNamespace(series_uid=image, slices={}),
    )
    assert PacsInbox(site).read("1.2.3") == []
    (read,) = log.of("1.2.3").read
    assert (read.kind, read.sop_instance_uid) == ("not of a reader", "1.2.9.1")
