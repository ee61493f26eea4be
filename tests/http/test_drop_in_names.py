"""Requests that come by the drop-in listener's names: addresses in answers, and pages' rights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import Hub, Person
from pydantic import ValidationError

from gatehouse.core.settings import Settings
from gatehouse.repos.repository import Gate

API = "/api/models/alice/model/tree/main?limit=1"


@pytest.fixture(params=[None, "http://hub.example"])
def hub(request: pytest.FixtureRequest, tmp_path: Path, migrated_database: Path) -> Iterator[Hub]:
    """A hub with a listener, with and without a name of its own."""
    hub = Hub(tmp_path / "hub", migrated_database, drop_in_port=9443, public_url=request.param)
    yield hub
    hub.close()


@pytest.fixture
def alice(hub: Hub) -> Person:
    alice = hub.make_user("alice")
    hub.make_repo(alice, "model", files={"a": b"1", "b": b"2"}, gate=Gate.MANUAL)
    return alice


def next_page(hub: Hub, host: str) -> str:
    return str(hub.client.get(API, headers={"Host": host}).headers["link"])


@pytest.mark.parametrize(
    "host", ["huggingface.co", "HuggingFace.co", "huggingface.co:443", "router.huggingface.co"]
)
def test_addresses_lead_back_the_way_the_client_came(hub: Hub, alice: Person, host: str) -> None:
    name = host.lower().removesuffix(":443")
    assert next_page(hub, host).startswith(f"<https://{name}/api/")


@pytest.mark.parametrize("host", ["hub.test", "evil.huggingface.co", "huggingface.co:8080"])
def test_other_hosts_are_named_as_ever(hub: Hub, alice: Person, host: str) -> None:
    public_url = hub.settings.public_url or f"http://{host}"
    assert next_page(hub, host).startswith(f"<{public_url}/api/")


def test_without_a_listener_the_names_mean_nothing(tmp_path: Path, migrated_database: Path) -> None:
    hub = Hub(tmp_path / "hub", migrated_database)
    hub.make_repo(hub.make_user("alice"), "model", files={"a": b"1", "b": b"2"})
    assert next_page(hub, "huggingface.co").startswith("<http://huggingface.co/api/")
    hub.close()


def test_forwarding_headers_move_no_address(hub: Hub, alice: Person) -> None:
    headers = {"Host": "huggingface.co", "X-Forwarded-Host": "evil.example"}
    headers |= {"X-Forwarded-Proto": "http", "Forwarded": "host=evil.example"}
    link = hub.client.get(API, headers=headers).headers["link"]
    assert link.startswith("<https://huggingface.co/api/")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("hub.test", "https://huggingface.co"),
        ("huggingface.co", "https://evil.example"),
        ("huggingface.co", "http://huggingface.co"),
        ("router.huggingface.co", "https://huggingface.co"),
    ],
)
def test_a_token_in_a_page_is_refused_by_these_names_too(
    hub: Hub, alice: Person, host: str, origin: str
) -> None:
    headers = alice.read | {"Host": host, "Origin": origin}
    answer = hub.client.get("/api/whoami-v2", headers=headers)
    assert answer.status_code == 403
    assert answer.headers["x-error-code"] == "TokenInBrowser"


@pytest.mark.parametrize("names", ["", " , ", "co", "10.0.0.1", "*.example.com", "a b.co", "é.co"])
def test_what_is_no_name_is_no_setting(names: str) -> None:
    with pytest.raises(ValidationError, match="host names"):
        Settings(drop_in_names=names)


def test_names_are_read_with_spaces_and_capitals() -> None:
    settings = Settings(drop_in_names=" HF.co ,huggingface.co", drop_in_port=9443)
    assert settings.drop_in_hosts == ("hf.co", "huggingface.co")
