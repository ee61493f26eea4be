"""Host processes, as the supervisor sees them: started by a fork server, ended by hanging up.

Knows nothing of leases or workers.
"""

import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup

from gatehouse.engines.messages import (
    ForkHost,
    ForkServerReady,
    FromForkServer,
    HostFailed,
    HostForked,
    HostReady,
    HostToSupervisor,
    KillHost,
    ToForkServer,
)
from gatehouse.engines.process import compute_environment, descendants

_PACKET_BYTES = 65536
_RESTART_DELAY_SECONDS = 1.0
# For importing torch and transformers, before it was done once.
_STARTUP_SECONDS = 6.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostEnded:
    """A host is gone, for whatever reason; its number is not used again.

    Attributes:
        status: See `HostExited`.
        is_its_fault: False if it went with the fork server.
    """

    host_id: int
    status: int
    is_its_fault: bool = True


class HostListener(Protocol):
    """Who is told about hosts, on the event loop. Each host ends exactly once."""

    def on_started(self, host_id: int, pid: int) -> None: ...

    def on_ready(self, host_id: int, ready: HostReady) -> None: ...

    def on_failed(self, host_id: int, failed: HostFailed) -> None: ...

    def on_ended(self, ended: HostEnded) -> None: ...


class HostProcesses(Protocol):
    """Starts and ends hosts."""

    def start(self, order: ForkHost) -> None: ...

    def end(self, host_id: int) -> None: ...

    def startup_seconds(self) -> float:
        """How long until a host can be started, by experience; 0 if one can be now."""
        ...


@dataclass(eq=False)
class ForkedHosts:
    """`HostProcesses` by a fork server of our own, which is started again if it dies."""

    task_group: TaskGroup
    listener: HostListener
    _controls: dict[int, socket.socket] = field(default_factory=dict)
    _server: socket.socket | None = None
    _pending: list[tuple[ForkHost, socket.socket]] = field(default_factory=list)
    _is_ready: bool = False
    _started_at: float = field(default_factory=anyio.current_time)
    _startup_seconds: float = _STARTUP_SECONDS

    async def run(self) -> None:
        """Keep a fork server running until cancelled; every host ends with it."""
        while True:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            process = _start_fork_server(theirs)
            theirs.close()
            self._server, self._started_at = ours, anyio.current_time()
            self._send_pending()
            try:
                await self._listen_to(ours)
            finally:
                self._server, self._is_ready = None, False
                ours.close()
                _reap(process)
            # Its children died with it: the system saw to that.
            for host_id in self._controls.keys() - {order.host_id for order, _ in self._pending}:
                self._forget(host_id)
            await anyio.sleep(_RESTART_DELAY_SECONDS)

    def start(self, order: ForkHost) -> None:
        """Order a host. The listener hears when it is ready, or what became of it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._controls[order.host_id] = ours
        self._pending.append((order, theirs))
        self.task_group.start_soon(self._listen_to_host, order.host_id, ours)
        self._send_pending()

    def end(self, host_id: int) -> None:
        """Kill a host that is still there. The listener hears when it is gone."""
        for order, theirs in self._pending:
            if order.host_id == host_id:
                self._pending.remove((order, theirs))
                theirs.close()
                self._forget(host_id)
                return
        self._order(KillHost(host_id))

    def startup_seconds(self) -> float:
        if self._is_ready:
            return 0.0
        return max(0.0, self._startup_seconds - (anyio.current_time() - self._started_at))

    def _send_pending(self) -> None:
        """Pass on what was ordered; what cannot be taken waits for the next fork server."""
        while self._pending and self._order(*self._pending[0]):
            _, theirs = self._pending.pop(0)
            theirs.close()

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
            self._send_pending()
            if isinstance(message, ForkServerReady):
                self._is_ready = True
                self._startup_seconds = anyio.current_time() - self._started_at
            elif isinstance(message, HostForked):
                self.listener.on_started(message.host_id, message.pid)
            elif message.host_id in self._controls:
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

    def _forget(self, host_id: int) -> None:
        """A host that is gone through no fault of its own."""
        self._close(host_id)
        self.listener.on_ended(HostEnded(host_id, -1, is_its_fault=False))

    def _close(self, host_id: int) -> None:
        control = self._controls.pop(host_id)
        anyio.notify_closing(control)
        control.close()


def resident_bytes(pid: int) -> int:
    """Memory that a process and those that it started take; 0 if it has gone (Linux).

    Files that are mapped are included, once for each process.
    """
    pages = sum(map(_resident_pages, descendants(pid)))
    return pages * os.sysconf("SC_PAGE_SIZE")


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0


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
