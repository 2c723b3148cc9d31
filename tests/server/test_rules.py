"""Hosts, origins, paths and kinds of body that are refused."""

from __future__ import annotations

import pytest

from resmtnet.server import rules
from resmtnet.server.rules import Refused, ServerRules

NONE = ServerRules()
DECLARED = ServerRules(hosts=("ct.example",), origins=("https://viewer.example:3000",))


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_names_of_this_machine_are_served(host: str) -> None:
    rules.check_host(host, NONE)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", ""]
)
def test_another_name_is_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(Refused, match="--conf hosts") as caught:
        rules.check_host(host, NONE)
    assert caught.value.status_code == 421


def test_a_declared_name_is_served() -> None:
    rules.check_host("CT.example:443", DECLARED)
    with pytest.raises(Refused):
        rules.check_host("x.ct.example", DECLARED)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8000"},
        {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"},
        {"host": "127.0.0.1:8000", "sec-fetch-site": "same-origin"},
        {"host": "127.0.0.1:8000", "sec-fetch-site": "none"},
        {"host": "127.0.0.1:8000", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_own_pages_links_and_programs_may_ask(headers: dict[str, str]) -> None:
    rules.check_origin("GET", headers, NONE)


@pytest.mark.parametrize(
    "more",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://127.0.0.1:8000.evil.example"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_of_other_servers_may_not(more: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        rules.check_origin("GET", {"host": "127.0.0.1:8000", **more}, NONE)
    assert caught.value.status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_link_of_another_server_can_show_but_not_change(method: str) -> None:
    headers = {"host": "127.0.0.1:8000", "sec-fetch-site": "cross-site"}
    with pytest.raises(Refused):
        rules.check_origin(method, {**headers, "sec-fetch-mode": "navigate"}, NONE)


def test_a_declared_page_may() -> None:
    rules.check_origin("POST", {"host": "x", "origin": "https://viewer.example:3000"}, DECLARED)


@pytest.mark.parametrize(
    "path", ["/ohif/..", "/a/%2e%2e/b", "/a/..%2fb", "/a/%252e%252e%252fb", "/a%00", "/a%5cb"]
)
def test_steps_upwards_and_odd_characters_are_refused(path: str) -> None:
    with pytest.raises(Refused, match="path"):
        rules.check_path(path)


@pytest.mark.parametrize("path", ["/ohif/1.2..3.js", "/datastore/image", "/a%20b"])
def test_other_paths_are_not(path: str) -> None:
    rules.check_path(path)


@pytest.mark.parametrize(
    ("method", "path", "kind", "passes"),
    [
        ("POST", "/train/resmtnet", "application/json; charset=utf-8", True),
        ("POST", "/train/resmtnet", "text/plain", False),
        ("POST", "/activelearning/random", "", False),
        ("POST", "/resmtnet/readings", "multipart/form-data; boundary=a", False),
        ("POST", "/infer/resmtnet", "application/x-www-form-urlencoded", True),
        ("PUT", "/datastore/label", "multipart/form-data; boundary=a", True),
        ("PUT", "/datastore/label", "text/plain", False),
    ],
)
def test_a_body_is_of_the_kind_that_its_route_takes(
    method: str, path: str, kind: str, passes: bool
) -> None:
    rules.check_content_type(method, path, "", has_body=False)
    if passes:
        rules.check_content_type(method, path, kind, has_body=True)
    else:
        with pytest.raises(Refused) as caught:
            rules.check_content_type(method, path, kind, has_body=True)
        assert caught.value.status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/reload", 403),
        ("POST", "/reload/", 403),
        ("PUT", "/model/resmtnet", 403),
        ("DELETE", "/model/resmtnet", 403),
        ("POST", "/infer/wsi/resmtnet", 404),
        ("POST", "/infer/wsi_v2/resmtnet", 404),
        ("PUT", "/session/", 406),
        ("GET", "/proxy/dicom/qido/studies", 404),
    ],
)
def test_routes_that_the_app_does_not_offer_are_closed(method: str, path: str, status: int) -> None:
    with pytest.raises(Refused) as caught:
        rules.check_closed(method, path, NONE)
    assert caught.value.status_code == status


def test_sessions_and_the_pacs_are_open_where_they_are_there() -> None:
    there = ServerRules(has_pacs=True, has_sessions=True)
    rules.check_closed("PUT", "/session/", there)
    rules.check_closed("GET", "/proxy/dicom/qido/studies", there)
