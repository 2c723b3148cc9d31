"""Pool simulation of active learning on made-up nodules whose labels follow from embeddings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from made_pool import INFO, made_pool, view_of
from resmtnet.active.features import Projection
from resmtnet.active.simulation import experiment
from resmtnet.active.simulation.heads import fit_heads, fit_logistic, fit_ridge
from resmtnet.active.simulation.pool import Pool, pool_of
from resmtnet.active.simulation.report import goal_text, write_report
from resmtnet.active.simulation.rounds import Deal, Game, figures, play
from resmtnet.active.simulation.strategies import STRATEGIES, strategies_named
from resmtnet.active.simulation.summary import Games, labels_needed, summarise
from resmtnet.cli import run as run_command
from resmtnet.config import TrainingConfig
from resmtnet.data.archive import Archive
from resmtnet.errors import InputError
from resmtnet.inference.ensemble import Ensemble

GAME = Game((20, 40, 60))
RANDOM = strategies_named(["random"])


@pytest.fixture(scope="module")
def pool() -> Pool:
    return made_pool()


@pytest.fixture(scope="module")
def deal(pool: Pool) -> Deal:
    return Deal.of(pool, 0)


# -- pool --------------------------------------------------------------------------------------


def test_the_pool_leaves_out_all_that_the_trunk_trained_on(
    small_archive: Archive, bright: Ensemble
) -> None:
    config = TrainingConfig(calibration_folds=(0,), reference_folds=(1,))
    model = SimpleNamespace(config=config, info=INFO, folder=Path("model"))
    trunk: Any = SimpleNamespace(model=model, inference=bright)
    pool = pool_of(small_archive, trunk)
    kept = {n.id for n in pool.nodules}
    assert kept == {n.id for n in small_archive.nodules if n.fold in (0, 1) or n.split == "val"}
    assert len(pool.embeddings) == len(kept)


def test_folds_on_which_training_was_stopped_are_no_pool(
    small_archive: Archive, bright: Ensemble
) -> None:
    config = TrainingConfig(calibration_folds=(0,), stopping_folds=(1,), patience=1)
    model = SimpleNamespace(config=config, info=INFO, folder=Path("model"))
    trunk: Any = SimpleNamespace(model=model, inference=bright)
    kept = pool_of(small_archive, trunk).nodules
    assert not [n for n in kept if n.split == "train" and n.fold == 1]


def test_no_patient_is_chosen_from_and_tested_on(pool: Pool) -> None:
    for seed in range(5):
        choosable, tested = pool.split(seed)
        assert not set(pool.patients[choosable]) & set(pool.patients[tested])
        assert len(choosable) + len(tested) == len(pool.nodules)
        assert 0.15 < len(tested) / len(pool.nodules) < 0.35


def test_hard_strata_are_what_the_readers_say(pool: Pool) -> None:
    truth = pool.truth
    assert truth.strata["sub-solid"].sum() == len(range(0, 150, 7))
    small = truth.strata["small malignant"]
    assert (np.exp(truth.log_mm[small]) < 10).all()
    assert (truth.score[small] > 3).all()


def test_a_nodule_without_a_rating_has_no_weight(pool: Pool) -> None:
    unrated = dataclasses.replace(pool.nodules[0], ratings={}, volume_mm3=float("nan"))
    truth = Pool((unrated, *pool.nodules[1:]), pool.embeddings, INFO).truth
    weights = (truth.score_weight, truth.malignant_weight, truth.log_mm_weight)
    assert [w[0] for w in (*weights, truth.texture_weight)] == [0, 0, 0, 0]
    assert np.isfinite(truth.log_mm).all()


# -- heads -------------------------------------------------------------------------------------


def test_heads_learn_what_embeddings_tell(deal: Deal) -> None:
    heads = fit_heads(deal.features, deal.truth, np.arange(len(deal.choosable)))
    found = figures(heads, deal.test_features, deal.test_truth)
    assert found["all: auc"] > 0.9
    assert found["all: score_mae"] < 0.6
    assert found["all: diameter_mae_mm"] < 2.0


def test_the_middle_of_biased_labels_does_not_tilt_a_ridge() -> None:
    x = np.linspace(5, 6, 30)[:, None]
    ridge = fit_ridge(x, 2 * x[:, 0], np.ones(30))
    assert ridge.mean(np.array([[5.5]]))[0] == pytest.approx(11, abs=1e-6)


def test_a_ridge_knows_less_far_from_its_labels() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    ridge = fit_ridge(x, x[:, 0] + 0.1 * rng.normal(size=40), np.ones(40))
    near, far = ridge.variance(np.array([[0.0, 0.0], [9.0, 9.0]]))
    assert far > 10 * near


def test_labels_without_weight_are_not_read() -> None:
    x = np.array([[-1.0], [0.0], [1.0], [50.0]])
    weight = np.array([1.0, 1.0, 1.0, 0.0])
    one, other = (fit_ridge(x, np.array([-1, 0, 1, t]), weight) for t in (0.0, 1e6))
    assert one.mean(x) == pytest.approx(other.mean(x))
    logit = [fit_logistic(x, np.array([0, 0, 1, t]), weight).logit(x) for t in (0.0, 1.0)]
    assert logit[0] == pytest.approx(logit[1])


def test_heads_without_any_label_are_refused() -> None:
    with pytest.raises(InputError, match="no nodule has a label"):
        fit_ridge(np.ones((2, 1)), np.ones(2), np.zeros(2))


def test_features_are_made_of_the_nodules_that_may_be_labelled(pool: Pool) -> None:
    project = Projection.of(pool.embeddings, components=5)
    features = project(pool.embeddings)
    assert features.shape == (150, 5)
    assert (features**2).sum(1).mean() == pytest.approx(1)
    assert np.abs(features.mean(0)).max() < 1e-9


# -- strategies --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_chooses_each_at_most_once(deal: Deal, name: str) -> None:
    labelled = np.arange(30)
    free = np.arange(30, len(deal.choosable))
    chosen = STRATEGIES[name](view_of(deal, labelled), free, 20)
    assert len(set(chosen.tolist())) == len(chosen) == 20
    assert 0 <= chosen.min() <= chosen.max() < len(free)


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_strategy_looks_at_labels_that_were_not_given(deal: Deal, name: str) -> None:
    labelled = np.arange(30)
    free = np.arange(30, len(deal.choosable))
    arrays = {
        field.name: np.concatenate([getattr(deal.truth, field.name)[:30], wrong[30:]])
        for field in dataclasses.fields(deal.truth)
        if field.name != "strata"
        for wrong in [getattr(deal.truth, field.name)[::-1]]
    }
    other = dataclasses.replace(deal.truth, **arrays)
    chosen = [
        STRATEGIES[name](view_of(deal, labelled, truth=truth), free, 20).tolist()
        for truth in (deal.truth, other)
    ]
    assert chosen[0] == chosen[1]


# -- games -------------------------------------------------------------------------------------


def test_strategies_share_first_labels_and_end_with_the_whole_pool(pool: Pool) -> None:
    played = play(pool, strategies_named(["random", "diverse"]), [3, 4], GAME)
    for one, other in zip(*played.values(), strict=True):
        for figure in one:
            assert len(one[figure]) == len(GAME.budgets) + 1
            np.testing.assert_allclose(one[figure][[0, -1]], other[figure][[0, -1]], atol=1e-9)
    differ = played["random"][0]["all: score_mae"] != played["diverse"][0]["all: score_mae"]
    assert differ[1:-1].all()


def test_the_same_seed_gives_the_same_game(pool: Pool) -> None:
    one, other = (
        play(pool, strategies_named(["informative"]), [5], GAME)["informative"][0] for _ in range(2)
    )
    for figure, values in one.items():
        np.testing.assert_allclose(values, other[figure], rtol=1e-6)


def test_what_cannot_be_played_is_refused(pool: Pool) -> None:
    with pytest.raises(InputError, match="no strategy 'luck'; available are random, stratified"):
        strategies_named(["luck"])
    with pytest.raises(InputError, match="nodules to choose from"):
        play(pool, RANDOM, [0], Game((20, 4000)))
    with pytest.raises(InputError, match="increasing"):
        Game((50, 40))
    with pytest.raises(InputError, match="at least 10"):
        Game((5, 40))
    with pytest.raises(InputError, match="2 seeds"):
        experiment.simulate([pool], RANDOM, [0], GAME)


# -- summary -----------------------------------------------------------------------------------


def test_labels_needed_are_those_from_which_on_the_gain_is_kept() -> None:
    labels = np.array([50.0, 100.0, 200.0, 300.0])
    assert labels_needed(labels, np.array([1.0, 0.0, 0.5, 0.0])) == pytest.approx(290)
    assert labels_needed(labels, np.array([1.0, 0.9, 0.8, 0.0])) == pytest.approx(293.75)
    assert np.isnan(labels_needed(labels, np.ones(4)))


def games(better: float) -> Games:
    """Curves of a strategy that is better than stratified random by an amount, in each game."""
    noise = np.random.default_rng(0).normal(0, 0.002, (12, 4))
    base = np.array([0.5, 0.45, 0.42, 0.4]) + noise
    other = base - np.array([0.0, better, better, 0.0])
    metrics = ("auc", "score_mae", "diameter_mae_mm")

    def curves(values: np.ndarray) -> list[dict[str, np.ndarray]]:
        return [{f"all: {m}": 1 - row if m == "auc" else row for m in metrics} for row in values]

    played = {"stratified": curves(base), "clever": curves(other)}
    return Games.of(played, Game((50, 100, 200)), 400.0)


@pytest.mark.parametrize(("better", "never_worse"), [(0.01, True), (-0.01, False)])
def test_a_difference_in_every_game_is_told(better: float, never_worse: bool) -> None:
    document = summarise(games(better), [], [0, 1])
    compared = document["strategies"]["clever"]["compared_with"]["stratified"]
    assert compared["all: score_mae"]["mean"] == pytest.approx(-better)
    assert compared["all: auc"]["mean"] == pytest.approx(better)
    assert ("clever" in document["never_worse"]) == never_worse


def test_the_goal_is_judged_by_the_labels_of_stratified_random() -> None:
    reached, missed = (summarise(games(b), [], [0, 1]) for b in (0.05, 0.0))
    assert reached["goal"]["reached_by"] == ["clever"]
    assert reached["goal"]["share_of_stratified"]["clever"]["value"] < 0.6
    assert "Reached by clever" in goal_text(reached)
    assert missed["goal"]["reached_by"] == []
    assert missed["goal"]["share_of_stratified"]["clever"]["value"] == pytest.approx(1)
    assert "Not reached; clever needs x 1.00" in goal_text(missed)


def test_the_document_is_plain_json_and_the_report_stands_alone(pool: Pool, tmp_path: Path) -> None:
    document = experiment.simulate(
        [pool], strategies_named(["stratified", "informative"]), range(3), GAME
    )
    files = write_report(tmp_path / "out", document)
    assert [file.name for file in files] == [
        "metrics.json",
        "report.html",
        "tables.md",
        "curves.png",
        "strata.png",
    ]
    assert json.loads(files[0].read_text()) == document
    assert document["schema"] == "resmtnet.active_learning/1"
    text = files[1].read_text()
    assert "small malignant" in text
    assert 'src="data:image/png' in text
    tables = files[2].read_text()
    assert "| informative |" in tables
    assert goal_text(document) in tables
    assert goal_text(document) in text.replace("&amp;", "&")


def test_games_of_several_trunks_are_pooled(pool: Pool) -> None:
    baselines = strategies_named(["stratified", "random"])
    document = experiment.simulate([pool, pool], baselines, range(2), GAME)
    alone = experiment.simulate([pool], baselines, range(2), GAME)
    curve = "all: score_mae"
    for name in ("stratified", "random"):
        one, both = (d["strategies"][name]["curves"][curve]["mean"] for d in (alone, document))
        assert both == pytest.approx(one)
    assert len(document["pools"]) == 2


# -- command -----------------------------------------------------------------------------------


@pytest.fixture
def command(
    pool: Pool, small_archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> list[str]:
    """The command with a made-up pool in place of a trunk's."""
    monkeypatch.setattr(experiment, "pool_of", lambda *_: pool)
    monkeypatch.setattr(experiment.Characterizer, "load", lambda *_: None)
    given = {"--data": small_archive.path, "--model": tmp_path, "--out": tmp_path / "out"}
    options = [str(part) for pair in given.items() for part in pair]
    return ["simulate-active-learning", *options]


def test_the_command_writes_what_was_asked_for(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--seeds", "2", "--strategies", "stratified, diverse", "--budgets", "20,40"]
    assert run_command([*command, *asked, "--first-seed", "7", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document["strategies"]) == ["stratified", "diverse"]
    assert document["budgets"] == [20, 40]
    assert document["seeds"] == [7, 8]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == document


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--strategies", "luck"), "available are random"),
        (("--budgets", "20,x"), "whole numbers"),
        (("--budgets", "20,4000"), "smaller budgets"),
    ],
)
def test_a_wrong_option_is_a_mistake_told_in_one_line(
    command: list[str], option: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*command, *option]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert "\n" not in told
