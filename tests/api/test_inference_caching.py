"""Kept answers over HTTP: who gets which, and which are never kept."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import Hub, Person
from starlette.testclient import TestClient

from gatehouse.db.engine import Database
from gatehouse.repos.commits import AddFile
from gatehouse.repos.repositories import SettingsChange
from gatehouse.repos.repository import Gate, Repository, Visibility
from gatehouse.server.app import create_app
from gatehouse.server.services import build_services

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 2}


def ask(
    hub: Hub, person: Person, path: str, body: dict[str, Any] | None = None, **headers: str
) -> Any:
    body = {"inputs": "the cat", "parameters": {"max_new_tokens": 4}} if body is None else body
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = hub.client.post(path, json=body, headers=person.read | given)
    assert answer.status_code in (200, 401, 403, 404), answer.text
    return answer


def make_model(
    hub: Hub, owner: Person, name: str, files: dict[str, bytes], **kind: Any
) -> Repository:
    weights = {"model.safetensors": files["model.safetensors"]}
    others = {name: data for name, data in files.items() if name not in weights}
    return hub.make_repo(owner, name, files=others, large_files=weights, **kind)


def test_chat_and_completions_are_kept_only_for_those_who_ask(house: Hub, olga: Person) -> None:
    for path, body in [
        ("/models/olga/open/v1/chat/completions", CHAT),
        ("/models/olga/open/v1/completions", {"prompt": "the", "max_tokens": 4, "temperature": 2}),
    ]:
        assert ask(house, olga, path, body).headers["x-cache"] == "BYPASS"
        assert ask(house, olga, path, body, x_use_cache="1").headers["x-cache"] == "MISS"
        kept = ask(house, olga, path, body, x_use_cache="1")
        assert kept.headers["x-cache"] == "HIT"
        assert kept.headers["content-type"] == "application/json"
        assert "x-total-time" not in kept.headers
        assert ask(house, olga, path, body).content != kept.content
        assert ask(house, olga, path, body, x_use_cache="1").content == kept.content


def test_answers_that_mean_the_same_have_one_key(house: Hub, olga: Person) -> None:
    path = "/models/olga/open"
    first = {"inputs": "hello cat", "parameters": {"top_k": 3, "temperature": 1.5, "seed": None}}
    second = {
        "stream": False,
        "options": {"use_cache": True, "wait_for_model": True},
        "parameters": {"temperature": 1.50, "top_k": 3, "nonsense": 1},
        "inputs": "hello cat",
    }
    assert ask(house, olga, path, first).headers["x-cache"] == "MISS"
    answer = ask(house, olga, path, second, x_request_id="mine")
    assert answer.headers["x-cache"] == "HIT"
    assert ask(house, olga, "/models/olga/open/generate", second).headers["x-cache"] == "MISS"


def test_no_store_is_not_kept(house: Hub, olga: Person) -> None:
    body = {"inputs": "never kept", "parameters": {"max_new_tokens": 2}}
    kept_out = ask(house, olga, "/models/olga/open", body, cache_control="no-store")
    assert kept_out.headers["x-cache"] == "BYPASS"
    assert ask(house, olga, "/models/olga/open", body).headers["x-cache"] == "MISS"


def test_errors_are_not_kept(house: Hub, olga: Person) -> None:
    body = {"inputs": "the cat " * 200}
    for _ in range(2):
        answer = house.client.post("/models/olga/open", json=body, headers=olga.read)
        assert answer.status_code == 422
        assert "x-cache" not in answer.headers


def test_two_users_of_a_gated_model_read_each_other_only_through_the_gate(
    house: Hub, olga: Person, mallory: Person, model_files: dict[str, bytes]
) -> None:
    repository = make_model(house, olga, "shared", model_files, gate=Gate.MANUAL)
    path = "/models/olga/shared"
    body = {"inputs": "the cat", "parameters": {"do_sample": True, "temperature": 2.0}}
    first = ask(house, olga, path, body)
    refused = ask(house, mallory, path, body)
    assert refused.status_code == 403
    assert "x-cache" not in refused.headers
    house.accept(olga, repository, mallory)
    # Who may read has changed: what was kept for the old readers is not given to the new ones.
    assert ask(house, mallory, path, body).headers["x-cache"] == "MISS"
    both = [ask(house, person, path, body) for person in (mallory, olga)]
    assert [answer.headers["x-cache"] for answer in both] == ["HIT", "HIT"]
    assert both[0].content == both[1].content != first.content


def test_model_made_private_and_changed_leaves_its_answers_behind(
    house: Hub, olga: Person, mallory: Person, model_files: dict[str, bytes]
) -> None:
    repository = make_model(house, olga, "changing", model_files)
    path = "/models/olga/changing"
    body = {"inputs": "the cat", "parameters": {"do_sample": True, "temperature": 2.0}}
    ask(house, olga, path, body)
    assert ask(house, mallory, path, body).headers["x-cache"] == "HIT"
    change = SettingsChange(visibility=Visibility.PRIVATE)
    repository = house.services.repositories.change_settings(olga.actor, repository, change)
    assert ask(house, mallory, path, body).status_code == 404
    assert ask(house, olga, path, body).headers["x-cache"] == "MISS"
    house.commit(olga, repository, [AddFile("notes.txt", b"another commit")])
    assert ask(house, olga, path, body).headers["x-cache"] == "MISS"
    assert ask(house, olga, path, body).headers["x-cache"] == "HIT"


def test_owner_may_have_no_answers_kept(
    house: Hub, olga: Person, model_files: dict[str, bytes]
) -> None:
    card = b"---\ninference:\n  cache: false\n---\n"
    make_model(house, olga, "forgetful", model_files | {"README.md": card})
    for _ in range(2):
        answer = ask(house, olga, "/models/olga/forgetful")
        assert answer.headers["x-cache"] == "BYPASS"


@pytest.fixture
def restarted(house: Hub) -> Iterator[TestClient]:
    """The same data folder under a second application, as after a restart or in a second worker."""
    database = Database(house.settings.resolved_database_url())
    services = build_services(house.settings, database, house.clock)
    with TestClient(create_app(services), base_url="http://hub.test") as client:
        yield client
    services.response_cache.close()
    database.dispose()


def test_answers_survive_a_restart(house: Hub, olga: Person, restarted: TestClient) -> None:
    body = {"inputs": "hello", "parameters": {"do_sample": True, "temperature": 2.0, "top_k": 50}}
    cache = house.services.response_cache
    num_before, _ = cache.count()
    first = ask(house, olga, "/models/olga/open", body)
    # A second worker would wait for the first one to write it; locks know processes only.
    deadline = time.monotonic() + 10
    while cache.count()[0] == num_before:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    again = restarted.post("/models/olga/open", json=body, headers=olga.read)
    assert again.headers["x-cache"] == "HIT"
    assert again.content == first.content


def test_kept_answers_lie_in_the_data_folder(house: Hub, olga: Person) -> None:
    ask(house, olga, "/models/olga/open")
    path: Path = house.settings.data_dir / "response_cache.db"
    assert path.stat().st_mode & 0o077 == 0
