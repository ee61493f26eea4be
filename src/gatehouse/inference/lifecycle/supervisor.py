"""The supervisor: one process that decides which models are in memory, for all hub workers.

A model is loaded once however many ask for it; idle ones go, least recently used first, when
another needs the room, and after a while anyway; pinned ones stay. It never imports torch. It ends
when its standard input is closed, which the hub that started it holds open. Run as `python -m
gatehouse.inference.lifecycle.supervisor OPTIONS`, where OPTIONS is `SupervisorOptions` as JSON.
"""

import logging
import signal
import sys

import anyio
import msgspec

from gatehouse.inference.lifecycle import local_socket
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.host_processes import ForkedHosts
from gatehouse.inference.lifecycle.leases import Leases
from gatehouse.inference.lifecycle.local_socket import LocalSocket
from gatehouse.inference.lifecycle.messages import SupervisorToWorker, WorkerToSupervisor
from gatehouse.inference.lifecycle.worker_session import Callers, WorkerSession

_LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class SupervisorOptions(msgspec.Struct, frozen=True):
    """What the supervisor is told.

    Attributes:
        socket_path: Where it listens; hosts' sockets are made in the same folder.
        memory_budget_bytes: What all loaded models together may take.
        idle_seconds: A model that nobody used for so long is unloaded.
        num_cores: Cores of the machine.
    """

    socket_path: str
    memory_budget_bytes: int
    idle_seconds: float
    num_cores: int


async def serve(options: SupervisorOptions) -> None:
    """Listen for hub workers until cancelled."""
    leases = Leases(
        options.socket_path, options.memory_budget_bytes, options.idle_seconds, options.num_cores
    )
    callers = Callers()

    async def serve_worker(stream: LocalSocket) -> None:
        channel: Channel[SupervisorToWorker, WorkerToSupervisor]
        channel = Channel(stream, WorkerToSupervisor)
        try:
            await WorkerSession(leases, channel, callers).serve()
        except* Exception:  # noqa: BLE001 - outermost: one worker's trouble is not the others'
            _log.exception("A worker's session broke.")

    async with anyio.create_task_group() as tasks:
        hosts = ForkedHosts(tasks, leases)
        leases.use(hosts)
        tasks.start_soon(hosts.run)
        tasks.start_soon(_look_after, leases)
        await local_socket.serve(options.socket_path, serve_worker)


async def _look_after(leases: Leases) -> None:
    while True:
        await anyio.sleep(_LOOK_SECONDS)
        leases.look_after()


def run_supervisor(options: SupervisorOptions) -> None:
    """Serve until standard input is closed. Blocks; for a process of its own."""

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, options)
            await anyio.wait_readable(sys.stdin.fileno())
            tasks.cancel_scope.cancel()

    anyio.run(main)


def main() -> None:
    # Ctrl-C goes to every process of a terminal; the hub decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_supervisor(msgspec.json.decode(sys.argv[1], type=SupervisorOptions))


if __name__ == "__main__":
    main()
