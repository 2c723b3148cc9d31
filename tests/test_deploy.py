"""The files of deploy/: whole, consistent with the code, and strict; no engine is needed."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from resmtnet import cli
from resmtnet.monai_label.settings import AppSettings

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"


def _lock() -> Any:
    """The script deploy/lock.py as a module."""
    spec = importlib.util.spec_from_file_location("deploy_lock", DEPLOY / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = _lock()


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def starts() -> dict[str, str]:
    """The command that starts the server, by file."""
    texts = {path.name: path.read_text("utf-8") for path in DEPLOY.iterdir() if path.is_file()}
    found = {
        name: match[1]
        for name, text in texts.items()
        if (match := re.search(r"resmtnet (serve --studies[^\n]*)", text)) and name != "lock.py"
    }
    assert set(found) == {"resmtnet.service", "Dockerfile"}
    return found


def test_every_option_and_setting_of_a_start_exists() -> None:
    serve: Any = get_command(cli.app)
    options = {o for p in serve.commands["serve"].params for o in p.opts}
    keys = set(AppSettings.__dataclass_fields__)
    for name, command in starts().items():
        assert set(re.findall(r"--[a-z-]+", command)) <= options, name
        assert set(re.findall(r'--conf \\?"?(\w+)=', command)) <= keys, name


def test_every_start_asks_all_clients_for_a_token() -> None:
    assert all("--behind-proxy" in command for command in starts().values())


def test_the_image_has_pinned_hashes_no_root_and_a_health_check() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    steps = [line.split()[0] for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    known = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL"}
    assert set(steps) <= known | {"HEALTHCHECK", "CMD"}
    assert "--require-hashes" in text
    assert re.search(r"^USER (?!0\b|root)\d+:\d+$", text, re.MULTILINE)
    assert not re.search(r"^FROM \S+(:latest)?$", text, re.MULTILINE) or ":3.11" in text
    for source in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        missing = [s for s in source.split() if not (DEPLOY.parent / s).exists()]
        assert missing == []


def test_the_server_of_the_compose_file_can_write_to_its_volumes_alone(compose: Any) -> None:
    server = compose["services"]["server"]
    assert server["read_only"]
    assert server["cap_drop"] == ["ALL"]
    assert server["user"].split(":")[0] != "0"
    assert "ports" not in server  # only the proxy is reached from outside
    published = [p for s in compose["services"].values() for p in s.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert {"server", "orthanc", "ohif", "proxy"} == set(compose["services"])


def test_what_the_compose_file_names_exists(compose: Any) -> None:
    for service in compose["services"].values():
        assert set(service["networks"]) <= set(compose["networks"])
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).is_file(), source
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        image = service.get("image")
        assert image is None or re.search(r":v?\d", image), image


def test_no_secret_is_in_the_examples() -> None:
    for path in DEPLOY.glob("*.example"):
        for name, value in re.findall(r"^(\w*PASSWORD\w*)=(.*)$", path.read_text(), re.MULTILINE):
            assert value == "", f"{path.name}: {name}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "resmtnet.service").read_text("utf-8")
    copy = tmp_path / "resmtnet.service"
    copy.write_text(unit.replace("/opt/resmtnet/.venv/bin/resmtnet", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert "resmtnet.service" not in done.stderr, done.stderr


def test_the_lock_is_of_these_requirements_and_of_what_is_installed() -> None:
    assert lock.problems() == []


def test_a_lock_that_is_stale_or_without_hashes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "requirements.lock"
    text = lock.LOCK.read_text("utf-8")
    monkeypatch.setattr(lock, "LOCK", copy)
    copy.write_text(text.replace("numpy==1.26.4", "numpy==1.26.3"))
    assert any("numpy" in line for line in lock.problems())
    copy.write_text(re.sub(r"sha256 [0-9a-f]{64}", "sha256 0", text, count=1))
    assert "it was made from another requirements.txt" in lock.problems()
    copy.write_text(re.sub(r"--hash=sha256:\w+ ?\\?", "", text, count=3))
    copy.unlink()
    assert lock.problems() == ["there is no requirements.lock"]
