"""Server-sent events: one a token, while a model runs.

Until the first event an error has its own status; afterwards it is an event. A client that leaves
ends the generation.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gatehouse.core.errors import GatehouseError

_COMMENT = b":\n\n"
_COMMENT_SECONDS = 15.0
# Headers wait this long for the first event, so that an early failure can have its own status.
_PATIENCE_SECONDS = 10.0
_NUM_BUFFERED = 64

Event = dict[str, Any]
Item = Event | GatehouseError | None


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
        events: Callable[[], AsyncGenerator[Event]],
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
        producer, consumer = anyio.create_memory_object_stream[Item](_NUM_BUFFERED)
        async with anyio.create_task_group() as tasks:

            async def end_when_the_client_leaves() -> None:
                await until_disconnected(receive)
                tasks.cancel_scope.cancel()

            tasks.start_soon(end_when_the_client_leaves)
            tasks.start_soon(self._produce, producer)
            with consumer:
                await self._answer(scope, receive, send, consumer)
            tasks.cancel_scope.cancel()

    async def _produce(self, producer: MemoryObjectSendStream[Item]) -> None:
        with producer:
            try:
                async with aclosing(self._events()) as events:
                    async for event in events:
                        await producer.send(event)
            except GatehouseError as error:
                await producer.send(error)
            await producer.send(None)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        consumer: MemoryObjectReceiveStream[Item],
    ) -> None:
        item: Item | bytes = _COMMENT
        with anyio.move_on_after(_PATIENCE_SECONDS):
            item = await consumer.receive()
        if isinstance(item, GatehouseError):
            await self._refuse(item)(scope, receive, send)
            return
        self.headers.update(self._filled_headers)
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        while item is not None:
            body = item if isinstance(item, bytes) else self._encode(item)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            item = _COMMENT
            with anyio.move_on_after(_COMMENT_SECONDS):
                item = await consumer.receive()
        await send({"type": "http.response.body", "body": self._last})

    def encode(self, event: Event) -> bytes:
        """The event as it is sent."""
        return b"data: " + msgspec.json.encode(event) + b"\n\n"

    def _encode(self, item: Event | GatehouseError) -> bytes:
        return self.encode(self._describe(item) if isinstance(item, GatehouseError) else item)


async def until_disconnected(receive: Receive) -> None:
    """Return when the client has gone. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
