"""`resmtnet evaluate`: what it asks for, and the files that it writes."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from resmtnet import cli
from resmtnet.evaluation import summary
from resmtnet.evaluation.bootstrap import BootstrapConfig
from resmtnet.evaluation.records import Case, Prediction, write_predictions
from resmtnet.evaluation.summary import SCHEMA
from resmtnet.inference.model_folder import default_model_dir


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are written from few resamples: nothing here looks at an interval."""
    monkeypatch.setattr(summary, "BootstrapConfig", partial(BootstrapConfig, resamples=40))


def predictions(path: Path, first: int) -> Path:
    """Out-of-fold predictions of 30 nodules of 30 patients."""
    rng, answered = np.random.default_rng(first), []
    for n in range(first, first + 30):
        mm, rating = float(rng.uniform(4, 20)), int(rng.choice([1, 2, 4, 5]))
        case = Case(f"n{n}", f"p{n}", (rating,) * 3, mm, 1.3 * mm, 5.0, 1.25)
        probability = 0.8 if rating > 3 else 0.1
        answered.append((case, Prediction(probability, "benign", rating, (1.0, 5.0), mm)))
    write_predictions(path, answered)
    return path


@pytest.fixture
def two_files(tmp_path: Path) -> list[str]:
    paths = [predictions(tmp_path / f"fold{n}.csv", 100 * n) for n in range(2)]
    return [part for path in paths for part in ("--predictions", str(path))]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    if not (default_model_dir() / "manifest.json").is_file():
        pytest.skip("no model is shipped in this checkout")
    return default_model_dir()


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    return error


def test_predictions_of_each_fold_make_one_report(
    two_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    assert cli.run(["evaluate", *two_files, "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [entry["file"] for entry in document["predictions"]] == ["fold0.csv", "fold1.csv"]
    assert document["figures"]["auc"]["model"]["value"] == 1
    assert {path.name for path in out.iterdir()} == {"metrics.json", "report.html"}


def test_figures_are_printed_with_the_files_that_were_written(
    two_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["evaluate", *two_files, "--out", str(tmp_path / "report")]) == 0
    printed = capsys.readouterr().out
    assert "| AUC | protocol P | 60 | 1.000 [1.000, 1.000] |" in printed
    assert str(tmp_path / "report" / "report.html") in printed


def test_intervals_have_the_confidence_that_was_asked_for(
    two_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path / "report"), "--confidence", "0.99"]
    assert cli.run(["evaluate", *two_files, *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bootstrap"]["confidence"] == 0.99
    assert "99% intervals" in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_card_is_written_from_this_run_and_what_it_quotes(
    two_files: list[str],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["evaluate", *two_files, "--out", "first", "--json"]) == 0
    arguments = ["--out", "second", "--card", "CARD.md", "--quote", "first/metrics.json"]
    assert cli.run(["evaluate", *two_files, *arguments, "--model", str(model), "--json"]) == 0
    card = (tmp_path / "CARD.md").read_text(encoding="utf-8")
    assert card.startswith("# Model card: Res-MTNet")
    assert "`first/metrics.json`" in card
    assert "`second/metrics.json`" in card
    assert str(tmp_path) not in card
    capsys.readouterr()


def test_two_documents_of_one_name_are_refused(
    two_files: list[str], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["evaluate", *two_files, "--out", str(tmp_path / "a" / "out"), "--json"]) == 0
    capsys.readouterr()
    quoted = str(tmp_path / "a" / "out" / "metrics.json")
    arguments = ["--card", str(tmp_path / "CARD.md"), "--quote", quoted, "--quote", quoted]
    assert "out/metrics.json" in mistake(capsys, *two_files, "--out", "o", *arguments)


def test_either_an_archive_or_predictions_are_needed(
    two_files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "one of --data" in mistake(capsys, *two_files, "--data", "x", "--out", "o")
    assert "one of --data" in mistake(capsys, *two_files, "--reference", "--out", "o")
    assert "one of --data" in mistake(capsys, "--out", "o")


def test_split_is_for_an_archive(two_files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "give it with --data" in mistake(capsys, *two_files, "--out", "o", "--split", "val")


def test_quote_is_for_a_card(two_files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --card" in mistake(capsys, *two_files, "--out", "o", "--quote", "m.json")


def test_quoted_file_of_another_schema_is_refused_before_the_work(
    two_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old.json"
    old.write_text('{"schema": "resmtnet.metrics/1"}')
    out = tmp_path / "report"
    arguments = ["--out", str(out), "--card", str(tmp_path / "CARD.md"), "--quote", str(old)]
    assert SCHEMA in mistake(capsys, *two_files, *arguments)
    assert not out.exists()


def test_missing_predictions_are_a_mistake_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "nowhere.csv" in mistake(capsys, "--predictions", "nowhere.csv", "--out", "o")
