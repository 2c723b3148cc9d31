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

import numpy as np
import pytest

from resmtnet.active.background_scoring import BackgroundScoring
from resmtnet.active.choice import ScoredImage, diverse, informative, leading, worth
from resmtnet.active.leases import Offers
from resmtnet.active.study_scores import ScoredStudy, StudyScores
from resmtnet.ct import CTVolume
from resmtnet.ct.phantom import Phantom
from resmtnet.ct.phantom.files import series_uid, write_dicom_series, write_nifti
from resmtnet.findings import Finding, ModelInfo
from resmtnet.inference.candidates import Candidate
from resmtnet.monai_label.datastore import StudiesDatastore
from resmtnet.monai_label.refusals import Refusal
from resmtnet.monai_label.strategy import strategies_over
from resmtnet.readings.patients import pseudonym
from resmtnet.server.launch import ServerOptions, free_port, running_server

INFORMATIVE, DIVERSE, RANDOM = "resmtnet_informative", "resmtnet_diverse", "random"


def scored(*nodules: dict[str, float], embedding: Sequence[float] = (0.0, 0.0)) -> ScoredStudy:
    """A study with candidates; what is not said of one is of a clear, solid nodule of 7 mm."""
    plain = {
        "candidate_score": 1.0,
        "probability_malignant": 0.0,
        "score": 2.0,
        "score_width": 1.0,
        "diameter_mm": 7.0,
        "diameter_width": 0.2,
        "texture": 5.0,
        "texture_entropy": 0.1,
        "class_entropy": 0.0,
        "out_of_distribution": 0.5,
    }
    rows = [plain | nodule for nodule in nodules]
    return ScoredStudy(
        centres_lps_mm=np.arange(3.0 * len(rows)).reshape(-1, 3),
        embeddings=np.array([embedding] * len(rows), float).reshape(len(rows), len(embedding)),
        **{name: np.array([row[name] for row in rows]) for name in plain},
    )


# -- offers ------------------------------------------------------------------------------------


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def offers(tmp_path: Path, clock: Clock) -> Offers:
    return Offers(tmp_path / "site" / "offers.sqlite", lease_s=60, clock=clock)


def taken(offers: Offers, wanted: Sequence[str], client: str) -> str | None:
    offer = offers.take(wanted, client)
    return offer.image if offer else None


def test_two_readers_never_have_the_same_study_at_once(offers: Offers) -> None:
    assert [taken(offers, "abc", client) for client in ("ann", "bob", "cleo")] == ["a", "b", "c"]
    assert taken(offers, "abc", "dora") is None


def test_a_reader_who_asks_again_is_shown_another_study(offers: Offers) -> None:
    assert [taken(offers, "abc", "ann") for _ in range(3)] == ["a", "b", "c"]


def test_skipping_does_not_end_the_list_of_a_reader_with_a_name(
    offers: Offers, clock: Clock
) -> None:
    for _ in range(2):
        taken(offers, "ab", "ann")
        clock.now_s += 1
    assert [taken(offers, "ab", "ann"), taken(offers, "ab", "bob")] == ["a", None]


def test_readers_without_a_name_may_be_two(offers: Offers) -> None:
    assert [taken(offers, "a", "") for _ in range(2)] == ["a", None]


def test_a_study_is_free_again_when_its_time_is_over(offers: Offers, clock: Clock) -> None:
    taken(offers, "a", "ann")
    clock.now_s += 59
    assert offers.held() == {"a"}
    assert taken(offers, "a", "bob") is None
    clock.now_s += 2
    assert offers.held() == set()
    assert taken(offers, "a", "bob") == "a"


def test_what_was_never_offered_comes_before_what_was_left_unread(
    offers: Offers, clock: Clock
) -> None:
    taken(offers, "a", "ann")
    clock.now_s += 61
    assert taken(offers, "ab", "bob") == "b"


def test_offers_hold_over_processes_and_restarts(
    offers: Offers, tmp_path: Path, clock: Clock
) -> None:
    taken(offers, "ab", "ann")
    again = Offers(tmp_path / "site" / "offers.sqlite", lease_s=60, clock=clock)
    assert taken(again, "ab", "bob") == "b"


