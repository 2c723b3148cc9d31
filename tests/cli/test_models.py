"""`resmtnet model list`, `verify` and `rollback` of the versions that training has published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from resmtnet import cli
from resmtnet.config import NetworkConfig, TrainingConfig
from resmtnet.findings import ModelInfo
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.model_folder import WEIGHTS, write_model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.readings.location import database_in
from resmtnet.retraining.registry import ModelRegistry
from resmtnet.retraining.registry_files import Version

CONFIG = TrainingConfig(network=NetworkConfig(widths=(4, 4, 4), hidden=8))
REASON = "score MAE 0.61, before 0.70"


def write(folder: Path, version: str) -> ModelInfo:
    torch.manual_seed(0)
    member = ResMTNet(CONFIG.network).state_dict()
    return write_model(folder, version, [member], CONFIG, Calibration(), {})


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    write(tmp_path / "shipped", "2")
    monkeypatch.setenv("RESMTNET_MODEL_DIR", str(tmp_path / "shipped"))
    return ModelRegistry.beside(database_in(tmp_path / "studies"), tmp_path / "shipped")


@pytest.fixture
def published(versions: ModelRegistry) -> list[Version]:
    return [
        versions.publish(
            lambda folder: write(folder, versions.next_version()),
            details={"readings": count, "reason": REASON},
        )
        for count in (25, 50)
    ]


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert cli.run(["model", *arguments]) == code
    return capsys.readouterr()


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    return json.loads(run(capsys, *arguments, "--json", code=code)[0])


def test_versions_are_listed_with_figures_and_a_mark_at_the_served_one(
    tmp_path: Path, published: list[Version], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run(capsys, "list", "--studies", str(tmp_path / "studies"))
    shipped, first, second = out.splitlines()
    assert "shipped" in shipped
    assert "2+site.1" in first
    assert "from shipped" in first
    assert [line.startswith("*") for line in (shipped, first, second)] == [False, False, True]
    assert f"from {published[0].name}" in second
    assert "50 readings" in second
    assert REASON in second


def test_versions_are_listed_as_json(
    tmp_path: Path, published: list[Version], capsys: pytest.CaptureFixture[str]
) -> None:
    database = str(database_in(tmp_path / "studies"))
    document = run_json(capsys, "list", "--readings", database)
    assert document["warning"] is None
    assert [v["name"] for v in document["versions"]] == ["shipped", *(v.name for v in published)]
    last = document["versions"][-1]
    assert (last["served"], last["readings"], last["parent"]) == (True, 50, published[0].name)


def test_rollback_serves_the_version_before_and_the_one_that_is_named(
    tmp_path: Path,
    versions: ModelRegistry,
    published: list[Version],
    capsys: pytest.CaptureFixture[str],
) -> None:
    studies = ("--studies", str(tmp_path / "studies"))
    out, _ = run(capsys, "rollback", *studies)
    assert out == f"{published[0].name} (2+site.1) is served\n"
    assert versions.served().name == published[0].name
    assert run_json(capsys, "rollback", *studies, "--to", "2+site.2")["served"]
    assert versions.served().name == published[1].name
    run(capsys, "rollback", *studies, "--to", "shipped")
    assert versions.current() == versions.shipped


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rollback", "--studies", "{studies}", "--to", "9"], "no version '9'; allowed are"),
        (["rollback", "--studies", "{studies}", "--to", "2"], "is already served"),
        (["list"], "either --studies"),
        (["list", "--studies", "{studies}/none"], "no such folder"),
        (["verify", "{studies}", "--studies", "{studies}"], "not both"),
    ],
)
@pytest.mark.usefixtures("published")
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = str(tmp_path / "studies")
    _, err = run(capsys, *(word.format(studies=studies) for word in arguments), code=2)
    assert told in err
    assert len(err.strip().splitlines()) == 1


def test_a_damaged_version_is_found_and_told(
    tmp_path: Path, published: list[Version], capsys: pytest.CaptureFixture[str]
) -> None:
    studies = ("--studies", str(tmp_path / "studies"))
    run(capsys, "verify", *studies)
    (published[0].folder / WEIGHTS).write_bytes(b"")
    found = run_json(capsys, "verify", *studies, code=1)
    assert [entry["ok"] for entry in found.values()] == [True, False, True]
    assert WEIGHTS in found[published[0].name]["damage"]
    (published[1].folder / "manifest.json").write_text("{")
    out, err = run(capsys, "list", *studies)
    assert "The shipped model is served" in err
    assert out.startswith("*  shipped")
    assert "damaged" in out


def test_a_newer_shipped_model_is_told_and_served_if_it_is_chosen(
    tmp_path: Path,
    versions: ModelRegistry,
    published: list[Version],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.rmtree(versions.shipped)
    write(versions.shipped, "3")
    studies = ("--studies", str(tmp_path / "studies"))
    out, err = run(capsys, "list", *studies)
    assert "trained from shipped version 2; the shipped version is now 3" in err
    assert "--to shipped" in err
    assert [line.startswith("*") for line in out.splitlines()] == [False, False, True]
    assert "the shipped version is now 3" in run_json(capsys, "list", *studies)["warning"]
    assert run_json(capsys, "rollback", *studies, "--to", "shipped")["version"] == "3"
    assert run(capsys, "list", *studies)[1] == ""
    assert versions.current() == versions.shipped
    assert published[1].name in {version.name for version in versions.list()}


def test_all_versions_are_verified_by_name(
    tmp_path: Path, published: list[Version], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run(capsys, "verify", "--studies", str(tmp_path / "studies"))
    names = ["shipped", *(version.name for version in published)]
    assert out.splitlines() == [f"{name}: intact" for name in names]
