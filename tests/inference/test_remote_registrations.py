"""Which models other servers run: added by an administrator, found, changed, gone with the rest."""

from dataclasses import replace

import pytest
from factories import Hub

from gatehouse.core.ids import RepoKind
from gatehouse.engines.remote.base import RemoteAbilities, RemoteKind, RouteAbilities
from gatehouse.inference.remote.errors import (
    KeyUnreadable,
    RemoteEngineExists,
    RemoteEngineInvalid,
    RemoteEngineNotFound,
)
from gatehouse.inference.remote.registrations import RemoteEngines, RemoteServer
from gatehouse.inference.remote.sealing import Seal, SealBroken
from gatehouse.inference.remote.source import read_server_url
from gatehouse.inference.remote.tables import RemoteEngineRow
from gatehouse.observability.audit import OPERATOR, AuditTrail
from gatehouse.repos.repository import Repository

CHAT = RemoteAbilities(chat=RouteAbilities(logprobs=True))
SERVER = RemoteServer("http://10.0.0.5:8000/v1/", RemoteKind.OPENAI, "far", 4096, CHAT, "the-key")


@pytest.fixture
def repository(hub: Hub) -> Repository:
    return hub.make_repo(hub.make_user("alice"), "model")


@pytest.fixture
def engines(hub: Hub) -> RemoteEngines:
    return RemoteEngines(hub.database, Seal(b"secret"), hub.clock)


def test_what_was_added_is_found_with_its_key(
    engines: RemoteEngines, repository: Repository
) -> None:
    assert engines.find(repository) is None
    engines.add(repository, SERVER, OPERATOR)
    engine = engines.find(repository)
    assert engine is not None
    source = engines.source(repository, engine, "c" * 40)
    assert (source.url, source.model_name, source.api_key) == (
        "http://10.0.0.5:8000",
        "far",
        "the-key",
    )
    assert source.abilities == CHAT
    assert source.key.startswith(f"{repository.storage_id}:")
    assert source.key.endswith(f":{'c' * 40}")


def test_neither_the_key_nor_a_trace_of_it_is_shown(
    hub: Hub, engines: RemoteEngines, repository: Repository
) -> None:
    engines.add(repository, SERVER, OPERATOR)
    engine = engines.find(repository)
    assert engine is not None
    shown = repr(SERVER) + repr(engine) + repr(engines.source(repository, engine, ""))
    assert "the-key" not in shown
    hub.database.engine.dispose()
    assert b"the-key" not in (hub.settings.data_dir / "gatehouse.db").read_bytes()


def test_a_row_that_was_sent_elsewhere_gives_no_key(
    hub: Hub, engines: RemoteEngines, repository: Repository
) -> None:
    engines.add(repository, SERVER, OPERATOR)
    with hub.database.write() as session:
        row = session.get(RemoteEngineRow, repository.id)
        assert row is not None
        row.url = "http://evil.example"
    other = RemoteEngines(hub.database, Seal(b"secret"), hub.clock)
    engine = other.find(repository)
    assert engine is not None
    with pytest.raises(KeyUnreadable):
        other.source(repository, engine, "")


def test_another_secret_opens_nothing(hub: Hub, repository: Repository) -> None:
    RemoteEngines(hub.database, Seal(b"secret"), hub.clock).add(repository, SERVER, OPERATOR)
    other = RemoteEngines(hub.database, Seal(b"another"), hub.clock)
    engine = other.find(repository)
    assert engine is not None
    with pytest.raises(KeyUnreadable, match=r"alice/model.*secret\.key"):
        other.source(repository, engine, "")


@pytest.mark.parametrize("change", [lambda sealed: sealed[:-1], lambda sealed: sealed[:5]])
def test_a_changed_seal_is_broken(change: object) -> None:
    seal = Seal(b"secret")
    assert callable(change)
    with pytest.raises(SealBroken):
        seal.open(change(seal.close("text", "me")), "me")