def test_many_readers_at_once_get_studies_of_their_own(tmp_path: Path) -> None:
    wanted = [f"study-{n}" for n in range(24)]
    got: list[str | None] = []

    def read(client: str) -> None:
        own = Offers(tmp_path / "offers.sqlite")  # as another process has it
        got.extend(taken(own, wanted, client) for _ in range(6))

    threads = [threading.Thread(target=read, args=(f"reader-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, got)) == sorted(wanted)


def test_where_nothing_can_be_written_offers_are_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    offers = Offers(tmp_path / "file" / "offers.sqlite")
    assert [taken(offers, "ab", client) for client in ("ann", "bob")] == ["a", "b"]
    assert offers.held() == {"a", "b"}


def test_a_damaged_file_of_offers_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "offers.sqlite").write_bytes(b"no database" * 100)
    offers = Offers(tmp_path / "offers.sqlite")
    assert [taken(offers, "ab", client) for client in ("ann", "bob")] == ["a", "b"]


# -- the choice --------------------------------------------------------------------------------


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def first(free: Sequence[ScoredImage], done: Sequence[ScoredImage] = ()) -> str:
    return informative(free, done, rng()).order[0]


def test_what_is_unlike_the_read_ones_is_wanted_next() -> None:
    free = [
        ScoredImage(f"{x:g}", scored({"probability_malignant": 0.5}, embedding=(x, 1.0)))
        for x in (1.0, 4.0, 9.0)
    ]
    done = [ScoredImage("read", scored({}, embedding=(1.0, 1.0)))] * 3
    chosen = informative(free, done, rng())
    assert chosen.order == ("9", "4", "1")
    assert first(free, [ScoredImage("read", scored({}, embedding=(9.0, 1.0)))] * 3) == "1"
    assert (chosen.score or 0) > 0
    assert "nats" in chosen.why


def test_an_undecided_class_is_wanted_more() -> None:
    clear, open_ = scored({}), scored({"probability_malignant": 0.5})
    assert first([ScoredImage("clear", clear), ScoredImage("open", open_)]) == "open"
    assert first([ScoredImage("open", open_), ScoredImage("clear", clear)]) == "open"


def test_what_looks_like_no_nodule_is_wanted_less() -> None:
    undecided = {"probability_malignant": 0.5}
    free = [
        ScoredImage("vessel", scored(undecided | {"candidate_score": 0.1})),
        ScoredImage("unlike all", scored(undecided | {"out_of_distribution": 4.0})),
        ScoredImage("nodule", scored(undecided)),
    ]
    assert first(free) == "nodule"


def test_another_study_of_a_patient_who_was_read_is_wanted_less() -> None:
    same, other, read = (scored({}, embedding=(x, 0.0)) for x in (8.0, 7.0, 1.0))
    free = [ScoredImage("same", same, "ann"), ScoredImage("other", other, "bob")]
    assert first(free, [ScoredImage("read", read, "ann")] * 3) == "other"
    assert first(free, [ScoredImage("read", read, "eve")] * 3) == "same"
    unknown = [ScoredImage(known.image, known.study) for known in free]
    assert first(unknown, [ScoredImage("read", read)] * 3) == "same"


def test_what_the_model_doubts_leads_its_study() -> None:
    for name, value in (
        ("probability_malignant", 0.5),
        ("score_width", 3.5),
        ("diameter_width", 1.2),
        ("texture_entropy", 1.5),
    ):
        assert leading(scored({}, {name: value}, {})) == 1, name


def test_a_study_without_candidates_is_wanted_last_but_can_be_chosen() -> None:
    nothing = ScoredImage("nothing", scored())
    full = [ScoredImage(f"full {n}", scored({"probability_malignant": 0.4})) for n in range(3)]
    chosen = informative([nothing, *full], [], rng(1))
    assert sorted(chosen.order) == ["full 0", "full 1", "full 2", "nothing"]
    assert chosen.order[-1] == "nothing"
    alone = informative([nothing], [], rng())
    assert alone.order == ("nothing",)
    assert "no negative read" in alone.why
    assert alone.nodules == ()


def test_the_leading_candidate_speaks_for_its_study() -> None:
    study = scored({}, {"probability_malignant": 0.5}, {"candidate_score": 0.2})
    assert leading(study) == 1
    assert worth(study).argmax() == 1
    (first, *_) = informative([ScoredImage("a", study)], [], rng()).nodules
    assert first["centre_lps_mm"] == [3.0, 4.0, 5.0]


def test_an_unmeasured_size_is_no_number_in_the_reply() -> None:
    study = scored({"diameter_mm": np.nan, "diameter_width": np.nan})
    chosen = informative([ScoredImage("a", study)], [], rng())
    assert chosen.nodules[0]["equivalent_diameter_mm"] is None
    assert "nan" not in chosen.why.replace("malignant", "")


def test_diverse_wants_what_is_least_like_the_read_ones() -> None:
    free = [ScoredImage(str(x), scored({}, embedding=(x, 0.0))) for x in (1.0, 5.0, 9.0)]
    done = [ScoredImage("read", scored({}, embedding=(0.0, 0.0)))]
    assert diverse(free, done, rng()).order == ("9.0", "5.0", "1.0")
    done.append(ScoredImage("read too", scored({}, embedding=(8.0, 0.0))))
    assert diverse(free, done, rng()).order[0] == "5.0"


def test_diverse_can_do_without_embeddings() -> None:
    chosen = diverse([ScoredImage("empty", scored())], [], rng())
    assert chosen.order == ("empty",)


# -- scored studies ----------------------------------------------------------------------------


class Answering:
    """A model that says the same of every point, and counts how often it is asked."""

    def __init__(self, make_finding: Callable[..., Finding], version: str = "a") -> None:
        self.info = ModelInfo("fake", version, version * 64)
        self._make, self.asked = make_finding, 0

    def __call__(self, ct: CTVolume, centres_mm: Sequence[Any], **_: Any) -> list[Finding]:
        self.asked += 1
        return [
            self._make(ct.geometry, ct.geometry.lps_to_ijk(c), n, embedding=np.ones(4, np.float32))
            for n, c in enumerate(centres_mm)
        ]


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[CTVolume]:
    """The CTs that were searched; the search finds the middle of each."""
    searched: list[CTVolume] = []

    def find_candidates(ct: CTVolume, *, maximum: int = 10) -> list[Candidate]:
        searched.append(ct)
        x, y, z = ct.geometry.ijk_to_lps((np.asarray(ct.geometry.size_ijk) - 1) / 2)
        return [Candidate((float(x), float(y), float(z)), 0.7, 8.0)]

    monkeypatch.setattr("resmtnet.inference.candidates.find_candidates", find_candidates)
    return searched


@pytest.fixture
def model(make_finding: Callable[..., Finding]) -> Answering:
    return Answering(make_finding)


def test_a_score_is_the_same_from_disk(
    tmp_path: Path,
    model: Any,
    searches: list[CTVolume],
    write_image: Callable[[Path], Path],
) -> None:
    ct = CTVolume.open(write_image(tmp_path / "a.nii.gz"))
    made = StudyScores(tmp_path / "scores").score("a", ct, model)
    kept = StudyScores(tmp_path / "scores").get("a", model.info.sha256)
    assert kept is not None
    for name, values in vars(made).items():
        np.testing.assert_allclose(getattr(kept, name), values, rtol=1e-6)
    assert len(kept) == 1
    assert StudyScores(tmp_path / "scores").get("b", model.info.sha256) is None
    assert StudyScores(tmp_path / "scores").get("a", "f" * 64) is None


def test_another_version_does_not_search_the_ct_again(
    tmp_path: Path,
    make_finding: Callable[..., Finding],
    searches: list[CTVolume],
    write_image: Callable[[Path], Path],
) -> None:
    ct = CTVolume.open(write_image(tmp_path / "a.nii.gz"))
    scores = StudyScores(tmp_path / "scores")
    for version in "ab":
        scores.score("a", ct, Answering(make_finding, version))  # type: ignore[arg-type]
    assert len(searches) == 1
    assert len(list((tmp_path / "scores").rglob("*.npz"))) == 3


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


@pytest.mark.parametrize("content", [b"", b"PK no archive", b"\x93NUMPY"])
def test_a_damaged_score_is_made_anew(
    tmp_path: Path,
    model: Any,
    searches: list[CTVolume],
    write_image: Callable[[Path], Path],
    content: bytes,
) -> None:
    ct = CTVolume.open(write_image(tmp_path / "a.nii.gz"))
    StudyScores(tmp_path / "scores").score("a", ct, model)
    for file in (tmp_path / "scores").rglob("*.npz"):
        file.write_bytes(content)
    scores = StudyScores(tmp_path / "scores")
    assert scores.get("a", model.info.sha256) is None
    assert len(scores.score("a", ct, model)) == 1


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
    assert "not scored yet" in said["why"]
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

    def noted(free: Sequence[ScoredImage], read: Sequence[ScoredImage], generator: Any) -> Any:
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


def test_a_candidate_outside_the_ct_is_left_out(
    tmp_path: Path,
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
    write_image: Callable[[Path], Path],
) -> None:
    outside = Candidate((9000.0, 0.0, 0.0), 0.9, 8.0)
    monkeypatch.setattr(
        "resmtnet.inference.candidates.find_candidates", lambda ct, maximum: [outside]
    )
    ct = CTVolume.open(write_image(tmp_path / "a.nii.gz"))
    assert len(StudyScores(tmp_path / "scores").score("a", ct, model)) == 0


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
        with running_server(ServerOptions(str(studies), port=free_port())) as url:
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
