"""Scores of studies are kept by image, content and version of the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_scores import Answering, search_the_middle
from resmtnet.active.study_scores import _ARRAYS as ARRAYS
from resmtnet.active.study_scores import StudyScores
from resmtnet.ct import CTVolume
from resmtnet.findings import Finding
from resmtnet.inference.candidates import Candidate

KEY = "0123abcd"


@pytest.fixture
def ct() -> CTVolume:
    return CTVolume.from_array(np.full((12, 20, 24), -800, np.int16), (2.0, 1.0, 1.0))


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[CTVolume]:
    return search_the_middle(monkeypatch)


@pytest.fixture
def model(make_finding: Callable[..., Finding]) -> Answering:
    return Answering(make_finding)


def test_a_score_is_the_same_from_disk(
    tmp_path: Path,
    model: Any,
    searches: list[CTVolume],
    ct: CTVolume,
) -> None:
    made = StudyScores(tmp_path / "scores").score("a", KEY, None, ct, model)
    kept = StudyScores(tmp_path / "scores").get("a", KEY, model.info.sha256)
    assert kept is not None
    assert (kept.image, kept.patient) == (made.image, made.patient) == ("a", None)
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(kept, name), getattr(made, name), rtol=1e-6)
    assert len(kept) == 1
    assert StudyScores(tmp_path / "scores").get("b", KEY, model.info.sha256) is None
    assert StudyScores(tmp_path / "scores").get("a", KEY, "f" * 64) is None


def test_another_version_does_not_search_the_ct_again(
    tmp_path: Path,
    make_finding: Callable[..., Finding],
    searches: list[CTVolume],
    ct: CTVolume,
) -> None:
    scores = StudyScores(tmp_path / "scores")
    for version in "ab":
        scores.score("a", KEY, None, ct, Answering(make_finding, version))  # type: ignore[arg-type]
    assert len(searches) == 1
    assert len(list((tmp_path / "scores").rglob("*.npz"))) == 3


@pytest.mark.parametrize("content", [b"", b"PK no archive", b"\x93NUMPY"])
def test_a_damaged_score_is_made_anew(
    tmp_path: Path,
    model: Any,
    searches: list[CTVolume],
    ct: CTVolume,
    content: bytes,
) -> None:
    StudyScores(tmp_path / "scores").score("a", KEY, None, ct, model)
    for file in (tmp_path / "scores").rglob("*.npz"):
        file.write_bytes(content)
    scores = StudyScores(tmp_path / "scores")
    assert scores.get("a", KEY, model.info.sha256) is None
    assert len(scores.score("a", KEY, None, ct, model)) == 1


def test_a_candidate_outside_the_ct_is_left_out(
    tmp_path: Path,
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
    ct: CTVolume,
) -> None:
    outside = Candidate((9000.0, 0.0, 0.0), 0.9, 8.0)
    monkeypatch.setattr(
        "resmtnet.inference.candidates.find_candidates", lambda ct, maximum: [outside]
    )
    assert len(StudyScores(tmp_path / "scores").score("a", KEY, None, ct, model)) == 0


def test_an_image_replaced_under_its_id_is_not_scored_yet(
    tmp_path: Path, model: Any, searches: list[CTVolume], ct: CTVolume
) -> None:
    scores = StudyScores(tmp_path / "scores")
    before = scores.score("a", KEY, "ann", ct, model)
    sha256 = model.info.sha256
    assert scores.get("a", "other", sha256) is None
    after = scores.score("a", "other", "bob", ct, model)
    assert len(searches) == 2
    assert scores.get("a", KEY, sha256) is before
    assert scores.get("a", "other", sha256) is after
    assert [scores.patient("a", key) for key in (KEY, "other")] == ["ann", "bob"]


def test_a_study_that_is_not_here_is_as_it_was_scored_last(
    tmp_path: Path, model: Any, searches: list[CTVolume], ct: CTVolume
) -> None:
    made = StudyScores(tmp_path / "scores").score("a", KEY, "ann", ct, model)
    scores = StudyScores(tmp_path / "scores")
    kept = scores.get("a", None, model.info.sha256)
    assert kept is not None
    assert kept.patient == "ann"
    np.testing.assert_allclose(kept.score, made.score, rtol=1e-6)
    assert scores.get("b", None, model.info.sha256) is None
