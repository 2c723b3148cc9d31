import logging
import tempfile
from pathlib import Path

import pytest

from resmtnet.errors import ConfigError, InputError, ResMTNetError
from resmtnet.server import launch
from resmtnet.server.launch import ServerOptions, default_app_dir, free_port, running_server


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_hosts_are_served(tmp_path: Path, host: str) -> None:
    assert host in ServerOptions(str(tmp_path), host=host).url


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "radiology.example", ""])
def test_other_hosts_are_refused_unless_something_encrypts(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"without encryption.*--tls-cert.*--insecure"):
        ServerOptions(str(tmp_path), host=host)


@pytest.mark.parametrize("setting", ["behind_proxy", "insecure"])
def test_other_hosts_are_served_behind_a_proxy_or_when_told(tmp_path: Path, setting: str) -> None:
    options = ServerOptions(str(tmp_path), host="192.168.1.7", conf={setting: "true"})
    given = options.arguments()
    assert given[given.index("hosts") + 1] == "192.168.1.7"


def test_a_certificate_makes_it_https(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).touch()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    options = ServerOptions(str(tmp_path), host="::", tls_cert=cert, tls_key=key)
    assert options.url == "https://[::1]:8000"
    assert {"--ssl_certfile", "--ssl_keyfile", str(cert)} < set(options.arguments())
    assert "hosts" not in options.arguments()
    with pytest.raises(ConfigError, match="both are needed"):
        ServerOptions(str(tmp_path), tls_cert=cert)
    with pytest.raises(ConfigError, match="no file"):
        ServerOptions(str(tmp_path), tls_cert=cert, tls_key=tmp_path / "none")


def test_arguments_are_those_of_start_server(tmp_path: Path) -> None:
    options = ServerOptions(str(tmp_path), port=8123, conf={"context": "incidental"})
    assert options.arguments() == [
        "start_server",
        "--app",
        str(default_app_dir()),
        "--studies",
        str(tmp_path),
        "--host",
        "127.0.0.1",
        "--port",
        "8123",
        "--uvicorn_app",
        "resmtnet.server.app:app",
        "--conf",
        "context",
        "incidental",
    ]


def test_a_pacs_is_handed_over_as_its_url() -> None:
    url = "http://127.0.0.1:8042/dicom-web"
    assert url in ServerOptions(url).arguments()


def test_missing_studies_and_impossible_ports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        ServerOptions(str(tmp_path / "none"))
    for port in (0, 65536):
        with pytest.raises(ConfigError, match="--port"):
            ServerOptions(str(tmp_path), port=port)


def test_the_environment_of_the_user_goes_before_our_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONAI_LABEL_AUTO_UPDATE_SCORING", raising=False)
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_CACHE_EXPIRY", "7")
    environment = ServerOptions(str(tmp_path)).environment()
    assert environment["MONAI_LABEL_AUTO_UPDATE_SCORING"] == "false"
    assert environment["MONAI_LABEL_DICOMWEB_CACHE_EXPIRY"] == "7"


def test_the_app_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESMTNET_APP_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="RESMTNET_APP_DIR"):
        default_app_dir()
    (tmp_path / "main.py").touch()
    assert default_app_dir() == tmp_path


def test_a_server_that_stops_at_once_tells_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho the reason\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(launch.sys, "executable", str(program))
    options = ServerOptions(str(tmp_path), port=free_port())
    with pytest.raises(ResMTNetError, match=r"(?s)stopped.*the reason"), running_server(options):
        pass


def test_importing_the_launcher_is_light() -> None:
    import subprocess
    import sys

    code = "import sys, resmtnet.server.launch; sys.exit('monailabel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_settings_of_the_log_are_used_and_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made, own = tmp_path / "tmp1.json", tmp_path / "settings" / "log.json"
    own.parent.mkdir()
    for file in (made, own):
        file.write_text(
            '{"version": 1, "incremental": true, "loggers": {"made": {"level": "ERROR"}}}'
        )
    asked: list[dict[str, object]] = []
    launch.run_uvicorn(lambda *what, **how: asked.append(how), "app", log_config=str(made))
    launch.run_uvicorn(lambda *what, **how: asked.append(how), "app", log_config=str(own))
    assert [how["log_config"] for how in asked] == [None, str(own)]
    assert logging.getLogger("made").level == logging.ERROR
    assert {how["timeout_graceful_shutdown"] for how in asked} == {launch.GRACE_S}
    assert not made.exists()
    assert own.exists()
