"""Next sample: what is offered to whom, what is scored when, and what the reply says."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pytest

from made_scores import Answering, search_the_middle
from resmtnet.active.background_scoring import BackgroundScoring
from resmtnet.active.study_scores import ScoredStudy, StudyScores
from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import series_uid, write_dicom_series, write_nifti
from resmtnet.findings import Finding
from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.strategy import strategies_over
from resmtnet.readings.patients import pseudonym
from resmtnet.server.launch import ServerOptions, free_port, running_server

INFORMATIVE, DIVERSE, RANDOM = "resmtnet_informative", "resmtnet_diverse", "random"


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[CTVolume]:
    return search_the_middle(monkeypatch)


@pytest.fixture
def model(make_finding: Callable[..., Finding]) -> Answering:
    return Answering(make_finding)


# -- strategies over a folder ------------------------------------------------------------------


class Site:
    """A folder of studies with the strategies over it."""

    def __init__(self, folder: Path, model: Any, **options: Any) -> None:
        self.folder, self.model, self.readings = folder, model, set[str]()
        self.datastore = StudiesDatastore(str(folder), auto_reload=False)
        self.strategies = strategies_over(
            folder / "resmtnet" / "readings.sqlite",
            lambda: self.readings,
            lambda: self.model,
            lambda: self.datastore,
            seed=0,
            **options,
        )

    @property
    def scoring(self) -> BackgroundScoring:
        work: Any = self.strategies[INFORMATIVE]
        scoring: BackgroundScoring = work._worklist.scoring
        return scoring

    def next(self, strategy: str = INFORMATIVE, client: str = "ann") -> Any:
        request = {"strategy": strategy, "client_id": client}
        return self.strategies[strategy](request, self.datastore)

    def wait_until_scored(self, *images: str) -> None:
        end = time.monotonic() + 60
        while any(self.scoring.get(image) is None for image in images):
            assert time.monotonic() < end, "not scored"
            time.sleep(0.01)


@pytest.fixture
def make_site(
    tmp_path: Path,
    model: Answering,
    searches: list[CTVolume],
    write_image: Callable[[Path], Path],
) -> Iterator[Callable[..., Site]]:
    """Makes a site with as many studies as asked for."""
    sites: list[Site] = []

    def make(studies: int, **options: Any) -> Site:
        for n in range(studies):
            write_image(tmp_path / "studies" / f"ct{n}.nii.gz")
        sites.append(Site(tmp_path / "studies", model, **options))
        return sites[-1]

    yield make
    for site in sites:
        site.scoring.stop()


def test_the_patient_of_a_study_is_kept_as_a_pseudonym(
    make_site: Callable[..., Site], write_series: Callable[..., str], tmp_path: Path
) -> None:
    uid = write_series(tmp_path / "studies" / "series")
    site = make_site(1)
    site.next()
    site.wait_until_scored(uid, "ct0")
    scores = StudyScores(tmp_path / "studies" / "resmtnet" / "scores")
    assert scores.patient(uid) == pseudonym("P1")
    assert scores.patient("ct0") is None


def test_an_image_replaced_under_its_id_is_searched_again(
    make_site: Callable[..., Site], searches: list[CTVolume], tmp_path: Path
) -> None:
    site = make_site(1, lease_s=0.0)
    site.next()
    site.wait_until_scored("ct0")
    path = tmp_path / "studies" / "ct0.nii.gz"
    image = itk.imread(str(path))
    image.SetOrigin((5.0, 6.0, 7.0))
    itk.imwrite(image, str(path))
    assert site.scoring.get("ct0") is None
    site.next()
    site.wait_until_scored("ct0")
    assert len(searches) == 2
    study = site.scoring.get("ct0")
    assert study is not None
    assert searches[1].geometry.contains(study.centres_lps_mm[0])
    assert not np.allclose(searches[0].geometry.origin_lps_mm, searches[1].geometry.origin_lps_mm)


@pytest.mark.parametrize("strategy", [INFORMATIVE, DIVERSE, RANDOM])
def test_every_study_is_offered_once_and_then_none(
    make_site: Callable[..., Site], strategy: str
) -> None:
    site = make_site(4)
    offered = [site.next(strategy, client)["id"] for client in ("ann", "bob", "ann", "bob")]
    assert sorted(offered) == ["ct0", "ct1", "ct2", "ct3"]
    assert site.next(strategy, "cleo") is None


def test_a_study_that_was_read_is_not_offered_again(make_site: Callable[..., Site]) -> None:
    site = make_site(3, lease_s=0.0)
    site.readings |= {"ct0", "ct2"}
    assert {site.next(strategy)["id"] for strategy in site.strategies} == {"ct1"}
    site.readings.add("ct1")
    assert site.next() is None


def test_a_final_label_of_the_datastore_counts_as_read(
    make_site: Callable[..., Site], write_image: Callable[[Path], Path], tmp_path: Path
) -> None:
    site = make_site(2, lease_s=0.0)
    label = write_image(tmp_path / "label.nii.gz")
    site.datastore.save_label("ct0", str(label), "final", {})
    assert {site.next()["id"] for _ in range(5)} == {"ct1"}
    site.datastore.save_label("ct1", str(label), "original", {})
    assert site.next()["id"] == "ct1"


def test_the_first_answer_does_not_wait_for_scores_and_says_so(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> Any:
        started.set()
        assert go_on.wait(30)
        raise OSError("the disk is gone")

    monkeypatch.setattr(StudyScores, "score", slow)
    site = make_site(3)
    said = site.next()["active_learning"]
    assert started.wait(30)
    assert said["scored"] is False
    assert said["why"] == "Not scored yet; picked at random so that you need not wait."
    assert said["unread"] == 3
    go_on.set()


def test_scores_are_made_in_the_background_and_explain_the_choice(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(3)
    first = site.next()["id"]
    left = {"ct0", "ct1", "ct2"} - {first}
    site.wait_until_scored(*left)
    said = site.next()["active_learning"]
    assert said["scored"] is True
    assert said["score"] > 0
    assert "P(malignant)" in said["why"]
    assert said["nodules"][0]["candidate_score"] == pytest.approx(0.7)
    json.dumps(said, allow_nan=False)


def test_random_scores_nothing(make_site: Callable[..., Site], model: Answering) -> None:
    site = make_site(2)
    assert site.next(RANDOM)["active_learning"]["scored"] is False
    assert site.scoring._thread is None
    assert model.asked == 0


def test_a_new_reading_or_another_call_scores_nothing_again(
    make_site: Callable[..., Site], model: Answering, searches: list[CTVolume]
) -> None:
    site = make_site(3, lease_s=0.0)
    site.next()
    site.wait_until_scored("ct0", "ct1", "ct2")
    for n in range(2):
        site.readings.add(f"ct{n}")
        site.next()
    assert len(searches) == model.asked == 3
    again = Site(site.folder, model, lease_s=0.0)
    assert again.next()["active_learning"]["scored"] is True
    assert model.asked == 3


def test_a_new_version_is_asked_about_the_same_candidates(
    make_site: Callable[..., Site],
    searches: list[CTVolume],
    make_finding: Callable[..., Finding],
) -> None:
    site = make_site(2, lease_s=0.0)
    site.next()
    site.wait_until_scored("ct0", "ct1")
    site.model = Answering(make_finding, "b")
    site.next()
    site.wait_until_scored("ct0", "ct1")
    assert site.next()["active_learning"]["scored"] is True
    assert site.model.asked == len(searches) == 2


def test_studies_are_scored_ahead_only_so_far(make_site: Callable[..., Site]) -> None:
    site = make_site(5, lease_s=0.0)
    site.scoring.ahead = 2

    def scored() -> set[str]:
        return {f"ct{n}" for n in range(5) if site.scoring.get(f"ct{n}") is not None}

    def wait_for(number: int) -> None:
        end = time.monotonic() + 60
        while len(scored()) < number and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(scored()) == number

    site.next()
    wait_for(2)
    site.readings.add(min(scored()))
    site.next()
    wait_for(3)


def test_studies_that_were_read_are_scored_by_a_new_version_after_the_stock(
    make_site: Callable[..., Site],
    make_finding: Callable[..., Finding],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = make_site(4, lease_s=0.0)
    site.scoring.ahead = 1
    site.readings |= {"ct0", "ct1", "gone"}
    site.next()
    site.wait_until_scored("ct0", "ct1")
    order: list[str] = []
    score = StudyScores.score

    def noted(self: StudyScores, image: str, *rest: Any) -> ScoredStudy:
        order.append(image)
        return score(self, image, *rest)

    monkeypatch.setattr(StudyScores, "score", noted)
    site.model = Answering(make_finding, "b")
    site.next()
    site.wait_until_scored("ct0", "ct1")
    assert order[0] in {"ct2", "ct3"}
    assert sorted(order[1:]) == ["ct0", "ct1"]
    assert site.scoring.readable("gone"), "it is not among the studies, and not tried"


def test_a_study_read_before_it_was_scored_counts_after_it(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(3, lease_s=0.0)
    site.readings.add("ct0")
    done: list[list[str]] = []
    strategy: Any = site.strategies[INFORMATIVE]
    choose = strategy._choose

    def noted(free: Sequence[ScoredStudy], read: Sequence[ScoredStudy], generator: Any) -> Any:
        done.append([known.image for known in read])
        return choose(free, read, generator)

    strategy._choose = noted
    site.next()
    site.wait_until_scored("ct0", "ct1", "ct2")
    site.next()
    assert done[-1] == ["ct0"]


def test_a_study_on_offer_is_scored_too(make_site: Callable[..., Site]) -> None:
    site = make_site(1)
    site.next()
    site.wait_until_scored("ct0")
    assert site.next()["active_learning"]["scored"] is True


def test_a_study_that_cannot_be_read_is_passed_over(
    make_site: Callable[..., Site], tmp_path: Path
) -> None:
    site = make_site(1)
    (tmp_path / "studies" / "broken.nii.gz").write_bytes(b"no image")
    site = make_site(1)
    assert site.next()["id"] == "ct0"
    assert site.next(client="bob") is None


def test_a_study_that_cannot_be_scored_is_still_offered(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Semaphore(0)

    def fail(*_: Any) -> None:
        failed.release()
        raise ValueError("a fault of ours")

    monkeypatch.setattr(StudyScores, "score", fail)
    site = make_site(2, lease_s=0.0)
    for _ in range(2):
        assert site.next()["active_learning"]["scored"] is False
    assert failed.acquire(timeout=30)
    assert failed.acquire(timeout=30)
    assert site.next()["id"] in ("ct0", "ct1")
    assert not failed.acquire(timeout=0.2), "it is not tried again at once"


class Pacs:
    """What the strategies see of a DICOMweb datastore: lists that are older than the readings."""

    def __init__(self, folder: Path, series: Sequence[str]) -> None:
        self._folder, self._series = folder, tuple(series)
        self.downloaded: list[str] = []

    def list_images(self) -> list[str]:
        return list(self._series)

    def get_unlabeled_images(self) -> list[str]:
        return list(self._series)

    def volume_path(self, image: str) -> str:
        self.downloaded.append(image)
        if image == "1.2.gone":
            raise Refusal(502, "the PACS did not answer")
        return str(self._folder / "series.nii.gz")

    get_image_uri = volume_path


def test_a_series_read_since_the_pacs_was_listed_is_not_offered_again(
    tmp_path: Path,
    model: Answering,
    searches: list[CTVolume],
    write_image: Callable[[Path], Path],
) -> None:
    write_image(tmp_path / "series.nii.gz")
    pacs: Any = Pacs(tmp_path, ["1.2.3", "1.2.4", "1.2.gone"])
    readings: set[str] = set()
    strategies = strategies_over(
        tmp_path / "site" / "readings.sqlite",
        lambda: readings,
        lambda: model,  # type: ignore[arg-type, return-value]
        lambda: pacs,
        lease_s=0.0,
        seed=0,
    )
    ask = {name: lambda n=name: strategies[n]({"client_id": "ann"}, pacs) for name in strategies}
    offered = {ask[RANDOM]()["id"] for _ in range(20)}
    assert offered == {"1.2.3", "1.2.4"}
    readings.add("1.2.3")
    assert {ask[name]()["id"] for name in strategies for _ in range(5)} == {"1.2.4"}
    readings.add("1.2.4")
    assert [ask[name]() for name in strategies] == [None] * 3
    work: Any = strategies[INFORMATIVE]
    work._worklist.scoring.stop()


# -- behind the real server --------------------------------------------------------------------


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, phantom: Phantom) -> Path:
    """Two volumes and a DICOM series."""
    folder = tmp_path_factory.mktemp("studies")
    for name in ("one", "two"):
        write_nifti(phantom, folder / f"{name}.nii.gz")
    write_dicom_series(phantom, folder / "patient" / "series")
    return folder


@pytest.fixture(scope="module")
def url(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MONAI_LABEL_SESSION_PATH", str(tmp_path_factory.mktemp("sessions")))
        with running_server(ServerOptions(str(studies), port=free_port()), timeout_s=240.0) as url:
            yield url


def free_all(studies: Path) -> None:
    """Ends all offers, as waiting would."""
    file = studies / "resmtnet" / "offers.sqlite"
    if file.is_file():
        connection = sqlite3.connect(file)
        with connection:
            connection.execute("DELETE FROM offers")
        connection.close()


def post(url: str, path: str, document: Any) -> Any:
    body = json.dumps(document).encode()
    request = urllib.request.Request(
        f"{url}{path}", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


@pytest.mark.server
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("strategy", [INFORMATIVE, DIVERSE, RANDOM])
def test_monai_labels_client_gets_each_study_once(
    url: str, studies: Path, phantom: Phantom, strategy: str, tmp_path: Path
) -> None:
    from monailabel.client.client import MONAILabelClient

    free_all(studies)
    readers = [MONAILabelClient(url, str(tmp_path), client_id=name) for name in ("ann", "bob")]
    assert list(readers[0].info()["strategies"]) == [INFORMATIVE, DIVERSE, RANDOM]
    samples = [reader.next_sample(strategy, {}) for reader in (*readers, readers[0])]
    assert {sample["id"] for sample in samples} == {"one", "two", series_uid(phantom)}
    assert all(Path(sample["path"]).is_file() for sample in samples)
    assert all(sample["active_learning"]["why"] for sample in samples)
    assert readers[1].next_sample(strategy, {})["id"] == samples[1]["id"]


@pytest.mark.server
def test_next_sample_of_slicer_passes_over_what_was_read(
    url: str, studies: Path, phantom: Phantom
) -> None:
    """The plugin posts client_id alone: its table of options is empty for our strategies."""
    centre = [float(x) for x in phantom.nodules[0].centre_lps_mm]
    said = {"image": "two", "reader": "ann", "centre_lps_mm": centre, "class": "benign"}
    for _ in range(2):
        free_all(studies)
        offered = [
            post(url, f"/activelearning/{INFORMATIVE}", {"client_id": f"user-{n}"}).get("id")
            for n in range(4)
        ]
        unread = [image for image in offered if image]
        assert len(set(unread)) == len(unread)
        if "two" not in unread:
            break
        post(url, "/resmtnet/readings", said)
    assert set(unread) == {"one", series_uid(phantom)}


@pytest.mark.server
def test_scores_follow_in_the_background_of_the_server(url: str, studies: Path) -> None:
    end = time.monotonic() + 300
    scored = False
    while not scored and time.monotonic() < end:
        free_all(studies)
        sample = post(url, f"/activelearning/{INFORMATIVE}", {"client_id": "ann"})
        scored = sample["active_learning"]["scored"]
        time.sleep(1.0)
    assert scored
    assert list((studies / "resmtnet" / "scores").rglob("*.npz"))
