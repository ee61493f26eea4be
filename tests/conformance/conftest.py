"""Machines with stock clients, one for each person a test needs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import HubServer, Person
from stock_client import StockClient

NewClient = Callable[..., StockClient]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.conformance)


@pytest.fixture
def new_client(server: HubServer, tmp_path: Path) -> NewClient:
    """Makes a machine with empty caches for whoever holds `token`."""
    count = iter(range(1000))

    def make(token: str | None = None, **environment: str) -> StockClient:
        return StockClient(server, tmp_path / f"machine{next(count)}", token, environment)

    return make


@pytest.fixture
def owner(new_client: NewClient, alice: Person) -> StockClient:
    """Alice's machine, with her write token."""
    return new_client(alice.write_token)


@pytest.fixture
def stranger(new_client: NewClient, bob: Person) -> StockClient:
    """Bob's machine, with a valid read token."""
    return new_client(bob.read_token)


@pytest.fixture
def nobody(new_client: NewClient) -> StockClient:
    """A machine without a token."""
    return new_client()
