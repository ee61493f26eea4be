"""A hub with a supervisor and tiny models, one for all tests of this room."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from factories import Hub, Person
from starlette.testclient import TestClient

from gatehouse.inference.lifecycle.launch import SupervisorProcess
from gatehouse.inference.lifecycle.supervisor import SupervisorOptions
from gatehouse.observability.audit import OPERATOR
from gatehouse.repos.repository import Gate

# The makers of tiny models are shared with the tests of the engines.
sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from tiny_models import save_tiny_llama


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = save_tiny_llama(tmp_path_factory.mktemp("tiny"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def supervisor() -> Iterator[Path]:
    with TemporaryDirectory(prefix="gh") as folder:
        path = Path(folder) / "supervisor"
        options = SupervisorOptions(str(path), 10**9, idle_seconds=600, num_cores=1)
        with SupervisorProcess(options):
            yield path


@pytest.fixture(scope="session")
def house(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Path, supervisor: Path
) -> Iterator[Hub]:
    hub = Hub(
        tmp_path_factory.mktemp("house"),
        migrated_database,
        own_app=True,
        supervisor_socket=supervisor,
        anonymous_requests_per_hour=100_000,
        free_requests_per_hour=100_000,
        default_model="olga/open",
    )
    with TestClient(hub.app, base_url="http://hub.test", follow_redirects=False) as client:
        hub.client = client
        yield hub
    hub.close()


@pytest.fixture(scope="session")
def olga(house: Hub, model_files: dict[str, bytes]) -> Person:
    """The owner of an open model, one that nobody runs, a gated one, and one for PRO users."""
    olga = house.make_user("olga")
    weights = {"model.safetensors": model_files["model.safetensors"]}
    others = {name: data for name, data in model_files.items() if name not in weights}
    house.make_repo(olga, "open", files=others, large_files=weights)
    house.make_repo(olga, "idle", files=others, large_files=weights)
    house.make_repo(olga, "gated", gate=Gate.MANUAL, files=others, large_files=weights)
    powerful = house.make_repo(olga, "powerful", files=others, large_files=weights)
    house.services.pro_models.add(powerful, by=OPERATOR)
    house.make_repo(olga, "masks", files={"README.md": b"---\npipeline_tag: fill-mask\n---\n"})
    house.make_repo(
        olga,
        "pickled",
        files={"config.json": others["config.json"]},
        large_files={"pytorch_model.bin": b"not really"},
    )
    return olga


@pytest.fixture(scope="session")
def mallory(house: Hub) -> Person:
    return house.make_user("mallory")
