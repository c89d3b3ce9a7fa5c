"""Nobody but the page itself is answered: no other machine, no other site, nobody without the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from ui_server import HERE, KEY, PORT

from mergecore_plugins.ui.server.app import make_app
from mergecore_plugins.ui.server.security import HEADERS, REFUSED


@pytest.fixture
def stranger(folder: Path) -> TestClient:
    """Somebody who has no key; nothing is started for him."""
    return TestClient(make_app(folder, KEY, PORT), base_url=HERE, client=("127.0.0.1", 50000))


EVERYTHING = [
    ("GET", "/"),
    ("GET", "/static/page.js"),
    ("GET", "/models"),
    ("GET", "/file?name=mean.yml"),
    ("GET", "/runs"),
    ("GET", "/history"),
    ("GET", "/methods/ties"),
    ("GET", "/nothing"),
    ("POST", "/check"),
    ("POST", "/plan"),
    ("POST", "/draft"),
    ("POST", "/edit"),
    ("POST", "/new"),
    ("POST", "/file"),
    ("POST", "/runs"),
    ("POST", "/runs/1/stop"),
    ("OPTIONS", "/runs"),
    ("PUT", "/file"),
]


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_nothing_is_answered_without_the_key(stranger: TestClient, method: str, path: str) -> None:
    answer = stranger.request(method, path, headers={"origin": HERE})
    assert (answer.status_code, answer.text) == (403, REFUSED)


@pytest.mark.parametrize("token", ["", "x", KEY + "x", KEY[:-1], "not-a-secre\u0301t"])
def test_another_key_is_refused(stranger: TestClient, token: str) -> None:
    assert stranger.get("/", params={"token": token}).status_code == 403
    stranger.cookies.set(f"mergecore-{PORT}", token.encode("ascii", "replace").decode())
    assert stranger.get("/").status_code == 403


def test_the_key_moves_from_the_address_to_a_cookie(stranger: TestClient) -> None:
    answer = stranger.get(f"/?token={KEY}&x=1", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?x=1")
    said = answer.headers["set-cookie"].lower()
    for word in (f"mergecore-{PORT}={KEY}", "httponly", "samesite=strict", "path=/"):
        assert word in said
    assert "expires" not in said
    assert stranger.get("/").status_code == 200


def test_an_address_with_the_key_leads_to_no_other_site(stranger: TestClient) -> None:
    answer = stranger.get(f"//evil.example/?token={KEY}", follow_redirects=False)
    assert answer.status_code in (303, 403)
    assert not answer.headers.get("location", "/x").startswith("//")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"127.0.0.1.evil.example:{PORT}",
        f"127.0.0.1:{PORT}.evil.example",
        f"0.0.0.0:{PORT}",
        "",
    ],
)
def test_another_host_is_refused(page: TestClient, host: str) -> None:
    """A name of somebody else that leads here (DNS rebinding)."""
    assert page.get("/", headers={"host": host}).status_code == 403
    assert page.post("/check", headers={"host": host}, json={"text": ""}).status_code == 403


def test_localhost_is_this_machine(page: TestClient) -> None:
    host = f"localhost:{PORT}"
    page.cookies.set(f"mergecore-{PORT}", KEY, domain="localhost.local")
    cookie = f"mergecore-{PORT}={KEY}"
    answer = page.get("/", headers={"host": host, "origin": f"http://{host}", "cookie": cookie})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.example",
        "https://127.0.0.1:8484",
        "http://127.0.0.1",
        "http://127.0.0.1:8485",
        f"http://localhost:{PORT}",
        f"http://127.0.0.1:{PORT}.evil.example",
    ],
)
def test_another_origin_is_refused(page: TestClient, origin: str) -> None:
    for method, path in (("GET", "/"), ("POST", "/check"), ("POST", "/runs/1/stop")):
        assert page.request(method, path, headers={"origin": origin}).status_code == 403


def test_what_changes_something_needs_an_origin(page: TestClient) -> None:
    del page.headers["origin"]
    assert page.get("/").status_code == 200
    assert page.post("/check", json={"text": ""}).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_that_another_site_caused_is_refused(page: TestClient, site: str) -> None:
    assert page.get("/models", headers={"sec-fetch-site": site}).status_code == 403


def test_another_machine_is_refused(folder: Path) -> None:
    far = TestClient(make_app(folder, KEY, PORT), base_url=HERE, client=("192.0.2.7", 50000))
    assert far.get("/", params={"token": KEY}).status_code == 403


def test_the_cookie_of_another_port_is_no_key(stranger: TestClient) -> None:
    stranger.cookies.set(f"mergecore-{PORT + 1}", KEY)
    assert stranger.get("/").status_code == 403


def test_every_answer_says_what_a_browser_may_do(page: TestClient, stranger: TestClient) -> None:
    for answer in (page.get("/"), page.get("/static/page.js"), page.get("/nothing"), stranger.get("/")):
        assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS)
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_no_script_stands_in_the_page(page: TestClient) -> None:
    text = page.get("/").text
    assert "<script>" not in text
    assert " on" not in {part[:3] for part in text.split("<") if "onclick" in part or "onload" in part}
    assert "style=" not in text


def test_websockets_are_closed(page: TestClient) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), page.websocket_connect("/"):
        pass
