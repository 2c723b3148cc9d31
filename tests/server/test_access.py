"""Who may ask: tokens, roles, and the ways in for programs, browsers and 3D Slicer's plugin."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from resmtnet.errors import ConfigError
from resmtnet.server import access, tokens
from resmtnet.server.guard import Guard
from resmtnet.server.rules import ServerRules
from resmtnet.server.tokens import ROLES, Tokens, find_tokens

TOKENS = Tokens({role: f"{role}-{'x' * 20}" for role in ROLES}, "test")
ALWAYS = ServerRules(tokens=TOKENS, login="always")
HERE, ELSEWHERE = ("127.0.0.1", 50_000), ("10.0.0.7", 50_000)


def bearer(role: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS.by_role[role]}"}


@pytest.fixture(autouse=True)
def no_guesses() -> None:
    """Wrong tokens of the other tests do not count."""
    TOKENS.guesses._clients.clear()


def ask(
    method: str,
    path: str,
    rules: ServerRules = ALWAYS,
    client: tuple[str, int] = HERE,
    base: str = "http://127.0.0.1:8000",
    cookies: dict[str, str] | None = None,
    **more: Any,
) -> httpx.Response:
    async def run() -> httpx.Response:
        app = Guard(PlainTextResponse("data"), lambda: rules)
        transport = httpx.ASGITransport(app=app, client=client)
        kept = httpx.Cookies(cookies)
        async with httpx.AsyncClient(transport=transport, base_url=base, cookies=kept) as asking:
            return await asking.request(method, path, **more)

    return asyncio.run(run())


# -- who needs a token -----------------------------------------------------------------------------


def test_a_program_of_this_machine_needs_no_token() -> None:
    assert ask("GET", "/info/", ServerRules(tokens=TOKENS)).status_code == 200


@pytest.mark.parametrize(
    ("rules", "client", "headers"),
    [
        (ServerRules(tokens=TOKENS, login="always"), HERE, {}),
        (ServerRules(tokens=TOKENS, behind_proxy=True), HERE, {}),
        (ServerRules(tokens=TOKENS, hosts=("viewer.example",)), HERE, {}),
        (ServerRules(tokens=Tokens(TOKENS.by_role, "file", chosen=True)), HERE, {}),
        (ServerRules(tokens=TOKENS), HERE, {"X-Forwarded-For": "127.0.0.1"}),
        (ServerRules(tokens=TOKENS), HERE, {"Forwarded": "for=127.0.0.1"}),
        (ServerRules(tokens=TOKENS), HERE, {"X-Forwarded-Proto": "https"}),
        (ServerRules(tokens=TOKENS), HERE, {"CF-Connecting-IP": "127.0.0.1"}),
        (ServerRules(tokens=TOKENS), HERE, {"True-Client-IP": "127.0.0.1"}),
        (ServerRules(tokens=TOKENS), HERE, {"Tailscale-User-Login": "a@b"}),
        (ServerRules(tokens=TOKENS, insecure=True), ELSEWHERE, {}),
        (ServerRules(tokens=None, insecure=True), ELSEWHERE, {}),
    ],
    ids=lambda value: "",
)
def test_every_other_client_needs_one(
    rules: ServerRules, client: tuple[str, int], headers: dict[str, str]
) -> None:
    reply = ask("GET", "/info/", rules, client, headers=headers)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert "data" not in reply.text
    if rules.tokens:
        headers = {**headers, **bearer("reader")}
        assert ask("GET", "/info/", rules, client, headers=headers).text == "data"


def test_without_encryption_other_machines_are_not_even_let_to_send_a_token() -> None:
    plain = ServerRules(tokens=TOKENS)
    assert ask("GET", "/info/", plain, ELSEWHERE, headers=bearer("admin")).status_code == 403
    form = {"username": "ann", "password": TOKENS.by_role["admin"]}
    assert ask("POST", "/auth/token", plain, ELSEWHERE, data=form).status_code == 403
    https = "https://127.0.0.1:8000"
    reply = ask("GET", "/info/", plain, ELSEWHERE, https, headers=bearer("reader"))
    assert reply.status_code == 200


@pytest.mark.parametrize("given", ["", "x", "é", TOKENS.by_role["reader"][:-1], "a" * 10_000])
def test_a_wrong_token_opens_nothing(given: str) -> None:
    headers = {"Authorization": f"Bearer {given}".encode()}
    assert ask("GET", "/info/", headers=headers).status_code == 401


# -- roles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/info/", "reader"),
        ("GET", "/datastore/image?image=a", "reader"),
        ("GET", "/proxy/dicom/qido/studies", "reader"),
        ("GET", "/metrics", "reader"),
        ("POST", "/infer/resmtnet", "reader"),
        ("PUT", "/datastore/label?image=a", "reader"),
        ("POST", "/resmtnet/readings", "reader"),
        ("POST", "/activelearning/random", "reader"),
        ("PUT", "/datastore/image", "trainer"),
        ("PUT", "/datastore/label/info?label=a", "trainer"),
        ("POST", "/train/resmtnet", "trainer"),
        ("DELETE", "/train/", "trainer"),
        ("POST", "/batch/infer/resmtnet", "trainer"),
        ("DELETE", "/datastore/image?id=a", "admin"),
        ("DELETE", "/datastore/label?id=a", "admin"),
        ("GET", "/logs/", "admin"),
        ("GET", "/model/resmtnet", "admin"),
        ("POST", "/anything-else", "admin"),
    ],
)
def test_each_route_has_a_least_role(method: str, path: str, least: str) -> None:
    statuses = [ask(method, path, headers=bearer(role)).status_code for role in ROLES]
    enough = ROLES.index(least)
    assert statuses[:enough] == [403] * enough
    assert all(status not in (401, 403) for status in statuses[enough:])
    assert ask(method, path).status_code == 401


@pytest.mark.parametrize("path", ["/health", "/auth/", "/login"])
def test_what_shows_no_data_is_open(path: str) -> None:
    assert ask("GET", path).status_code == 200


def test_a_path_that_only_begins_like_an_open_one_is_not() -> None:
    for path in ("/healthy", "/health/x", "/authority", "/staticx", "//health"):
        assert access.needed_role("GET", path) is not None, path


# -- browsers --------------------------------------------------------------------------------------


def test_the_printed_address_gives_a_cookie_and_the_token_leaves_the_address_bar() -> None:
    token = TOKENS.by_role["reader"]
    first = ask("GET", f"/ohif/?token={token}&StudyInstanceUIDs=1.2")
    assert (first.status_code, first.headers["location"]) == (303, "/ohif/?StudyInstanceUIDs=1.2")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert token not in cookie
    assert "no-store" in first.headers["cache-control"]
    assert ask("GET", "/info/", cookies=dict(first.cookies)).text == "data"
    assert ask("POST", "/train/resmtnet", cookies=dict(first.cookies)).status_code == 403


def test_a_wrong_token_in_the_address_gives_none() -> None:
    reply = ask("GET", "/?token=wrong")
    assert reply.status_code == 401
    assert "set-cookie" not in reply.headers


def test_over_https_the_cookie_is_secure() -> None:
    token = TOKENS.by_role["reader"]
    reply = ask("GET", f"/?token={token}", base="https://127.0.0.1:8000")
    assert "secure" in reply.headers["set-cookie"].lower()


def test_behind_a_proxy_that_encrypts_the_cookie_is_secure_too() -> None:
    token, told = TOKENS.by_role["reader"], {"X-Forwarded-Proto": "https"}
    proxied = ServerRules(tokens=TOKENS, behind_proxy=True)
    reply = ask("GET", f"/?token={token}", proxied, headers=told)
    assert "secure" in reply.headers["set-cookie"].lower()
    assert "secure" not in ask("GET", f"/?token={token}", proxied).headers["set-cookie"].lower()


def test_a_browser_is_asked_to_log_in_and_comes_back() -> None:
    page = {"Accept": "text/html"}
    sent = ask("GET", "/ohif/viewer?StudyInstanceUIDs=1.2", headers=page)
    assert sent.status_code == 303
    login = sent.headers["location"]
    shown = ask("GET", login)
    assert "password" in shown.text
    assert "script" not in shown.text
    wrong = ask("POST", login, data={"token": "wrong"})
    assert wrong.status_code == 401
    done = ask("POST", login, data={"token": TOKENS.by_role["reader"]})
    assert done.headers["location"] == "/ohif/viewer?StudyInstanceUIDs=1.2"
    cookies = dict(done.cookies)
    assert ask("GET", "/ohif/", cookies=cookies, headers=page).text == "data"
    assert "Max-Age=0" in ask("POST", "/logout", cookies=cookies).headers["set-cookie"]


@pytest.mark.parametrize("elsewhere", ["//evil.example", "https://evil.example", "/%5cevil"])
def test_logging_in_leads_to_no_other_server(elsewhere: str) -> None:
    token = TOKENS.by_role["reader"]
    done = ask("POST", f"/login?next={elsewhere}", data={"token": token})
    assert done.headers["location"] == "/"
    reply = ask("GET", f"http://127.0.0.1:8000//evil.example/?token={token}")
    assert reply.headers["location"] == "/"


def test_a_cookie_of_another_port_or_role_is_none() -> None:
    cookie = TOKENS.cookie("admin")
    assert ask("GET", "/info/", cookies={"resmtnet-8000": cookie}).status_code == 200
    assert ask("GET", "/info/", cookies={"resmtnet-9000": cookie}).status_code == 401
    assert ask("GET", "/info/", cookies={"resmtnet-8000": TOKENS.by_role["admin"]}).is_error
    assert ask("GET", "/info/", headers={"Authorization": f"Bearer {cookie}"}).is_error


def test_the_page_of_another_site_cannot_use_the_cookie() -> None:
    cookies = {"resmtnet-8000": TOKENS.cookie("admin")}
    headers = {"Origin": "http://evil.example"}
    assert ask("POST", "/train/resmtnet", cookies=cookies, headers=headers).status_code == 403
    form = {"token": TOKENS.by_role["admin"]}
    assert ask("POST", "/login", data=form, headers=headers).status_code == 403


# -- 3D Slicer's plugin ----------------------------------------------------------------------------


def test_the_routes_that_monai_labels_clients_ask() -> None:
    assert ask("GET", "/auth/").json() == {"enabled": True}
    assert ask("GET", "/auth/", ServerRules(tokens=TOKENS)).json() == {"enabled": False}
    form = {"username": "ann", "password": TOKENS.by_role["trainer"], "grant_type": "password"}
    given = ask("POST", "/auth/token", data=form).json()
    headers = {"Authorization": f"{given['token_type']} {given['access_token']}"}
    assert ask("GET", "/auth/token/valid", headers=headers).json()["roles"] == ["trainer"]
    assert ask("POST", "/train/resmtnet", headers=headers).status_code == 200
    assert ask("GET", "/auth/token/valid").status_code == 401
    assert ask("POST", "/auth/token", data={**form, "password": "wrong"}).status_code == 401


# -- where tokens are kept -------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_named_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in tokens.NAMED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_the_first_start_makes_a_token_for_each_role_that_only_the_user_can_read() -> None:
    made = find_tokens()
    path = tokens.default_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert set(made.by_role) == set(ROLES)
    assert len({*made.by_role.values()}) == 3
    assert min(map(len, made.by_role.values())) >= 40
    assert find_tokens() == made
    assert not made.chosen
    assert made.by_role["admin"] not in repr(made)


def test_a_named_file_or_token_is_asked_for_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine"
    assert find_tokens(file).chosen
    monkeypatch.setenv("RESMTNET_TOKEN_FILE", str(file))
    assert find_tokens() == find_tokens(file)
    monkeypatch.setenv("RESMTNET_TOKEN", "a-token-of-my-own-choice")
    assert find_tokens().by_role == {"admin": "a-token-of-my-own-choice"}
    assert find_tokens().chosen
    assert find_tokens(file).by_role != find_tokens().by_role  # what is named comes first


@pytest.mark.parametrize(
    "text",
    [
        *("", "short", "owner aaaaaaaaaaaaaaaaaaaaa", "reader a b", "admin ü" + "a" * 20),
        "reader aaaaaaaaaaaaaaaaaaaa\nadmin aaaaaaaaaaaaaaaaaaaa",
    ],
)
def test_weak_or_odd_tokens_are_refused_without_being_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="no tokens") as caught:
        find_tokens(file)
    assert "aaaaaaaa" not in str(caught.value)


def test_a_file_that_all_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    find_tokens(file)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        find_tokens(file)


def test_a_file_that_cannot_be_made_is_told_with_advice(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ConfigError, match="--token-file"):
        find_tokens(tmp_path / "a" / "tokens")
