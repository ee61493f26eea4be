"""The processes of one `gatehouse serve`: HTTP workers and the supervisor of model hosts."""

import os
import resource
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops

from gatehouse.core.errors import Unavailable
from gatehouse.core.settings import Settings
from gatehouse.inference.lifecycle.launch import (
    SupervisorProcess,
    TiedProcess,
    count_cores,
    default_memory_budget,
)
from gatehouse.inference.lifecycle.supervisor import SupervisorOptions
from gatehouse.observability.logging import logger
from gatehouse.observability.metrics_folder import clear_metrics
from gatehouse.server.drop_in.launch import DropInProcess, drop_in_options

_LOOK_SECONDS = 0.5
_STOP_SECONDS = 10
# A worker lets in no more, idle ones and open streams included. Granian's own limit, 1024, is soon
# reached by browsers that keep theirs open, and then nobody is answered.
_CONNECTIONS = 16_384
# For their files, sockets to hosts, and databases.
_DESCRIPTORS = 4 * _CONNECTIONS


class PortTaken(Unavailable):
    """Something listens there already."""

    def __init__(self, host: str, port: int, option: str) -> None:
        super().__init__(
            f"{host}:{port} is taken: stop what listens there, or give another `{option}`."
        )


def serve(settings: Settings) -> None:
    """Run until a signal stops it.

    Raises:
        PortTaken: The address cannot be listened at.
    """
    _require_free_port(settings.host, settings.port, "--port")
    if settings.drop_in_port is not None:
        _require_free_port(settings.drop_in_host, settings.drop_in_port, "--drop-in-port")
    # Not in the data folder: a Unix socket's path may have about a hundred characters.
    sockets = Path(tempfile.mkdtemp(prefix="gatehouse-"))
    metrics = settings.data_dir.resolve() / "metrics"
    clear_metrics(metrics)
    os.environ["GATEHOUSE_METRICS_DIR"] = str(metrics)
    try:
        options = _supervisor_options(settings, sockets)
        os.environ["GATEHOUSE_SUPERVISOR_SOCKET"] = options.socket_path
        supervisor = _kept_running("supervisor", lambda: _start_supervisor(options))
        with supervisor, _drop_in(settings):
            serve_http(settings)
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


def _require_free_port(host: str, port: int, option: str) -> None:
    # The server shares its port among its workers, and would share it with another server too.
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.socket(found[0][0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[0][4])
    except OSError:
        raise PortTaken(host, port, option) from None


@contextmanager
def _kept_running(name: str, start: Callable[[], TiedProcess]) -> Iterator[None]:
    """Keep a process running: one that crashes is started again."""
    stopping = threading.Event()
    # Before the server forks its workers: a worker that inherits the pipe on which `Popen` waits
    # for its child would keep it waiting.
    first = start()

    def keep() -> None:
        process = first
        while True:
            with process:
                while process.is_running and not stopping.wait(_LOOK_SECONDS):
                    pass
            if stopping.is_set():
                return
            logger.error("a process ended and is started again", process=name)
            process = start()

    keeper = threading.Thread(target=keep, name=name)
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        keeper.join()


def _start_supervisor(options: SupervisorOptions) -> SupervisorProcess:
    """A supervisor with no model in memory; what a crashed one left lying is removed."""
    for left_over in Path(options.socket_path).parent.iterdir():
        left_over.unlink(missing_ok=True)
    return SupervisorProcess(options)


def _drop_in(settings: Settings) -> AbstractContextManager[None]:
    """The drop-in listener, if one is wanted."""
    options = drop_in_options(settings)
    if options is None:
        return nullcontext()
    return _kept_running("drop-in", lambda: DropInProcess(options))


def _supervisor_options(settings: Settings, sockets: Path) -> SupervisorOptions:
    return SupervisorOptions(
        socket_path=str(sockets / "supervisor"),
        memory_budget_bytes=settings.model_memory_bytes or default_memory_budget(),
        idle_seconds=settings.model_idle_seconds,
        num_cores=count_cores(),
    )


def serve_http(settings: Settings) -> None:
    _allow_descriptors()
    Granian(
        "gatehouse.server.app:create",
        factory=True,
        interface=Interfaces.ASGI,
        loop=Loops.asyncio,
        address=settings.host,
        port=settings.port,
        workers=settings.workers,
        websockets=False,
        # Nobody speaks HTTP/2 without TLS, and to find out takes 8 KiB a connection.
        http=HTTPModes.http1,
        log_access=False,
        backpressure=_CONNECTIONS,
        workers_kill_timeout=_STOP_SECONDS,
        respawn_failed_workers=True,
    ).serve()


def _allow_descriptors() -> None:
    """Use as many files and sockets as the system lets us, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # some systems have a limit besides
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
