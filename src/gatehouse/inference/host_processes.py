"""Host processes, as the supervisor sees them: started by a fork server, ended by hanging up.

Knows nothing of memory, leases or workers.
"""

import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup

from gatehouse.engines.messages import (
    ForkHost,
    FromForkServer,
    HostExited,
    HostFailed,
    HostReady,
    HostToSupervisor,
    KillHost,
    ToForkServer,
)
from gatehouse.engines.process import compute_environment

_PACKET_BYTES = 65536
_RESTART_DELAY_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostEnded:
    """A host is gone, for whatever reason; its number is not used again."""

    host_id: int
    status: int


class HostListener(Protocol):
    """Who is told about hosts, on the event loop. Each host ends exactly once."""

    def on_ready(self, host_id: int, ready: HostReady) -> None: ...

    def on_failed(self, host_id: int, failed: HostFailed) -> None: ...

    def on_ended(self, ended: HostEnded) -> None: ...


class HostProcesses(Protocol):
    """Starts and ends hosts."""

    def start(self, order: ForkHost) -> None: ...

    def end(self, host_id: int) -> None: ...


@dataclass(eq=False)
class ForkedHosts:
    """`HostProcesses` by a fork server of our own, which is started again if it dies."""

    task_group: TaskGroup
    listener: HostListener
    _controls: dict[int, socket.socket] = field(default_factory=dict)
    _server: socket.socket | None = None

    async def run(self) -> None:
        """Keep a fork server running until cancelled; every host ends with it."""
        while True:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            process = _start_fork_server(theirs)
            theirs.close()
            self._server = ours
            try:
                await self._listen_to(ours)
            finally:
                self._server = None
                ours.close()
                _reap(process)
            # Its children died with it: the system saw to that.
            for host_id in list(self._controls):
                self._close(host_id)
                self.listener.on_ended(HostEnded(host_id, -1))
            await anyio.sleep(_RESTART_DELAY_SECONDS)

    def start(self, order: ForkHost) -> None:
        """Order a host. The listener hears when it is ready, or what became of it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._controls[order.host_id] = ours
            if not self._order(order, theirs):
                self.listener.on_ended(HostEnded(order.host_id, -1))
                self._close(order.host_id)
                return
        self.task_group.start_soon(self._listen_to_host, order.host_id, ours)

    def end(self, host_id: int) -> None:
        """Kill a host that is still there. The listener hears when it is gone."""
        self._order(KillHost(host_id))

    def _order(self, order: ToForkServer, *sockets: socket.socket) -> bool:
        if self._server is None:
            return False
        descriptors = [sock.fileno() for sock in sockets]
        try:
            socket.send_fds(self._server, [msgspec.msgpack.encode(order)], descriptors)
        except OSError:  # it died, or has not read hundreds of orders
            return False
        return True

    async def _listen_to(self, server: socket.socket) -> None:
        while packet := await _receive(server):
            message: FromForkServer = msgspec.msgpack.decode(packet, type=FromForkServer)
            if isinstance(message, HostExited) and message.host_id in self._controls:
                self._read_last_word(message.host_id)
                self._close(message.host_id)
                self.listener.on_ended(HostEnded(message.host_id, message.status))

    async def _listen_to_host(self, host_id: int, control: socket.socket) -> None:
        packet = await _receive(control)
        if packet and host_id in self._controls:
            self._tell(host_id, packet)

    def _read_last_word(self, host_id: int) -> None:
        """News of a host's end, by the fork server, may overtake what the host said itself."""
        try:
            packet = self._controls[host_id].recv(_PACKET_BYTES)
        except OSError:
            return
        if packet:
            self._tell(host_id, packet)

    def _tell(self, host_id: int, packet: bytes) -> None:
        message: HostToSupervisor
        try:
            message = msgspec.msgpack.decode(packet, type=HostToSupervisor)
        except msgspec.MsgspecError:
            # Hosts run what strangers uploaded: one that talks nonsense must not end the others.
            _log.exception("Host %d sent something else.", host_id)
            message = HostFailed("The model could not be loaded: its description is unreadable.")
            self.end(host_id)
        if isinstance(message, HostReady):
            self.listener.on_ready(host_id, message)
        else:
            self.listener.on_failed(host_id, message)

    def _close(self, host_id: int) -> None:
        control = self._controls.pop(host_id)
        anyio.notify_closing(control)
        control.close()


def _start_fork_server(control: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "gatehouse.engines.fork_server", str(control.fileno())],
        pass_fds=[control.fileno()],
        stdin=subprocess.DEVNULL,
        env=compute_environment(os.environ),
    )


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


async def _receive(control: socket.socket) -> bytes:
    """One packet; empty when the other side has gone or the socket was closed here."""
    while True:
        try:
            return control.recv(_PACKET_BYTES)
        except BlockingIOError:
            pass
        except OSError:
            return b""
        try:
            await anyio.wait_readable(control)
        except (anyio.ClosedResourceError, OSError, ValueError):
            return b""
