"""A TCP proxy in front of the hub that counts bytes, for "this transfers almost nothing".

It can also cut a connection once so many bytes came down, as bad networks do.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

_BUFFER = 64 * 1024


class CountingProxy:
    """Listens on a free loopback port and hands everything to `port`.

    Attributes:
        bytes_up: Bytes that clients sent, headers included.
        bytes_down: Bytes that the hub answered.
        on_bytes_up: Called in the proxy's thread with `bytes_up` after each piece.
        cut_at: The connection on which this many bytes down are reached is cut, once.
    """

    def __init__(self, port: int) -> None:
        self.bytes_up = 0
        self.bytes_down = 0
        self.on_bytes_up: Callable[[int], None] = lambda _total: None
        self.cut_at: int | None = None
        self.port = 0
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        self.bytes_up = self.bytes_down = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            try:
                hub, onward = await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:
                back.close()
                return
            await asyncio.gather(
                self._pump(client, onward, self._went_up), self._pump(hub, back, self._came_down)
            )

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        try:
            with suppress(OSError):
                while data := await source.read(_BUFFER):
                    count(len(data))
                    sink.write(data)
                    await sink.drain()
                    if self.cut_at is not None and self.bytes_down >= self.cut_at:
                        self.cut_at = None
                        sink.transport.abort()
                        return
        finally:
            sink.close()

    def _went_up(self, size: int) -> None:
        self.bytes_up += size
        self.on_bytes_up(self.bytes_up)

    def _came_down(self, size: int) -> None:
        self.bytes_down += size
