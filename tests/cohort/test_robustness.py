"""A cohort in a bad world: a PACS that drops, full disks, studies that kill, copies and gaps."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from requests import ConnectionError as NoAnswer
from requests import HTTPError

from cohort_model import CohortModel
from resmtnet.cohort import ledger as ledger_module
from resmtnet.cohort import pacs_series
from resmtnet.cohort.engines import OnRay
from resmtnet.cohort.ledger import FINDINGS
from resmtnet.cohort.pacs_series import fetch, list_series
from resmtnet.cohort.score import IN_A_ROW, ROWS, score_cohort
from resmtnet.cohort.studies import Study, list_studies
from resmtnet.ct.phantom import make_phantom, write_dicom_series, write_nifti
from resmtnet.errors import ConfigError, PacsError, ResMTNetError

parquet = pytest.importorskip("pyarrow.parquet", reason="needs resmtnet[cohort]")
CENTRE = (-75.0, 0.0, 20.0)
SERVICE = "http://pacs/dicom-web"


def entry(**texts: str) -> dict[str, Any]:
    tags = {"modality": "00080060", "study": "0020000D", "series": "0020000E", "image": "00080018"}
    return {tags[name]: {"Value": [text]} for name, text in texts.items()}


class Pacs:
    """Holds series of some modalities, and gives as many at once as it likes."""

    def __init__(self, modalities: list[str], cap: int = 1000, offsets: bool = True) -> None:
        self.series = [
            entry(modality=name, study="1.2", series=f"1.2.{n}")
            for n, name in enumerate(modalities)
        ]
        self.images = [entry(image=f"1.2.0.{n}") for n in range(5)]
        self.cap, self.offsets = cap, offsets
        self.given = 5
        self.silent = 0
        """Questions that it does not answer from now on."""
        self.asked = 0
        self.drops = 0
        """Series that it does not give to their ends from now on."""

    def _page(self, found: list[Any], limit: int, offset: int) -> list[Any]:
        self.asked += 1
        if self.silent:
            self.silent -= 1
            raise NoAnswer("connection refused")
        start = offset if self.offsets else 0
        return found[start : start + min(limit, self.cap)]

    def search_for_series(self, search_filters: Any = None, limit: int = 1, offset: int = 0) -> Any:
        return self._page(self.series, limit, offset)

    def search_for_instances(self, study: str, series: str, limit: int, offset: int) -> Any:
        return self._page(self.images, limit, offset)

    def iter_series(self, study: str, series: str) -> Iterator[Any]:
        for number, one in enumerate(self.images[: self.given]):
            if number == 3 and self.drops:
                self.drops -= 1
                raise NoAnswer("connection reset")
            uid = one["00080018"]["Value"][0]
            yield SimpleNamespace(SOPInstanceUID=uid, save_as=lambda path, **_: path.touch())


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(pacs_series, "WAIT_S", 0.0)

    def with_pacs(pacs: Pacs) -> Pacs:
        monkeypatch.setattr(pacs_series, "_client", lambda service: pacs)
        return pacs

    return with_pacs


@pytest.mark.parametrize("cap", [1000, 100, 7])
def test_every_series_is_listed_however_few_a_pacs_gives_at_once(serve: Any, cap: int) -> None:
    """And though it gives what is no CT as well."""
    serve(Pacs(["MR"] * 20 + ["CT"] * 230 + ["MR"] * 20, cap))
    assert len(list_series(SERVICE)) == 230


def test_a_pacs_that_knows_no_offset_is_asked_twice_and_not_for_ever(serve: Any) -> None:
    pacs = serve(Pacs(["CT"] * 30, offsets=False))
    assert len(list_series(SERVICE)) == 30
    assert pacs.asked == 2


def test_a_series_that_is_dropped_half_way_is_fetched_again(serve: Any, tmp_path: Path) -> None:
    serve(Pacs(["CT"])).drops = 1
    fetch(f"{SERVICE}/studies/1.2/series/1.2.0", tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_refusal_is_told(serve: Any, monkeypatch: Any) -> None:
    pacs = serve(Pacs(["CT"]))

    def refuse(*_: Any, **__: Any) -> Any:
        raise HTTPError("403 Forbidden")

    monkeypatch.setattr(pacs, "search_for_series", refuse)
    with pytest.raises(PacsError, match="403"):
        list_series(SERVICE)


def test_a_series_of_which_a_part_is_given_is_no_series(serve: Any, tmp_path: Path) -> None:
    serve(Pacs(["CT"])).given = 3
    with pytest.raises(PacsError, match=r"lists 5 images .* gave 3 of them"):
        fetch(f"{SERVICE}/studies/1.2/series/1.2.0", tmp_path)


def of_pacs(count: int) -> list[Study]:
    return [Study(f"1.2.{n}", f"{SERVICE}/studies/1.2/series/1.2.{n}") for n in range(count)]


def test_a_run_stops_when_the_pacs_has_gone_and_does_not_fail_all_that_is_left(
    serve: Any, tmp_path: Path
) -> None:
    serve(Pacs(["CT"])).silent = 10**6
    with pytest.raises(PacsError, match="start the same command again"):
        score_cohort(of_pacs(IN_A_ROW + 5), lambda: CohortModel(tmp_path), tmp_path / "out")
    assert len(list((tmp_path / "out" / FINDINGS).glob("*.json"))) == IN_A_ROW


def test_a_run_goes_on_where_the_pacs_is_there_and_gives_single_studies_not(
    serve: Any, tmp_path: Path
) -> None:
    serve(Pacs(["CT"])).given = 0
    outcome = score_cohort(of_pacs(IN_A_ROW + 5), lambda: CohortModel(tmp_path), tmp_path / "out")
    assert outcome.failed == IN_A_ROW + 5


@pytest.fixture(scope="module")
def phantom() -> Any:
    return make_phantom(shape_kji=(16, 24, 24), nodules=[], centre_lps_mm=CENTRE)


def test_a_full_disk_ends_the_run_with_a_line_and_the_next_one_continues(
    phantom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_nifti(phantom, tmp_path / "studies" / f"{name}.nii")
    listed, out = list_studies(str(tmp_path / "studies")), tmp_path / "out"
    real, written = ledger_module.atomic_file, []

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        if len(written) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        with real(path) as draft:
            yield draft

    monkeypatch.setattr(ledger_module, "atomic_file", full)
    asked = tmp_path / "asked"
    asked.mkdir()
    with pytest.raises(ResMTNetError, match=r"No space left on device.*start the same command"):
        score_cohort(listed, lambda: CohortModel(asked), out)
    monkeypatch.undo()
    again = tmp_path / "again"
    again.mkdir()
    assert score_cohort(listed, lambda: CohortModel(again), out).scored == 2


def test_a_study_that_kills_the_process_is_left_out_after_two_of_them(
    phantom: Any, tmp_path: Path
) -> None:
    for name in ("a", "deadly", "z"):
        write_nifti(phantom, tmp_path / "studies" / f"{name}.nii")
    asked, out = tmp_path / "asked", tmp_path / "out"
    asked.mkdir()

    def score() -> None:
        score_cohort(list_studies(str(tmp_path / "studies")), lambda: CohortModel(asked), out)

    codes = []
    for _ in range(3):
        process = get_context("fork").Process(target=score)
        process.start()
        process.join()
        codes.append(process.exitcode)
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    table = {row["study_id"]: row for row in parquet.read_table(out / ROWS).to_pylist()}
    assert table["deadly.nii"]["status"] == "failed"
    assert "WorkerDied" in table["deadly.nii"]["reason"]
    assert table["z.nii"]["status"] == "ok"


def test_a_series_spread_over_folders_is_a_row_with_its_reason(
    phantom: Any, tmp_path: Path
) -> None:
    """Only a part of it would be scored otherwise, and nobody would know."""
    write_dicom_series(phantom, tmp_path / "studies" / "one")
    (tmp_path / "studies" / "other").mkdir()
    for file in sorted((tmp_path / "studies" / "one").iterdir())[:4]:
        file.rename(tmp_path / "studies" / "other" / file.name)
    outcome = score_cohort(
        list_studies(str(tmp_path / "studies")), lambda: CohortModel(tmp_path), tmp_path / "out"
    )
    assert (outcome.studies, outcome.failed) == (1, 1)
    (row,) = parquet.read_table(tmp_path / "out" / ROWS).to_pylist()
    assert "spread over 2 folders" in row["reason"]


def test_a_copy_of_a_series_is_scored_once(phantom: Any, tmp_path: Path) -> None:
    for name in ("one", "copy"):
        write_dicom_series(phantom, tmp_path / name)
    assert len(list_studies(str(tmp_path))) == 1


def test_finished_studies_do_not_go_to_the_engine_again(phantom: Any, tmp_path: Path) -> None:
    """With 25,000 of them their headers would be read again for hours."""
    studies, asked = tmp_path / "studies", tmp_path / "asked"
    asked.mkdir()
    write_dicom_series(phantom, studies / "dicom")
    write_nifti(phantom, studies / "a.nii")
    score_cohort(list_studies(str(studies)), lambda: CohortModel(asked), tmp_path / "out")
    handed: list[Any] = []

    def engine(tasks: Any, model: Any, load: Any) -> Iterator[Any]:
        handed.extend(tasks)
        yield from ()

    told: list[tuple[int, int, str]] = []
    outcome = score_cohort(
        list_studies(str(studies)),
        lambda: CohortModel(asked),
        tmp_path / "out",
        engine=engine,
        tell=lambda *step: told.append(step),
    )
    assert (handed, outcome.scored, outcome.rows > 1) == ([], 0, True)
    assert told == [(2, 2, "2 are finished already")]


def test_more_workers_than_there_is_room_for_are_refused_and_not_waited_for() -> None:
    with pytest.raises(ConfigError, match=r"4 workers with --gpus 0.5 need 2 GPUs, .* has 1"):
        OnRay(4, gpus=0.5)._check_room({"CPU": 8.0, "GPU": 1.0})
    with pytest.raises(ConfigError, match="need 8 CPUs, the cluster has 4"):
        OnRay(4, threads=2, address="auto")._check_room({"CPU": 4.0})
    OnRay(2, gpus=0.5)._check_room({"CPU": 8.0, "GPU": 1.0})
