"""A server that asks for a login: 3D Slicer's plugin, a browser, and programs log in to it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from phantom_readings import EAGER, points_lps_mm, read
from resmtnet.audit import FILE
from resmtnet.ct.phantom import Phantom, write_nifti
from resmtnet.readings.location import database_in
from resmtnet.readings.store import ReadingStore
from resmtnet.server.launch import (
    ServerOptions,
    default_app_dir,
    free_port,
    running_server,
)
from resmtnet.server.tokens import Tokens, find_tokens

pytestmark = [
    pytest.mark.server,
    # The plugin's client leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PLUGIN = "monailabel/plugins/slicer/MONAILabel/MONAILabelLib/client.py"
LOG_CONFIG = re.compile(r"/tmp/tmp\w+\.json$")
CHROMIUM = shutil.which("chromium")


@dataclass(frozen=True)
class Site:
    url: str
    tokens: Tokens
    studies: Path
    written: tuple[Path, ...]
    """Where the server writes."""


@pytest.fixture(scope="module")
def site(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("login")
    write_nifti(phantom, folder / "studies" / "phantom.nii.gz")
    # As an earlier version has written it, with an audit log that all can read.
    (folder / "studies" / "resmtnet" / "answers").mkdir(parents=True)
    (folder / "studies" / "resmtnet" / FILE).touch(0o644)
    tokens = find_tokens(folder / "config" / "resmtnet" / "tokens")
    (folder / "app").mkdir()
    shutil.copy(default_app_dir() / "main.py", folder / "app")
    (folder / "tmp").mkdir()
    conf = {"token_file": str(folder / "config" / "resmtnet" / "tokens"), "log_format": "json"}
    written = tuple(folder / n for n in ("studies/resmtnet", "studies/labels", "app/logs", "cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESMTNET_CACHE_DIR", str(folder / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("TMPDIR", str(folder / "tmp"))
        options = ServerOptions(
            str(folder / "studies"), port=free_port(), conf=conf, app_dir=folder / "app"
        )
        earlier = os.umask(0o022)
        try:
            with running_server(options, timeout_s=240.0) as url:
                patch.undo()
                os.umask(earlier)
                yield Site(
                    url, tokens, folder / "studies", (*written, folder / "config", folder / "tmp")
                )
        finally:
            os.umask(earlier)


def plugin_client(site: Site, folder: Path) -> Any:
    """The client of 3D Slicer's plugin, as the plugin brings it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(sys.prefix) / PLUGIN
        spec = importlib.util.spec_from_file_location("slicer_client", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.MONAILabelClient(site.url, str(folder), "dr-ann")


def test_the_plugin_of_3d_slicer_logs_in_reads_and_corrects(site: Site, tmp_path: Path) -> None:
    """In the order of calls of MONAILabel.py of the plugin."""
    client = plugin_client(site, tmp_path)
    with pytest.raises(Exception, match="401"):
        client.info()
    assert client.auth_enabled()
    assert not client.auth_valid_token()
    with pytest.raises(Exception, match="no token"):
        client.auth_token("ann", "a wrong password")
    client.update_auth(client.auth_token("ann", site.tokens.by_role["reader"]))
    assert client.auth_valid_token()
    assert "resmtnet_click" in client.info()["models"]
    assert client.next_sample("random", {})["id"] == "phantom"
    mask, params = client.infer("resmtnet", "phantom", {"result_extension": ".nrrd"})
    assert params["schema"] == "resmtnet.findings/1"
    info = [{"name": "malignant", "idx": 2}]
    reply = client.save_label("phantom", mask, params={"label_info": info})
    assert reply
    with pytest.raises(Exception, match="role trainer"):
        client.train_start("resmtnet", {})


def test_a_program_sends_the_token_as_a_header(site: Site) -> None:
    assert httpx.get(f"{site.url}/resmtnet/readings").status_code == 401
    headers = {"Authorization": f"Bearer {site.tokens.by_role['trainer']}"}
    assert "readings" in httpx.get(f"{site.url}/resmtnet/readings", headers=headers).json()
    assert httpx.get(f"{site.url}/logs/", headers=headers).status_code == 403


def test_a_browser_gets_a_cookie_from_the_printed_address(site: Site) -> None:
    token = site.tokens.by_role["reader"]
    with httpx.Client(base_url=site.url, follow_redirects=True) as browser:
        assert browser.get("/ohif/", headers={"Accept": "text/html"}).url.path == "/login"
        page = browser.get(f"/ohif/?token={token}")
        assert "font-src 'self' data:" in page.headers["content-security-policy"]
        assert (page.status_code, page.url.path, page.url.query) == (200, "/ohif/", b"")
        assert "OHIF" in page.text
        assert browser.get("/info/").json()["name"] == "Res-MTNet"


@pytest.mark.viewers
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_chromium_logs_in_on_the_page_and_ohif_may_ask(site: Site) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.goto(f"{site.url}/ohif/?a=1")
        assert "/login" in page.url
        page.fill("input[name=token]", site.tokens.by_role["reader"])
        page.click("button")
        page.wait_for_url("**/ohif/**")
        status = page.evaluate("fetch('/info/').then(reply => reply.status)")
        assert status == 200
        assert "resmtnet" not in page.evaluate("document.cookie")  # no script can read it
        browser.close()


def test_health_is_open_ready_too_and_figures_need_a_token(site: Site) -> None:
    assert httpx.get(f"{site.url}/health").json() == {"status": "ok"}
    ready = httpx.get(f"{site.url}/ready")
    assert (ready.status_code, set(ready.json()["checks"].values())) == (200, {"ok"})
    assert httpx.get(f"{site.url}/metrics").status_code == 401
    headers = {"Authorization": f"Bearer {site.tokens.by_role['reader']}"}
    figures = httpx.get(f"{site.url}/metrics", headers=headers).text
    for name in (
        'resmtnet_request_seconds_bucket{le="0.1",method="GET",route="/health",status="200"}',
        "resmtnet_model_info{",
        "resmtnet_readings ",
        "resmtnet_training_running 0",
        "resmtnet_open_cts ",
        "resmtnet_cache_bytes ",
        'resmtnet_requests_running{route="/metrics"} 1',
    ):
        assert name in figures, name
    assert "phantom" not in figures


def test_the_audit_log_tells_logins_and_readings_and_no_secret(site: Site) -> None:
    path = site.studies / "resmtnet" / FILE
    headers = {"Authorization": f"Bearer {site.tokens.by_role['reader']}"}
    place = {"image": "phantom", "reader": "ann", "centre_lps_mm": [-75.0, 0.0, 20.0]}
    given = {**place, "class": "benign"}
    reply = httpx.post(f"{site.url}/resmtnet/readings", json=given, headers=headers)
    kept = reply.json()["reading"]["id"]
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    (line,) = [one for one in lines if one.get("reading") == kept]
    assert (line["event"], line["role"], line["client"]) == ("reading kept", "reader", "127.0.0.1")
    assert line["request_id"] == reply.headers["x-request-id"]
    httpx.get(f"{site.url}/?token={site.tokens.by_role['admin']}")
    httpx.get(f"{site.url}/?token=wrong")
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events[-2:] == ["login", "login refused"]
    assert not any(token in path.read_text() for token in site.tokens.by_role.values())
    assert "phantom" not in text
    assert path.stat().st_mode & 0o077 == 0


def test_the_log_names_the_request_and_no_image(site: Site) -> None:
    headers = {"Authorization": f"Bearer {site.tokens.by_role['admin']}"}
    reply = httpx.get(f"{site.url}/datastore/image/info?image=phantom", headers=headers)
    log = httpx.get(f"{site.url}/logs/?lines=200&text=true", headers=headers).text
    (line,) = [line for line in log.splitlines() if reply.headers["x-request-id"] in line]
    told = json.loads(line)
    assert (told["route"], told["status"], told["role"]) == ("/datastore", 200, "admin")
    assert told["ms"] >= 0
    since = log[log.index('"message": "answered"') :]
    assert "phantom" not in since
    assert not any(token in log for token in site.tokens.by_role.values())


def test_nobody_else_can_read_what_the_server_writes(site: Site, tmp_path: Path) -> None:
    """Under umask 022: readings, answers, labels, list, caches, log, tokens, uploads."""
    headers = {"Authorization": f"Bearer {site.tokens.by_role['reader']}"}
    clicked = {"params": json.dumps({"foreground": [[40, 40, 20]]})}
    with httpx.Client(base_url=site.url, headers=headers, timeout=120) as client:
        client.post("/infer/resmtnet_click?image=phantom&output=json", data=clicked)
        label = {"label": ("a.json", b"{}")}
        client.put("/datastore/label?image=phantom", files=label, data={"params": "{}"})
    inside = [path for folder in site.written for path in folder.rglob("*")]
    inside += [folder for folder in site.written if folder.name not in ("tmp", "config")]
    inside += [*site.studies.glob("datastore_v2*.json")]
    names = {path.name for path in inside}
    assert {"readings.sqlite", "answers", FILE, "phantom.json", "datastore_v2.json"} <= names
    assert {"app.log", "volumes", "tokens"} <= names
    readable = [str(path) for path in inside if path.exists() and path.stat().st_mode & 0o077]
    # What other packages write names no patient: a list of fonts, and how the log is set up.
    by_others = [p for p in readable if "matplotlib" in p or LOG_CONFIG.search(p)]
    assert sorted(set(readable) - set(by_others)) == []


def test_a_wrong_token_is_told_on_the_page(site: Site) -> None:
    reply = httpx.post(f"{site.url}/login", data={"token": "wrong"})
    assert reply.status_code == 401
    assert "<form" in reply.text
    assert "no token of this server" in reply.text


def test_many_wrong_tokens_are_put_off_and_who_was_in_stays_in(site: Site) -> None:
    right = {"Authorization": f"Bearer {site.tokens.by_role['reader']}"}
    assert httpx.get(f"{site.url}/info/", headers=right).status_code == 200
    statuses = [
        httpx.get(f"{site.url}/info/", headers={"Authorization": f"Bearer guess-{n}"}).status_code
        for n in range(25)
    ]
    assert set(statuses) == {401, 429}
    put_off = httpx.get(f"{site.url}/?token={site.tokens.by_role['admin']}")
    assert put_off.status_code == 429
    assert int(put_off.headers["retry-after"]) > 0
    assert httpx.get(f"{site.url}/info/", headers=right).status_code == 200


def test_https_and_the_end_of_a_server_that_trains(phantom: Phantom, tmp_path: Path) -> None:
    """`resmtnet serve` on all addresses with a certificate; SIGTERM ends it at once."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl")
    write_nifti(phantom, tmp_path / "studies" / "phantom.nii.gz")
    with ReadingStore.open(database_in(tmp_path / "studies")) as store:
        read(store, points_lps_mm(phantom, 6))
    cert, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
    made = [*("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"), "-subj", "/CN=here"]
    subprocess.run(
        [openssl, *made, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True
    )
    command = [sys.executable, "-m", "resmtnet.cli", "serve", "--studies", tmp_path / "studies"]
    command += ["--host", "0.0.0.0", "--port", str(port), "--tls-cert", cert, "--tls-key", key]
    command += ["--token-file", tmp_path / "tokens", "--conf", "warm_up=false"]
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "RESMTNET_CACHE_DIR": str(tmp_path / "cache")}
    environment["TMPDIR"] = str(tmp_path / "tmp")
    with (tmp_path / "log").open("w+") as log:
        server = subprocess.Popen(
            [str(part) for part in command], env=environment, stdout=log, stderr=log
        )
        try:
            trusting = httpx.Client(
                base_url=f"https://127.0.0.1:{port}",
                verify=ssl._create_unverified_context(),
                timeout=60,
            )
            with trusting as client:
                _until_it_answers(client, server, tmp_path / "log")
                assert client.get("/info/").status_code == 401
                big = {"X-Big": "a" * 200_000}
                assert client.get("/health", headers=big).status_code == 400  # headers are bounded
                printed = (tmp_path / "log").read_text()
                token = find_tokens(tmp_path / "tokens").by_role["admin"]
                assert f"https://127.0.0.1:{port}/resmtnet/?token={token}" in printed
                reply = client.get(f"/?token={token}")
                assert "secure" in reply.headers["set-cookie"].lower()
                headers = {"Authorization": f"Bearer {token}"}
                begun = client.post("/train/resmtnet", json=EAGER, headers=headers)
                assert begun.status_code == 200, begun.text
                with ThreadPoolExecutor(1) as pool:
                    place = {"image": "phantom", "reader": "b", "centre_lps_mm": [-75.0, 0.0, 20.0]}
                    kept = client.post(
                        "/resmtnet/readings", json={**place, "class": "benign"}, headers=headers
                    )
                    clicked = pool.submit(
                        client.post,
                        "/infer/resmtnet_click?image=phantom&output=json",
                        data={"params": json.dumps({"foreground": [[40, 40, 20]]})},
                        headers=headers,
                        timeout=60,
                    )
                    _until_one_runs(client, headers)
                    server.send_signal(signal.SIGTERM)
                    assert clicked.result().status_code == 200  # what runs is answered
            assert server.wait(60) in (0, -signal.SIGTERM)
            with ReadingStore.open(database_in(tmp_path / "studies")) as store:
                assert store.get(kept.json()["reading"]["id"]) is not None
            assert list((tmp_path / "tmp").glob("resmtnet-*")) == []
        finally:
            server.kill()
            server.wait()


def _until_one_runs(client: httpx.Client, headers: dict[str, str]) -> None:
    """Wait until an inference runs, or was answered already."""
    for _ in range(600):
        figures = client.get("/metrics", headers=headers).text
        if 'resmtnet_requests_running{route="/infer"} 1' in figures or 'route="/infer"' in (
            "".join(line for line in figures.splitlines() if "seconds_count" in line)
        ):
            return


def _until_it_answers(client: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    import time

    for _ in range(1500):
        try:
            client.get("/health")
        except httpx.TransportError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        else:
            return
    pytest.fail("the server did not answer")
