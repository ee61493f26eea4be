"""A tiny model and a running supervisor, made once for the tests of this room."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gatehouse.inference.lifecycle.launch import SupervisorProcess
from gatehouse.inference.lifecycle.supervisor import SupervisorOptions

# The makers of tiny models are shared with the tests of the engines.
sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from tiny_models import save_tiny_llama


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def supervisor_path() -> Iterator[Path]:
    """A supervisor of real processes; its folder's name is short, as Unix sockets demand."""
    with TemporaryDirectory(prefix="gh") as folder:
        path = Path(folder) / "supervisor.sock"
        options = SupervisorOptions(str(path), 600 * 1024 * 1024, idle_seconds=600, num_cores=1)
        with SupervisorProcess(options):
            yield path
