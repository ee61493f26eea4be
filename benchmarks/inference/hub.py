"""The processes under measurement: the hub on a data folder, the null supervisor, the floor."""

import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import psutil

from benchmarks.inference.null_engine import PACE_FILE, Pace
from gatehouse.core.ids import RepoId, RepoKind
from gatehouse.core.settings import Settings
from gatehouse.db.engine import Database
from gatehouse.http.context import Services
from gatehouse.identity.actors import Plan, User, session_actor
from gatehouse.identity.permissions import TokenRole
from gatehouse.identity.plans import PlanName
from gatehouse.migrations.upgrade import upgrade
from gatehouse.repos.commits import AddFile, AddLargeFile, CommitHeader, Operation
from gatehouse.repos.repository import Gate
from gatehouse.server.services import build_services

INSTANT = "instant"
STEADY = "steady"
SILENT = "silent"
STEPS_PER_SECOND = 200.0
_PACES = {
    INSTANT: Pace(),
    STEADY: Pace(steps_per_second=STEPS_PER_SECOND),
    SILENT: Pace(is_silent=True),
}
_OWNER = "bench"
# Large enough that no run meets them; small ones would be counted in just the same way.
_LIMITS = {"requests_per_hour": 10**9, "tokens_per_day": 10**12, "num_concurrent": 10_000}
_START_SECONDS = 60.0
_SERVE = (
    "from gatehouse.core.settings import Settings as S; from gatehouse.server import process as p"
)


@dataclass(frozen=True)
class Server:
    """One HTTP server with one worker, on a loopback port."""

    port: int
    worker: psutil.Process

    def cpu_seconds(self) -> float:
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def memory_bytes(self) -> int:
        """What the worker has for itself alone: pages that it shares with nobody."""
        return int(self.worker.memory_full_info().uss)


@dataclass(frozen=True)
class Hub(Server):
    """The hub, and the sockets of the hosts behind it.

    Attributes:
        token: Of a user on the PRO plan who was let into the gated models.
        sockets: The folder in which hosts listen.
    """

    token: str
    sockets: Path

    def path(self, model: str) -> str:
        return f"/models/{_OWNER}/{model}"

    def host_socket(self, before: set[Path]) -> Path:
        """Where the host listens that was started since."""
        (found,) = set(self.sockets.glob("host-*.sock")) - before
        return found


@contextmanager
def running_hub(folder: Path) -> Iterator[Hub]:
    """A hub with three gated models of different pace; ends with the block."""
    settings = Settings(data_dir=folder / "data")
    settings.data_dir.mkdir()
    token = _fill(settings)
    path = folder / "supervisor"
    environment = {
        "GATEHOUSE_DATA_DIR": str(settings.data_dir),
        "GATEHOUSE_SUPERVISOR_SOCKET": str(path),
        # The first request waits for its model.
        "GATEHOUSE_COLD_MODEL_WAIT_SECONDS": "60",
    }
    supervisor = [sys.executable, "-m", "benchmarks.inference.null_supervisor", str(path)]
    with running_process(supervisor, {}, None, stdin=subprocess.PIPE):
        port = free_port()
        command = [sys.executable, "-c", f"{_SERVE}; p.serve_http(S())"]
        environment["GATEHOUSE_PORT"] = str(port)
        # Requests are logged, as they are where logs go to a file.
        with (
            (folder / "hub.log").open("wb") as log,
            running_process(command, environment, log) as process,
        ):
            yield Hub(port, _worker(process, port), token, folder)


@contextmanager
def running_floor() -> Iterator[Server]:
    """The trivial application on the same server with the same options."""
    port = free_port()
    options = ["--interface", "asgi", "--loop", "asyncio", "--no-ws", "--no-log", "--http", "1"]
    address = ["--host", "127.0.0.1", "--port", str(port)]
    app = "benchmarks.inference.floor_app:app"
    command = [sys.executable, "-m", "granian", *options, *address, app]
    with running_process(command, {}, None) as process:
        yield Server(port, _worker(process, port))


def _fill(settings: Settings) -> str:
    """Models and people; returns the token of the one who may run them."""
    database = Database(settings.resolved_database_url())
    upgrade(database)
    services = build_services(settings, database)
    owner = services.users.create(_OWNER, "bench@example.com", "a password for nobody")
    reader = services.users.create(
        "reader", "reader@example.com", "a password for nobody", plan=Plan.PRO
    )
    for name, pace in _PACES.items():
        _publish(services, owner, reader, name, pace)
    services.plans.set(PlanName.PRO, _LIMITS, by=session_actor(owner, ""))
    token = services.tokens.create(reader.id, "benchmark", TokenRole.READ).value
    database.dispose()
    return token


def _publish(services: Services, owner: User, reader: User, name: str, pace: Pace) -> None:
    actor = session_actor(owner, "")
    repo_id = RepoId(_OWNER, name)
    repository = services.repositories.create(actor, RepoKind.MODEL, repo_id, gate=Gate.MANUAL)
    with services.blobs.begin() as upload:
        upload.write(_no_weights())
        stored = upload.finish()
    services.large_files.link(repository, stored.sha256, stored.size)
    config = {"architectures": ["NullForCausalLM"], "model_type": "null"}
    files: list[Operation] = [
        AddFile("README.md", b"---\npipeline_tag: text-generation\n---\n# A model of nothing\n"),
        AddFile("config.json", json.dumps(config).encode()),
        AddFile(PACE_FILE, msgspec.json.encode(pace)),
        AddLargeFile("model.safetensors", stored.sha256, stored.size),
    ]
    header = CommitHeader("Add a model of nothing")
    services.commits.create(actor, repository, "main", header, iter(files))
    services.gating.grant(actor, repository, reader.name)


def _no_weights() -> bytes:
    """A safetensors file without tensors: the length of its header, and the header."""
    header = b"{}      "
    return struct.pack("<Q", len(header)) + header


@contextmanager
def running_process(
    command: list[str],
    environment: dict[str, str],
    output: BinaryIO | None,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[psutil.Popen]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GATEHOUSE_")}
    process = psutil.Popen(
        command, env=kept | environment, stdin=stdin, stdout=output, stderr=output
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(_START_SECONDS)


def wait_until_it_listens(process: psutil.Popen, port: int) -> None:
    """Return once a server takes connections.

    Raises:
        RuntimeError: It does not start.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("The server did not start.")
        time.sleep(0.05)


def _worker(process: psutil.Popen, port: int) -> psutil.Process:
    """The process that answers, once it does."""
    wait_until_it_listens(process, port)
    (worker,) = [child for child in process.children() if _is_worker(child)]
    return worker


def _is_worker(process: psutil.Process) -> bool:
    return "resource_tracker" not in " ".join(process.cmdline())


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
