"""Unix sockets between the processes of one hub, on the event loop's own transports.

Not anyio's: its streams take a turn of the loop before each send and each receive, register with
the selector anew for each wait, and must not be sent to by two tasks at once. With several messages
to a request and one to a step, that was most of the way to a host and back.
"""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio

from gatehouse.engines.host import listen
from gatehouse.inference.lifecycle.mailbox import Mailbox

_READ_BYTES = 65536


class LocalSocket(asyncio.BufferedProtocol):
    """One end of a connection. Any task may send, one receives."""

    def __init__(self, on_connected: Callable[["LocalSocket"], object] | None = None) -> None:
        self._on_connected = on_connected
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray(_READ_BYTES)
        self._received = Mailbox[bytes]()
        self._may_write = asyncio.Event()
        self._may_write.set()

    async def send(self, data: bytes) -> None:
        """Send all of it, whole even if the caller is cancelled; waits while much is unsent.

        Raises:
            anyio.BrokenResourceError: The other side has gone.
        """
        if not self.post(data):
            raise anyio.BrokenResourceError
        if not self._may_write.is_set():
            await self._may_write.wait()

    def post(self, data: bytes) -> bool:
        """Send without waiting, however much is unsent. False if the other side has gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(data)
        return True

    async def receive(self) -> bytes:
        """What has come, after waiting for something.

        Raises:
            anyio.EndOfStream: The other side has gone.
        """
        parts = await self._received.take()
        if not parts:
            raise anyio.EndOfStream
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Hang up; what is unsent is lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._on_connected is not None:
            self._on_connected(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received.put(bytes(self._buffer[:nbytes]))

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._received.close()
        self._may_write.set()


async def connect(path: str | Path) -> LocalSocket:
    """A connection to whoever listens there.

    Raises:
        OSError: Nobody does.
    """
    loop = asyncio.get_running_loop()
    _, connected = await loop.create_unix_connection(LocalSocket, str(path))
    return connected


async def serve(
    path: str | Path, handle: Callable[[LocalSocket], Coroutine[Any, Any, None]]
) -> None:
    """Listen, for this user only, and handle each connection in a task, until cancelled."""
    loop = asyncio.get_running_loop()
    listener = listen(str(path))
    listener.setblocking(False)
    async with anyio.create_task_group() as tasks:
        server = await loop.create_unix_server(
            lambda: LocalSocket(lambda connected: tasks.start_soon(handle, connected)),
            sock=listener,
        )
        try:
            await anyio.sleep_forever()
        finally:
            server.close()