def test_a_second_server_is_refused(engines: RemoteEngines, repository: Repository) -> None:
    engines.add(repository, SERVER, OPERATOR)
    with pytest.raises(RemoteEngineExists, match="alice/model"):
        engines.add(repository, SERVER, OPERATOR)


def test_every_change_makes_another_version(engines: RemoteEngines, repository: Repository) -> None:
    engines.add(repository, SERVER, OPERATOR)
    first = engines.find(repository)
    engines.update_abilities(repository, RemoteAbilities(), 9)
    second = engines.find(repository)
    assert first is not None
    assert second is not None
    assert (second.abilities, second.context_length) == (RemoteAbilities(), 9)
    assert first.version != second.version


def test_what_was_removed_is_gone(engines: RemoteEngines, repository: Repository) -> None:
    engines.add(repository, SERVER, OPERATOR)
    engines.remove(repository, OPERATOR)
    assert engines.find(repository) is None
    assert engines.all() == []
    with pytest.raises(RemoteEngineNotFound):
        engines.remove(repository, OPERATOR)
    with pytest.raises(RemoteEngineNotFound):
        engines.update_abilities(repository, CHAT, 1)


def test_a_deleted_repository_takes_its_server_along(hub: Hub, engines: RemoteEngines) -> None:
    alice = hub.make_user("alice")
    repository = hub.make_repo(alice, "model")
    engines.add(repository, SERVER, OPERATOR)
    hub.services.repositories.delete(alice.actor, repository)
    assert engines.all() == []


def test_the_audit_trail_names_the_server_and_not_the_key(
    hub: Hub, engines: RemoteEngines, repository: Repository
) -> None:
    engines.add(repository, SERVER, OPERATOR)
    engines.remove(repository, OPERATOR)
    removed, added = AuditTrail(hub.database).recent(subject="alice/model")[:2]
    assert (added.action, removed.action) == ("remote.add", "remote.remove")
    assert added.detail == {"url": "http://10.0.0.5:8000", "model": "far"}


def test_only_models_are_run(hub: Hub, engines: RemoteEngines) -> None:
    dataset = hub.make_repo(hub.make_user("alice"), "rows", kind=RepoKind.DATASET)
    with pytest.raises(RemoteEngineInvalid, match="no model repository"):
        engines.add(dataset, SERVER, OPERATOR)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.5:8000",
        "ftp://10.0.0.5",
        "http://",
        "http://host:99999",
        "http://user:password@host",
        "http://host/?a=b",
        "http://host/#a",
        "http://host/a b",
        "http://höst/",
        "http://host\r\nX-Evil: 1",
        "http://host/" + "a" * 600,
        "http://[::1",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RemoteEngineInvalid, match="--url"):
        read_server_url(url)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://Host:8000", "http://host:8000"),
        ("https://host/v1", "https://host"),
        ("https://host/openai/v1/", "https://host/openai"),
        (" http://[::1]:80/models/a/b ", "http://[::1]:80/models/a/b"),
    ],
)
def test_addresses_are_kept_without_what_calls_add(given: str, kept: str) -> None:
    assert read_server_url(given) == kept


@pytest.mark.parametrize(
    "change",
    [
        {"model_name": ""},
        {"model_name": "a\nb"},
        {"model_name": "a" * 301},
        {"api_key": "two\nlines"},
        {"api_key": "ké"},
        {"api_key": "a" * 5000},
        {"context_length": 0},
        {"context_length": 2**31},
        {"num_concurrent": 0},
    ],
)
def test_values_that_break_a_rule_are_refused(
    engines: RemoteEngines, repository: Repository, change: dict[str, object]
) -> None:
    with pytest.raises(RemoteEngineInvalid):
        engines.add(repository, replace(SERVER, **change), OPERATOR)  # type: ignore[arg-type]
    assert engines.all() == []
