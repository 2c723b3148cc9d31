"""`resmtnet export` and `resmtnet readings`: the files that they write, and what they refuse."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from resmtnet import cli
from resmtnet.readings.location import database_in
from resmtnet.readings.record import Reading
from resmtnet.readings.store import ReadingStore


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A folder of studies with three readings, one of them superseded."""
    with ReadingStore.open(database_in(tmp_path)) as store:
        for reader, rating in (("ann", 2), ("bob", 3), ("ann", 4)):
            store.add(Reading("ct", reader, (0.0, 0.0, 0.0), malignancy=rating))
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(arguments) == 0
    return capsys.readouterr().out


def printed_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(printed(capsys, *arguments, "--json"))


def ratings(text: str) -> list[str]:
    return [row["malignancy"] for row in csv.DictReader(io.StringIO(text, newline=""))]


def test_export_prints_the_readings_that_stand(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ratings(printed(capsys, "export", "csv", "--studies", str(studies))) == ["3", "4"]


def test_export_hands_superseded_readings_back_too(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "all.csv"
    told = printed(capsys, "export", "csv", "--studies", str(studies), "--all", "--out", str(out))
    assert "3 readings" in told
    assert ratings(out.read_text("utf-8")) == ["2", "3", "4"]
    assert [file.name for file in out.parent.iterdir()] == ["all.csv"]


def test_export_prints_whole_readings_as_json(
    studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = printed_json(capsys, "export", "csv", "--readings", str(database_in(studies)))
    assert [entry["reader"] for entry in document["readings"]] == ["bob", "ann"]
    assert document["readings"][0]["schema"] == "resmtnet.reading/1"
    assert [entry["sequence"] for entry in document["readings"]] == [2, 3]


def test_export_says_what_its_columns_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        "rating, 1 to 5" in printed_json(capsys, "export", "csv", "--columns")["columns"].values()
    )


def test_backup_writes_a_database_that_can_be_exported(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.sqlite"
    told = printed_json(capsys, "readings", "backup", "--studies", str(studies), "--out", str(copy))
    assert told == {"file": str(copy), "readings": 3}
    assert ratings(printed(capsys, "export", "csv", "--readings", str(copy))) == ["3", "4"]


@pytest.mark.parametrize(
    "command", [["export", "csv"], ["readings", "backup", "--out", "b.sqlite"]]
)
def test_a_folder_without_readings_is_told_of_and_gets_none(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*command, "--studies", str(tmp_path)]) == 2
    assert "none has been saved yet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [[], ["--studies", "a", "--readings", "b"]])
def test_studies_and_the_database_exclude_each_other(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["export", "csv", *given]) == 2
    assert "either --studies" in capsys.readouterr().err


def test_agreement_writes_its_document_and_its_page(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "agreement"
    command = ["agreement", "--studies", str(studies), "--out", str(out)]
    document = printed_json(capsys, *command, "--period", "day")
    assert document["schema"] == "resmtnet.agreement/1"
    assert document["period"] == "day"
    assert document["readings"]["superseded"] == 1
    assert json.loads((out / "agreement.json").read_text("utf-8")) == document
    assert (out / "agreement.html").is_file()
    assert "2 readings in force, 0 compared" in printed(capsys, *command)


PACS = "http://pacs.example:8042/dicom-web"


@pytest.fixture
def app_of_pacs(studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the app, in which the readings of a PACS lie."""
    (tmp_path / "main.py").touch()
    monkeypatch.setenv("RESMTNET_APP_DIR", str(studies))
    return studies


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("export", "csv"), "malignancy"),
        (("agreement", "--out", "{out}"), "2 readings in force"),
        (("readings", "backup", "--out", "{out}.sqlite"), "3 readings"),
        (("model", "list"), "shipped"),
    ],
)
def test_the_readings_of_a_pacs_are_found_by_its_url(
    app_of_pacs: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    told: str,
) -> None:
    arguments = [part.format(out=app_of_pacs / "out") for part in command]
    assert told in printed(capsys, *arguments, "--studies", PACS)
    assert not Path("http:").exists()
