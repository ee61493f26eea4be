"""Streams of completions over a Unix socket, on an event loop of its own in another thread.

Whoever steps an engine asks what has come; nothing here knows what the events say.
"""

import itertools
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import httpx
from anyio.from_thread import start_blocking_portal

from gatehouse.engines.remote.base import UpstreamMalformed
from gatehouse.engines.remote.event_lines import EventLines

# A thousand scored tokens of a prompt come as one event, a hundred likeliest each.
_MAX_EVENT_BYTES = 64 * 1024 * 1024


class End(Enum):
    """How a stream ended."""

    WHOLE = auto()
    REFUSED = auto()  # another status than 200
    BROKEN = auto()  # the connection went, or what came was no stream


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event of a stream, or its end."""

    request_id: int
    event: bytes | End


class StreamClient:
    """POSTs bodies and hands on the events of the answers.

    Args:
        socket_path: Of the server.
        path: That all bodies go to.
    """

    def __init__(self, socket_path: Path, path: str) -> None:
        self._path = path
        self._arrived: SimpleQueue[tuple[int, Arrival] | None] = SimpleQueue()
        self._numbers = itertools.count()
        # By request: the number of its stream, for whoever uses an id again.
        self._streams: dict[int, tuple[int, Future[None]]] = {}
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=str(socket_path),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            ),
            base_url="http://vllm",
            timeout=None,  # noqa: S113 - a prompt may wait long for its turn
        )
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal("asyncio"))

    def start(self, request_id: int, body: dict[str, Any]) -> None:
        """Begin a stream. Called by the thread that takes."""
        number = next(self._numbers)
        stream = self._portal.start_task_soon(self._stream, number, request_id, body)
        self._streams[request_id] = (number, stream)

    def cancel(self, request_id: int) -> None:
        """Hang up, which ends the work at the other side. Called by the thread that takes."""
        if request_id in self._streams:
            _, stream = self._streams.pop(request_id)
            stream.cancel()

    def wake(self) -> None:
        """Have `take` return soon; called by any thread."""
        self._arrived.put(None)

    def take(self, wait_seconds: float) -> list[Arrival]:
        """What has come of streams that were not cancelled; waits if nothing has."""
        arrived: list[tuple[int, Arrival] | None] = []
        try:
            arrived.append(self._arrived.get(timeout=wait_seconds))
            while True:
                arrived.append(self._arrived.get_nowait())
        except Empty:
            return [one for found in arrived if found and (one := self._wanted(*found))]

    def close(self) -> None:
        for request_id in list(self._streams):
            self.cancel(request_id)
        self._portal.call(self._client.aclose)
        self._stack.close()

    def _wanted(self, number: int, arrival: Arrival) -> Arrival | None:
        current, _ = self._streams.get(arrival.request_id, (None, None))
        return arrival if current == number else None

    async def _stream(self, number: int, request_id: int, body: dict[str, Any]) -> None:
        end = End.BROKEN
        try:
            async with self._client.stream("POST", self._path, json=body) as response:
                if response.status_code != 200:
                    end = End.REFUSED
                    return
                lines = EventLines(_MAX_EVENT_BYTES)
                async for chunk in response.aiter_raw():
                    for event in lines.feed(chunk):
                        self._arrived.put((number, Arrival(request_id, event)))
                end = End.WHOLE
        except (httpx.HTTPError, UpstreamMalformed):
            end = End.BROKEN
        finally:
            self._arrived.put((number, Arrival(request_id, end)))
