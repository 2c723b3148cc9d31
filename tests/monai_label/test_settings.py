import dataclasses
import re
from pathlib import Path

import pytest

from resmtnet.errors import ConfigError
from resmtnet.monai_label.settings import MODELS, AppSettings


def test_without_conf_all_models_are_offered() -> None:
    assert AppSettings.from_conf({}).models == MODELS


def test_every_key_has_an_effect(tmp_path: Path) -> None:
    conf = {
        "models": "resmtnet_findings, resmtnet",
        "model_dir": str(tmp_path),
        "device": "cuda:1",
        "onnx": str(tmp_path),
        "context": "incidental",
        "max_candidates": "5",
        "warm_up": "false",
        "ct_cache": "0",
        "readings": str(tmp_path / "site" / "r.sqlite"),
        "train_after": "20",
        "repeat_share": "0.1",
        "archive": str(tmp_path),
        "login": "always",
        "token_file": str(tmp_path / "tokens"),
        "behind_proxy": "true",
        "insecure": "true",
        "log_format": "json",
        "candidate_threshold": "0.2",
        "sessions": "true",
        "store_results": "on_submit",
        "results_node": "PACS@10.0.0.1:104",
        "poll_s": "5",
        "hosts": "viewer.example",
        "origins": "https://viewer.example",
        "upload_mb": "10",
        "upload_days": "7",
        "cache_days": "8",
        "pacs_cache_gb": "9",
        "umask": "027",
    }
    assert set(conf) == set(AppSettings.__dataclass_fields__)
    assert AppSettings.from_conf(conf) == AppSettings(
        models=("resmtnet", "resmtnet_findings"),
        model_dir=tmp_path,
        device="cuda:1",
        onnx=tmp_path,
        context="incidental",
        max_candidates=5,
        warm_up=False,
        ct_cache=0,
        readings=tmp_path / "site" / "r.sqlite",
        train_after=20,
        repeat_share=0.1,
        archive=tmp_path,
        login="always",
        token_file=tmp_path / "tokens",
        behind_proxy=True,
        insecure=True,
        log_format="json",
        candidate_threshold=0.2,
        sessions=True,
        store_results="on_submit",
        results_node="PACS@10.0.0.1:104",
        poll_s=5,
        hosts=("viewer.example",),
        origins=("https://viewer.example",),
        upload_mb=10,
        upload_days=7,
        cache_days=8,
        pacs_cache_gb=9,
        umask="027",
    )


def test_the_page_of_the_server_lists_every_key_with_its_default() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "server.md").read_text("utf-8")
    table = page.partition("## Settings of the app")[2].partition("## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| ", table, re.MULTILINE))
    assert set(rows) == set(AppSettings.__dataclass_fields__)
    for key in dataclasses.fields(AppSettings):
        (told,) = re.findall(r"\*\*(.+?)\*\*", rows[key.name])
        default = "all" if key.default == MODELS else key.default
        if default in (None, (), "") and default is not False:
            continue  # told in words
        if isinstance(default, bool):
            default = str(default).lower()
        assert told == (f"{default:g}" if isinstance(default, float) else str(default)), key.name


def test_every_key_says_how_it_is_parsed_and_its_default_is_what_its_text_means() -> None:
    for key in dataclasses.fields(AppSettings):
        assert callable(key.metadata["parse"]), key.name
        if isinstance(key.default, (bool, int, str)):
            assert key.metadata["parse"](key.name, str(key.default)) == key.default


def test_an_unknown_key_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"'contxt'.*models.*context.*ct_cache"):
        AppSettings.from_conf({"contxt": "incidental"})


def test_keys_of_other_apps_are_ignored() -> None:
    assert AppSettings.from_conf({"preload": "true", "server_mode": "true"}) == AppSettings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models", "resnet"),
        ("models", ""),
        ("model_dir", "/no/such/folder"),
        ("device", "gpu"),
        ("context", "screening"),
        ("max_candidates", "0"),
        ("candidate_threshold", "1.2"),
        ("candidate_threshold", "high"),
        ("max_candidates", "many"),
        ("warm_up", "maybe"),
        ("ct_cache", "-1"),
        ("readings", "readings"),
        ("train_after", "often"),
        ("archive", "no-such-folder"),
        ("login", "never"),
        ("token_file", "/"),
        ("behind_proxy", "perhaps"),
        ("log_format", "xml"),
        ("umask", "022"),
        ("cache_days", "-1"),
    ],
)
def test_an_impossible_value_is_refused_with_its_key(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"--conf {key}"):
        AppSettings.from_conf({key: value})


def test_readings_lie_with_the_studies_or_where_a_setting_says(tmp_path: Path) -> None:
    inside = Path("resmtnet", "readings.sqlite")
    assert AppSettings().database("app", "studies") == Path("studies") / inside
    assert AppSettings().database("app", "https://pacs/dicom-web") == Path("app") / inside
    named = AppSettings(readings=tmp_path / "r.sqlite")
    assert named.database("app", "studies") == tmp_path / "r.sqlite"
