"""The command line: what each command prints, and what it says of a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from resmtnet import cli
from resmtnet.characteristics import SIZES
from resmtnet.cli.output import _PlainLines
from resmtnet.cli.points import read_candidates
from resmtnet.config import NetworkConfig, TrainingConfig, to_dict
from resmtnet.ct.measure import MEASURED
from resmtnet.ct.phantom import Phantom, write_nifti
from resmtnet.data.archive import Archive
from resmtnet.errors import ArchiveError, PointError
from resmtnet.findings import ModelInfo
from resmtnet.inference.calibration import Calibration
from resmtnet.inference.conformal import Bands, LogInterval
from resmtnet.inference.model_folder import write_model
from resmtnet.network.resmtnet import ResMTNet
from resmtnet.training.cached_nodule import CachedNodule
from resmtnet.training.cached_store import save_cached
from resmtnet.training.cross_validation import HELD
from resmtnet.training.loop import TrainingProgress

CONFIG = TrainingConfig(network=NetworkConfig(widths=(4, 4, 4), hidden=8), epochs=1, batch_size=8)
COMMANDS = [
    ["characterize"],
    ["find"],
    ["compare"],
    ["prepare", "stacks"],
    ["prepare", "cubes"],
    ["prepare", "phantom"],
    ["prepare", "lidc"],
    ["prepare", "points"],
    ["train"],
    ["evaluate"],
    ["model", "verify"],
    ["serve"],
]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of few weights."""
    torch.manual_seed(0)
    interval = LogInterval(0.0, 1.0, 0.0, Bands((), (1.6,)))
    calibration = Calibration(
        decision_threshold=0.6,
        score_widths=Bands((), (1.5,)),
        size_intervals=dict.fromkeys(MEASURED, interval),
        regressed_intervals={task.name: interval for task in SIZES},
    )
    folder = tmp_path_factory.mktemp("models") / "small"
    weights = ResMTNet(CONFIG.network).state_dict()
    write_model(folder, "7", [weights], CONFIG, calibration, {"data": "none"})
    return folder


