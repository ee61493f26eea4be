"""The supervisor with real leases and sessions, whose hosts run an engine that computes nothing.

Run as `python -m benchmarks.inference.null_supervisor SOCKET`; ends when its standard input does.
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from benchmarks.inference.null_engine import NullEngine
from gatehouse.engines.messages import ForkHost, HostReady
from gatehouse.inference.lifecycle import local_socket
from gatehouse.inference.lifecycle.channel import Channel
from gatehouse.inference.lifecycle.host_processes import HostListener
from gatehouse.inference.lifecycle.leases import Leases
from gatehouse.inference.lifecycle.local_socket import LocalSocket
from gatehouse.inference.lifecycle.messages import SupervisorToWorker, WorkerToSupervisor
from gatehouse.inference.lifecycle.worker_session import Callers, WorkerSession

_ROOMY_BYTES = 10**12
_IDLE_SECONDS = 3600.0


@dataclass(frozen=True)
class NullHosts:
    """`HostProcesses` of null hosts. None of them ends before this process does."""

    listener: HostListener
    tasks: TaskGroup

    def start(self, order: ForkHost) -> None:
        self.tasks.start_soon(self._run, order)

    def end(self, host_id: int) -> None:
        raise AssertionError(f"host {host_id} was to end: nothing here is idle for so long")

    def startup_seconds(self) -> float:
        return 0.0

    async def _run(self, order: ForkHost) -> None:
        command = [sys.executable, "-m", "benchmarks.inference.null_host"]
        arguments = [order.folder, order.socket_path]
        async with await anyio.open_process([*command, *arguments], stderr=None) as process:
            self.listener.on_started(order.host_id, process.pid)
            assert process.stdout is not None
            await process.stdout.receive()
            engine = NullEngine.load(Path(order.folder))
            ready = HostReady(engine.describe(), engine.memory_bytes())
            self.listener.on_ready(order.host_id, ready)
            await process.wait()


async def serve(socket_path: str) -> None:
    """Listen for hub workers until standard input is closed."""
    leases = Leases(socket_path, _ROOMY_BYTES, _IDLE_SECONDS, num_cores=1)
    callers = Callers()

    async def serve_worker(stream: LocalSocket) -> None:
        channel: Channel[SupervisorToWorker, WorkerToSupervisor]
        channel = Channel(stream, WorkerToSupervisor)
        await WorkerSession(leases, channel, callers).serve()

    async with anyio.create_task_group() as tasks:
        leases.use(NullHosts(leases, tasks))
        tasks.start_soon(local_socket.serve, socket_path, serve_worker)
        await anyio.wait_readable(sys.stdin.fileno())
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    anyio.run(serve, sys.argv[1])
