"""Server-sent events: one a token, while a model runs.

Until the first event an error has its own status; afterwards it is an event. A client that leaves
ends the generation.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import msgspec
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gatehouse.api.inference.departures import until_the_client_leaves
from gatehouse.core.errors import GatehouseError

_COMMENT = b":\n\n"
_COMMENT_SECONDS = 15.0
# Headers wait this long for the first event, so that an early failure can have its own status.
_PATIENCE_SECONDS = 10.0

Event = dict[str, Any]
# Events that came at once are sent at once.
Events = Event | list[Event]


class EventStream(Response):
    """Runs a generator of events and sends them as they come.

    Args:
        events: Gives the generator; it is started when the response is.
        headers: Of the answer, good or bad; may be filled until the first event.
        refuse: Makes the answer for an error before the first event.
        describe: Makes the body of an error event after it.
        last: Bytes after the last event.
    """

    def __init__(
        self,
        events: Callable[[], AsyncGenerator[Events]],
        headers: dict[str, str],
        refuse: Callable[[GatehouseError], Response],
        describe: Callable[[GatehouseError], Event],
        last: bytes = b"",
    ) -> None:
        self._events = events
        self._filled_headers = headers
        self._refuse = refuse
        self._describe = describe
        self._last = last
        self.status_code = 200
        self.background: BackgroundTask | None = None
        fixed = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        self.body = b""
        self.media_type = "text/event-stream"
        self.charset = ""
        self.init_headers(headers | fixed | {"content-type": "text/event-stream"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wire = _Wire(send, self._start)
        with until_the_client_leaves(receive), wire.bridging_silence():
            await self._answer(wire, scope, receive, send)

    async def _answer(self, wire: "_Wire", scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._events()) as events:
                async for event in events:
                    await wire.send(self._encode(event))
        except GatehouseError as error:
            if await wire.give_up():
                await self._refuse(error)(scope, receive, send)
                return
            await wire.send(self.encode(self._describe(error)))
        await wire.send(self._last, is_last=True)

    def encode(self, event: Event) -> bytes:
        """The event as it is sent."""
        return b"data: " + msgspec.json.encode(event) + b"\n\n"

    def _encode(self, events: Events) -> bytes:
        if isinstance(events, list):
            return b"".join(map(self.encode, events))
        return self.encode(events)

    def _start(self) -> Message:
        self.headers.update(self._filled_headers)
        return {"type": "http.response.start", "status": 200, "headers": self.raw_headers}


class _Wire:
    """What goes to the client: events from one task, and comments from another while it is silent.

    Plain flags keep the two apart, since a lock takes more than all else that is done for a token;
    and a timer starts the other one when it is wanted, since a task that sleeps takes kilobytes.
    """

    def __init__(self, send: Send, start: Callable[[], Message]) -> None:
        self._send = send
        self._start = start
        self._has_begun = False
        self._is_sending = False
        self._comment: asyncio.Task[None] | None = None
        self._last_sent = time.monotonic()

    async def send(self, data: bytes, *, is_last: bool = False) -> None:
        while self._comment is not None:
            await asyncio.wait([self._comment])
        self._is_sending = True
        await self._put(data, is_last=is_last)
        self._is_sending = False

    async def give_up(self) -> bool:
        """Whether nothing was sent; then nothing will be, and another answer can be."""
        while self._comment is not None:
            await asyncio.wait([self._comment])
        self._is_sending = not self._has_begun
        return self._is_sending

    @contextmanager
    def bridging_silence(self) -> Iterator[None]:
        """Send a comment whenever nothing else was sent for a while."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            longest = _COMMENT_SECONDS if self._has_begun else _PATIENCE_SECONDS
            silence = time.monotonic() - self._last_sent
            if silence >= longest:
                self._start_comment()
                longest, silence = _COMMENT_SECONDS, 0.0
            timer = loop.call_later(longest - silence, look)

        timer = loop.call_later(_PATIENCE_SECONDS, look)
        try:
            yield
        finally:
            timer.cancel()
            if self._comment is not None:
                self._comment.cancel()

    def _start_comment(self) -> None:
        # A client that does not read would not read a comment either.
        if not self._is_sending and self._comment is None:
            self._comment = asyncio.ensure_future(self._send_comment())

    async def _send_comment(self) -> None:
        try:
            await self._put(_COMMENT, is_last=False)
        finally:
            self._comment = None

    async def _put(self, data: bytes, *, is_last: bool) -> None:
        self._last_sent = time.monotonic()
        if not self._has_begun:
            self._has_begun = True
            await self._send(self._start())
        await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})