@pytest.fixture(scope="session")
def ct(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nifti(phantom, tmp_path_factory.mktemp("ct") / "phantom.nii")


@pytest.fixture(autouse=True)
def _small_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESMTNET_MODEL_DIR", str(model))
    monkeypatch.setenv("RESMTNET_CACHE_DIR", str(tmp_path / "cache"))


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    code = cli.run([str(argument) for argument in arguments] + ["--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    document: dict[str, Any] = json.loads(printed.out)
    return document


def refusal(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Return the one line that is said of a mistake; nothing is printed on stdout."""
    assert cli.run([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    (line,) = printed.err.splitlines()
    return line


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_and_json(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert cli.run([*command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert f"Example: resmtnet {' '.join(command)}" in printed
    assert "--json" in printed


def test_without_arguments_the_help_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["resmtnet"])
    assert cli.run() == 0
    assert "characterize" in capsys.readouterr().out


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    from resmtnet import __version__

    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"resmtnet {__version__}\n"


def test_characterize_answers_each_point_in_order(
    ct: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = run_json(capsys, "characterize", ct, "--at", "-75,0,20", "--at", "-70.5,2,20")
    assert document["schema"] == "resmtnet.findings/1"
    assert document["model"]["version"] == "7"
    assert document["image"]["id"] == "phantom"
    centres = [nodule["centre_lps_mm"] for nodule in document["nodules"]]
    assert centres == [[-75, 0, 20], [-70.5, 2, 20]]
    assert set(document["timing_ms"]) == {"open", "load_model", "characterize"}


def test_a_point_means_the_same_place_in_every_frame(
    ct: Path, phantom: Phantom, capsys: pytest.CaptureFixture[str]
) -> None:
    lps = (-75.0, 4.0, 20.0)
    ijk = phantom.geometry.lps_to_ijk(lps)
    texts = {"lps": "-75,4,20", "ras": "75,-4,20", "ijk": ",".join(str(x) for x in ijk)}
    for frame, text in texts.items():
        document = run_json(capsys, "characterize", ct, "--at", text, "--frame", frame)
        assert document["nodules"][0]["centre_lps_mm"] == pytest.approx(lps, abs=1e-3)


def test_a_context_selects_the_guideline(ct: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("characterize", ct, "--at", "-75,0,20")
    without = run_json(capsys, *arguments)
    given = run_json(capsys, *arguments, "--context", "incidental")
    contexts = [document["nodules"][0]["guidelines"]["context"] for document in (without, given)]
    assert contexts == [None, "incidental"]


def test_the_brock_risk_is_of_what_the_user_tells(
    ct: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("characterize", ct, "--at", "-75,0,20")
    told = ("--age", "62", "--sex", "female", "--no-family-history", "--emphysema")
    told += ("--nodule-count", "2", "--upper-lobe", "yes", "--spiculation", "no")
    assert run_json(capsys, *asked)["nodules"][0]["risk"] is None
    brock = run_json(capsys, *asked, *told)["nodules"][0]["risk"]["brock"]
    assert brock["inputs"]["sex"] == "female"
    assert brock["inputs"]["emphysema"] is True
    assert brock["inputs"]["family_history"] is False
    assert brock["inputs"]["upper_lobe"] is True
    assert brock["inputs"]["nodule_count"] == 2
    assert cli.run([str(a) for a in (*asked, *told[:2])]) == 0
    assert "Brock risk of cancer - (not told: sex, " in capsys.readouterr().out
    assert "yes, no" in refusal(capsys, 2, *asked, "--upper-lobe", "maybe")


def test_without_json_a_table_is_printed_and_warnings_go_to_stderr(
    ct: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["characterize", str(ct), "--at", "-75,0,20"]) == 0
    printed = capsys.readouterr()
    assert "N1" in printed.out
    assert "not a medical device" in printed.out
    assert all(line.startswith("warning: ") for line in printed.err.splitlines())


def test_find_prints_at_most_the_candidates_asked_for(
    ct: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = run_json(capsys, "find", ct, "--max-candidates", 1)
    assert len(document["nodules"]) <= 1
    assert all(nodule["source"] == "candidate" for nodule in document["nodules"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["characterize", "CT", "--at", "1,2"], "three numbers"),
        (["characterize", "CT", "--at", "nan,2,3"], "three numbers"),
        (["characterize", "CT", "--at", "1,2,3000"], "outside the CT"),
        (["characterize", "CT"], "--at"),
        (["characterize", "CT", "--at", "1,2,3", "--frame", "mni"], "lps"),
        (["characterize", "nowhere.nii", "--at", "1,2,3"], "nowhere.nii"),
        (["characterize", "EMPTY", "--at", "1,2,3"], "DICOM"),
        (["find", "TEXT"], "notes.txt"),
        (["find", "CT", "--max-candidates", "0"], "--max-candidates"),
        (["find", "CT", "--device", "tpu"], "cuda"),
        (["prepare", "cubes", "EMPTY", "--annotations", "x", "--out", "o"], "missing"),
        (["prepare", "stacks", "EMPTY", "--annotations", "x", "--out", "o"], "missing"),
        (["prepare", "phantom", "--out", "o", "--format", "png"], "nifti"),
        (["train", "--data", "EMPTY", "--out", "o"], "archive"),
        (["train", "--data", "EMPTY", "--out", "o", "--config", "nowhere.json"], "nowhere.json"),
        (["evaluate", "--data", "EMPTY", "--out", "o"], "archive"),
        (["serve", "--studies", "EMPTY", "--host", "0.0.0.0"], "--tls-cert"),
        (["serve", "--studies", "nowhere"], "no such folder"),
        (["serve", "--studies", "EMPTY", "--conf", "context"], "KEY=VALUE"),
        (["serve", "--studies", "EMPTY", "--conf", "contxt=none"], "Allowed"),
        (["serve", "--studies", "EMPTY", "--port", "0"], "65535"),
        (["prepare"], "resmtnet prepare --help"),
        (["segment"], "segment"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_in_one_line_with_exit_code_2(
    arguments: list[str],
    said: str,
    ct: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no CT")
    places = {"CT": str(ct), "EMPTY": "empty", "TEXT": "notes.txt"}
    line = refusal(capsys, 2, *(places.get(argument, argument) for argument in arguments))
    assert line.startswith("resmtnet: ")
    assert said in line


def test_a_damaged_model_is_a_failure_with_exit_code_1(
    ct: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "manifest" in refusal(capsys, 1, "model", "verify", tmp_path)
    command = ("characterize", ct, "--at", "-75,0,20", "--model", tmp_path)
    assert "manifest" in refusal(capsys, 1, *command)


def test_a_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from resmtnet.server import launch

    def without_monailabel(options: launch.ServerOptions) -> int:
        raise ModuleNotFoundError("No module named 'monailabel'", name="monailabel")

    monkeypatch.setattr(launch, "serve", without_monailabel)
    assert cli.run(["serve", "--studies", str(tmp_path)]) == 1
    assert "resmtnet[app]" in capsys.readouterr().err


def test_model_verify_names_the_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = run_json(capsys, "model", "verify")
    assert (document["model"], document["version"], document["ok"]) == (str(model), "7", True)


def test_serve_hands_its_options_to_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from resmtnet.server import launch

    asked: list[launch.ServerOptions] = []

    def started(options: launch.ServerOptions) -> int:
        asked.append(options)
        return 0

    monkeypatch.setattr(launch, "serve", started)
    conf = ("--conf", "context=incidental", "--conf", "warm_up=false")
    document = run_json(capsys, "serve", "--studies", tmp_path, "--port", 8123, *conf)
    assert document["url"] == "http://127.0.0.1:8123"
    assert asked[0].studies == str(tmp_path)
    assert asked[0].conf == {"context": "incidental", "warm_up": "false"}


def test_prepare_phantom_hands_on_seed_and_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import resmtnet.ct.phantom as package

    asked: list[tuple[object, ...]] = []

    def write(*arguments: object) -> package.StudyPaths:
        asked.append(arguments)
        return package.StudyPaths(tmp_path / "image", tmp_path / "truth")

    monkeypatch.setattr(package, "write_study_folder", write)
    document = run_json(
        capsys, "prepare", "phantom", "--out", tmp_path, "--seed", 4, "--format", "dicom"
    )
    assert asked == [(tmp_path, 4, "dicom")]
    assert document["image"] == str(tmp_path / "image")


def test_train_hands_its_options_to_the_experiment(
    small_archive: Archive,
    held: list[CachedNodule],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from resmtnet.training import run as experiment

    asked: dict[str, Any] = {}

    def run_experiment(
        archive: Archive, config: TrainingConfig, out: Path, **more: Any
    ) -> ModelInfo:
        asked.update(more, archive=archive, config=config, out=out)
        step = TrainingProgress(epoch=1, epochs=2, step=0, steps=10, loss=0.5)
        more["listener"].training("run/member-0", step)
        more["listener"].calibration(3, 4)
        return ModelInfo("resmtnet", more["version"], "abc")

    monkeypatch.setattr(experiment, "run_experiment", run_experiment)
    config, out, folds = tmp_path / "config.json", tmp_path / "run", tmp_path / "folds"
    config.write_text(json.dumps(to_dict(CONFIG)))
    (folds / "folds-0").mkdir(parents=True)
    save_cached(folds / "folds-0" / HELD, held[:3])
    arguments = ["--data", small_archive.path, "--out", out, "--config", config, "--fold", 1]
    arguments += ["--model-version", "8", "--device", "cpu", "--resume", "--json"]
    arguments += ["--calibrate-with", folds]
    arguments += ["--start-from", tmp_path / "a.pt", "--start-from", tmp_path / "b.pt"]
    assert cli.run(["train", *map(str, arguments)]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["version"] == "8"
    assert printed.err.splitlines() == [
        "training run/member-0: 11/20 epoch 2/2 loss 0.500",
        "calibration: 3/4",
    ]
    assert asked["archive"].path == small_archive.path
    assert asked["config"] == replace(CONFIG, calibration_folds=(1,))
    assert (asked["out"], asked["device"], asked["resume"]) == (out, "cpu", True)
    assert [one.case.id for one in asked["further"]] == [one.case.id for one in held[:3]]
    assert asked["start"] == [tmp_path / "a.pt", tmp_path / "b.pt"]


def test_evaluate_writes_figures_of_the_split_asked_for(
    small_archive: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report"
    arguments = ("--data", small_archive.path, "--out", report, "--split", "val", "--saliency", "0")
    document = run_json(capsys, "evaluate", *arguments)
    assert document["data"]["nodules"] == 4
    assert {path.name for path in report.iterdir()} >= {"metrics.json", "report.html"}


def test_progress_is_plain_lines_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell = _PlainLines()
    for done in range(1, 51):
        tell("nodules", done, 50, "")
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-1]) == ("nodules: 1/50", "nodules: 50/50")
    assert len(lines) == 2


def test_the_command_line_runs_as_a_module(checkout: Path) -> None:
    command = [sys.executable, "-m", "resmtnet.cli", "serve", "--studies", "nowhere"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=checkout / "lib", check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "seriesuid,coordX,coordY,coordZ,probability\nother,1,2,3,0.9\nCT,4,5,6,0.1\n",
        "x,y,z\n4,5,6\n",
    ],
)
def test_candidates_of_another_detector_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    assert read_candidates(path, "CT") == [(4.0, 5.0, 6.0)]


def test_candidates_of_other_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("seriesuid,coordX,coordY,coordZ\nother,1,2,3\n")
    with pytest.raises(PointError, match="no row is of the image CT"):
        read_candidates(path, "CT")
    with pytest.raises(PointError, match="no such file"):
        read_candidates(tmp_path / "none.csv", "CT")


def test_a_table_with_quoted_titles_is_read_and_one_of_another_encoding_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "points.csv"
    path.write_text('"coordX", "coordY","coordZ"\n4,5,6\n')
    assert read_candidates(path, "CT") == [(4.0, 5.0, 6.0)]
    path.write_bytes("x,y,z,rößer\n1,2,3,ö\n".encode("latin-1"))  # as Excel saves it
    with pytest.raises(ArchiveError, match="UTF-8"):
        read_candidates(path, "CT")
