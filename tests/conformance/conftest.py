"""Machines with stock clients, one for each person a test needs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client_process import NewProcess, Processes
from hub_server import HubServer, Person
from served_model import ServedModel, push_model
from stock_client import StockClient
from written_model import save_written_model

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


@pytest.fixture(scope="session")
def written_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the model that says what was written for it."""
    return save_written_model(tmp_path_factory.mktemp("written"))


@pytest.fixture(scope="session")
def model(server: HubServer, written_folder: Path) -> ServedModel:
    """A public model that whoever asks may run."""
    return push_model(server.person("alice"), "written", written_folder)


@pytest.fixture(scope="session")
def new_process(
    server: HubServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NewProcess]:
    """Starts a process of a client; it ends with the session. See `Processes.start`."""

    def make_machine(token: str | None, variables: dict[str, str]) -> StockClient:
        return StockClient(server, tmp_path_factory.mktemp("machine"), token, variables)

    processes = Processes(make_machine)
    yield processes.start
    processes.close()
