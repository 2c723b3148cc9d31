"""What the page tells of learning: progress, verdict, versions, effect and agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import made_findings
from resmtnet.active.study_scores import ScoredStudy
from resmtnet.config import NetworkConfig, TrainingConfig
from resmtnet.errors import InputError
from resmtnet.findings import Finding, Malignancy, ModelInfo
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.model_folder import write_model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.page.agreement import agreement_of
from resmtnet.page.effect import Effect, Said, Stored, effects, summary
from resmtnet.page.learn import last_training, progress, versions
from resmtnet.readings.answer_glance import AnswerGlances
from resmtnet.readings.answer_log import AnswerLog, GivenAnswer
from resmtnet.readings.record import Answered, Reading
from resmtnet.readings.store import ReadingStore
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.types import Json

CONFIG = TrainingConfig(network=NetworkConfig(widths=(4, 4, 4), hidden=8))
OLD, NEW = "a" * 64, "b" * 64
CENTRE = (10.0, 0.0, 0.0)


def finding(score: float, probability: float = 0.5) -> Json:
    grid = made_findings.small_grid()
    malignancy = Malignancy(score, (1.0, 5.0), (0.2,) * 5)
    made = made_findings.make_finding(
        grid, (10.0, 10.0, 6.0), malignancy=malignancy, probability_malignant=probability
    )
    return {**made.to_json(), "centre_lps_mm": list(CENTRE)}


@pytest.mark.parametrize(
    ("stats", "share", "told"),
    [
        ({"stage": "nodules", "nodules": 7}, None, "7 done"),
        ({"stage": "epochs", "epoch": 3, "total_epochs": 12}, 0.25, "epoch 3 of 12"),
        ({"stage": "epochs", "epoch": 12, "total_epochs": 12}, 1.0, "Comparing"),
        ({}, None, "Collecting"),
    ],
)
def test_progress_says_what_is_being_done(stats: Json, share: float | None, told: str) -> None:
    now = progress({"verdict": "running", "current_time": "0:00:09", **stats})
    assert (now.running, now.share, now.took) == (True, share, "0:00:09")
    assert told in now.told


def test_a_training_that_starts_is_under_way() -> None:
    assert progress({"verdict": "starting"}).running
    assert last_training({"verdict": "starting", "gate": {"table": []}}) is None


def test_there_is_no_verdict_before_the_first_training_and_while_one_runs() -> None:
    assert last_training({"verdict": "none"}) is None
    assert last_training({"verdict": "running", "gate": {}}) is None


def test_the_table_behind_a_verdict_is_text() -> None:
    compared: Json = {
        "what": "AUC",
        "on": "reference",
        "before": 0.9161,
        "after": 0.917,
        "worse_by": -0.0009,
        "interval": [-0.002, 0.001],
        "allowed": 0.01,
        "nodules": 400,
        "passed": True,
    }
    checked: Json = {
        **compared,
        "before": None,
        "worse_by": None,
        "allowed": [0.5, 1.0],
        "passed": False,
    }
    gate = {"table": [compared, checked]}
    told = last_training({"verdict": "kept", "reason": "Why.", "gate": gate, "skipped": ["N1"]})
    assert told is not None
    assert (told.title, told.paragraph, told.skipped) == (
        "The version before stays",
        "Why.",
        ("N1",),
    )
    first, second = told.rows
    assert (first.before, first.after, first.change) == (
        "0.916",
        "0.917",
        "-0.001 (-0.002 to 0.001)",
    )
    assert (first.passed, second.passed) == (True, False)
    assert (second.before, second.allowed, second.change) == (
        "",
        "0.500 to 1.000",
        "-0.002 to 0.001",
    )


def write(folder: Path, version: str) -> ModelInfo:
    torch.manual_seed(0)
    member = ResMTNet(CONFIG.network).state_dict()
    return write_model(folder, version, [member], CONFIG, Calibration(), {})


def test_versions_are_listed_newest_first_with_where_they_come_from(tmp_path: Path) -> None:
    write(tmp_path / "shipped", "2")
    registry = ModelRegistry(tmp_path / "models", tmp_path / "shipped")
    registry.publish(
        lambda folder: write(folder, registry.next_version()),
        details={"readings": 25, "reason": "Not worse.", "config": {"least_readings": 10}},
    )
    newest, shipped = versions(registry)
    assert (newest.version, newest.served, newest.readings) == ("2+site.1", True, 25)
    assert (newest.parent, newest.shipped, newest.reason) == ("shipped", "2", "Not worse.")
    assert ("least_readings", "10") in newest.settings
    assert (shipped.can_be_served, newest.can_be_served) == (True, False)
    registry.rollback(shipped.name)
    assert [row.served for row in versions(registry)] == [False, True]


def test_a_damaged_version_says_so_and_cannot_be_served(tmp_path: Path) -> None:
    write(tmp_path / "shipped", "2")
    registry = ModelRegistry(tmp_path / "models", tmp_path / "shipped")
    name = registry.publish(lambda folder: write(folder, registry.next_version())).name
    (tmp_path / "models" / name / "manifest.json").write_text("{")
    damaged = versions(registry)[0]
    assert damaged.damage
    assert not damaged.can_be_served
    with pytest.raises(InputError):
        registry.rollback("no such version")


def reading(n: int, rating: int = 4, *, sha256: str = OLD, **more: Any) -> Reading:
    answered = Answered("1", sha256, finding(2.0), seen=True)
    given = {"nodule": f"n{n}", "answered": answered, "malignancy": rating, **more}
    return Reading(f"ct{n}", "ann", CENTRE, **given)


def stored(tmp_path: Path, scored: dict[str, ScoredStudy] | None = None) -> Stored:
    return Stored(NEW, AnswerGlances(tmp_path / "answers"), (scored or {}).get)


def answer(tmp_path: Path, image: str, score: float, sha256: str = NEW) -> None:
    grid = made_findings.small_grid()
    found = Finding.from_json(finding(score))
    log = AnswerLog(tmp_path / "answers")
    log.remember(image, GivenAnswer("ann", "2", sha256, grid, (found,)))


def test_the_effect_sets_the_answers_before_and_after_beside_what_was_said(tmp_path: Path) -> None:
    answer(tmp_path, "ct0", 3.0)
    answer(tmp_path, "ct1", 1.5)
    answer(tmp_path, "ct2", 2.5, sha256=OLD)
    found = effects([reading(0), reading(1), reading(2)], stored(tmp_path))
    assert [one.image for one in found] == ["ct2", "ct1", "ct0"], "the latest first"
    assert [one.after and one.after.score for one in found] == [None, 1.5, 3.0]
    assert [one.nearer for one in found] == [None, False, True]
    told = summary(found)
    assert told == (
        "Malignancy score of 2 nodules: 1 nearer to the reader, 1 farther, 0 without a difference "
        "to tell. 1 have not been asked about yet."
    )


def test_the_strategies_scores_count_where_nobody_has_asked(tmp_path: Path) -> None:
    columns: list[Any] = [np.array([3.5])] * 9
    study = ScoredStudy("ct0", None, np.array([CENTRE]), *columns, np.ones((1, 2)))
    (found,) = effects([reading(0)], stored(tmp_path, {"ct0": study}))
    assert found.after == Said(3.5, 3.5)
    far = reading(0, answered=None)
    assert effects([far], stored(tmp_path, {"ct0": study})) == []


def test_what_did_not_train_or_is_hidden_shows_no_effect(tmp_path: Path) -> None:
    readings = [
        reading(0, acceptance="bulk"),
        reading(1, class_name="not_a_nodule"),
        reading(2, sha256=NEW),
        reading(3),
        reading(4),
    ]
    found = effects(readings, stored(tmp_path), lambda image: image == "ct4")
    assert [one.image for one in found] == ["ct3"]
    assert "has not been asked" in summary(found)
    assert summary([]) == ""


def test_a_score_that_hardly_moves_is_told_as_no_difference() -> None:
    one = Effect("ct", CENTRE, "ann", None, 4.0, None, Said(3.0, 0.5), Said(3.01, 0.5))
    assert one.nearer is None


def test_agreement_is_of_the_readings_that_the_visitor_may_see(tmp_path: Path) -> None:
    store = ReadingStore.open(tmp_path / "readings.sqlite")
    assert agreement_of(store, set()) is None
    for n in range(14):
        more: Json = {"nodule": None, "study_patient": f"p{n}", "class_name": None}
        store.add(reading(n, 1 + n % 5, **more))
    found = agreement_of(store, set())
    assert found is not None
    assert (found.compared, len(found.groups)) == (14, 1)
    (group,) = found.groups
    assert "had seen the answer" in group.title
    assert any(figure.label.startswith("Malignancy score") for figure in group.figures)
    assert all(plot.png.startswith(b"\x89PNG") for plot in group.plots)
    fewer = agreement_of(store, {f"ct{n}" for n in range(10)})
    assert fewer is not None
    assert fewer.compared == 4
    assert fewer.groups[0].figures == ()
