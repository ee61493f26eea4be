"""Fixtures that several rooms share."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from factories import Hub
from hub_server import HubServer, Person
from pytest_socket import socket_allow_hosts

from gatehouse.db.engine import Database
from gatehouse.migrations.upgrade import upgrade

_SLOW = frozenset({"conformance", "browser"})


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Nothing outside this machine may be reached from a test."""
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that no process ends alone with one of them."""
    items.sort(key=lambda item: _SLOW.isdisjoint(mark.name for mark in item.iter_markers()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the server of a failed test logged."""
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(server, HubServer):
        report.sections.append(("server log", server.log[-8000:]))
    return report


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with the present schema, to copy: migrating takes longer."""
    path = tmp_path_factory.mktemp("schema") / "gatehouse.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.dispose()
    return path


@pytest.fixture
def hub(tmp_path: Path, migrated_database: Path) -> Iterator[Hub]:
    hub = Hub(tmp_path / "hub", migrated_database)
    yield hub
    hub.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub in processes of its own, one for all tests: each uses repositories of its own."""
    server = HubServer(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def alice(server: HubServer) -> Person:
    """Owns what tests push to the server."""
    return server.person("alice")


@pytest.fixture
def bob(server: HubServer) -> Person:
    """A stranger with a valid account on the server."""
    return server.person("bob")


@pytest.fixture
def carol(server: HubServer) -> Person:
    """A second stranger, on the PRO plan."""
    return server.person("carol", "--plan", "pro")


@pytest.fixture
def own_hub(tmp_path: Path, migrated_database: Path) -> Iterator[Hub]:
    """A hub whose application a test may add routes to."""
    hub = Hub(tmp_path / "hub", migrated_database, own_app=True)
    yield hub
    hub.close()
