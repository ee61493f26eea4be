"""Tokens stay on servers (mission A5): what a page of another site may do, as browsers send it."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hub_server import HubServer, Person
from stock_client import StockClient

NewClient = Callable[..., StockClient]
_PAGE = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}


@pytest.fixture(scope="module")
def repo_id(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    machine = StockClient(
        server, tmp_path_factory.mktemp("machine"), server.person("alice").write_token
    )
    machine.python(
        """
        from huggingface_hub import HfApi
        HfApi().create_repo("alice/for-pages")
        HfApi().upload_file(
            path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="alice/for-pages"
        )
        """
    )
    return "alice/for-pages"


def requests(repo_id: str) -> list[tuple[str, str, Any]]:
    return [
        ("GET", f"/{repo_id}/resolve/main/config.json", None),
        ("HEAD", f"/{repo_id}/resolve/main/config.json", None),
        ("GET", "/api/whoami-v2", None),
        ("GET", f"/api/models/{repo_id}", None),
        ("POST", f"/models/{repo_id}", {"inputs": "x"}),
        ("POST", "/api/repos/create", {"name": "from-a-page"}),
    ]


@pytest.mark.parametrize("index", range(6))
def test_a_token_sent_by_a_page_of_another_site_is_refused_with_the_reason(
    index: int, server: HubServer, repo_id: str, alice: Person
) -> None:
    method, path, body = requests(repo_id)[index]
    headers = _PAGE | {"Authorization": f"Bearer {alice.write_token}"}
    answer = httpx.request(method, server.url + path, headers=headers, json=body)
    assert answer.status_code == 403
    assert "must not be used from web pages" in answer.headers["X-Error-Message"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*", "the page may read why"
    plain = {"Authorization": f"Bearer {alice.write_token}"}
    assert httpx.get(f"{server.url}/api/models/alice/from-a-page", headers=plain).status_code == 404


def test_the_owner_of_a_leaked_token_is_warned_on_the_token_page(
    server: HubServer, repo_id: str
) -> None:
    dave = server.person("dave")
    with dave.browser() as browser:
        assert "app.example" not in browser.get("/settings/tokens").text
        headers = _PAGE | {"Authorization": f"Bearer {dave.read_token}"}
        httpx.get(f"{server.url}/{repo_id}/resolve/main/config.json", headers=headers)
        page = browser.get("/settings/tokens").text
    assert "app.example" in page
    assert "reading" in page


def test_a_page_may_read_what_is_public_without_a_token(server: HubServer, repo_id: str) -> None:
    url = f"{server.url}/{repo_id}/resolve/main/config.json"
    preflight = {"Access-Control-Request-Method": "GET"}
    asked = httpx.options(url, headers=_PAGE | preflight)
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    answer = httpx.get(url, headers=_PAGE)
    assert answer.content == b"{}"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_the_same_token_works_from_a_program(
    server: HubServer, repo_id: str, alice: Person
) -> None:
    headers = {"Authorization": f"Bearer {alice.write_token}"}
    assert httpx.get(f"{server.url}/api/whoami-v2", headers=headers).json()["name"] == "alice"


def test_a_session_cookie_does_nothing_for_a_page_of_another_site(
    server: HubServer, repo_id: str, alice: Person
) -> None:
    with alice.browser() as browser:
        body = {"name": "by-cookie"}
        answer = browser.post("/api/repos/create", json=body, headers=_PAGE)
        assert answer.status_code == 403
        assert browser.get("/api/models/alice/by-cookie").status_code == 404
