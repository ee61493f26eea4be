"""The supervisor with real leases and sessions, whose hosts are threads of its own process.

Run as `python -m benchmarks.inference.null_supervisor SOCKET`; ends when its standard input does.
"""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio

from benchmarks.inference.null_engine import NullEngine
from gatehouse.engines.host import Host, listen
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
class ThreadHosts:
    """`HostProcesses` in this process. None of them ever ends."""

    listener: HostListener

    def start(self, order: ForkHost) -> None:
        engine = NullEngine.load(Path(order.folder))
        Host(engine, listen(order.socket_path), on_crash=lambda: os._exit(70)).start()
        self.listener.on_started(order.host_id, os.getpid())
        self.listener.on_ready(order.host_id, HostReady(engine.describe(), engine.memory_bytes()))

    def end(self, host_id: int) -> None:
        raise NotImplementedError

    def startup_seconds(self) -> float:
        return 0.0


async def serve(socket_path: str) -> None:
    """Listen for hub workers until standard input is closed."""
    leases = Leases(socket_path, _ROOMY_BYTES, _IDLE_SECONDS, num_cores=1)
    leases.use(ThreadHosts(leases))
    callers = Callers()

    async def serve_worker(stream: LocalSocket) -> None:
        channel: Channel[SupervisorToWorker, WorkerToSupervisor]
        channel = Channel(stream, WorkerToSupervisor)
        await WorkerSession(leases, channel, callers).serve()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(local_socket.serve, socket_path, serve_worker)
        await anyio.wait_readable(sys.stdin.fileno())
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    anyio.run(serve, sys.argv[1])
