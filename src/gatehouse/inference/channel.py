"""Typed messages over an anyio byte stream, in the frames that hosts speak."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import msgspec
from anyio.abc import ByteStream

from gatehouse.engines.framing import FrameReader, encode_frame

Sent = TypeVar("Sent", bound=msgspec.Struct)
Received = TypeVar("Received", bound=msgspec.Struct)

_READ_BYTES = 65536


class Channel(Generic[Sent, Received]):
    """A stream of messages each way. Any task may send; one task receives."""

    def __init__(self, stream: ByteStream, received_type: Any) -> None:
        self._stream = stream
        self._reader: FrameReader[Received] = FrameReader(received_type)
        self._sending = anyio.Lock()

    async def send(self, message: Sent) -> None:
        """Send one message.

        Raises:
            anyio.BrokenResourceError: The other side has gone.
        """
        frame = encode_frame(message)
        async with self._sending:
            await self._stream.send(frame)

    async def receive_all(self) -> AsyncIterator[Received]:
        """Messages until the other side goes.

        Raises:
            FrameInvalid: It sent something else.
        """
        while True:
            try:
                data = await self._stream.receive(_READ_BYTES)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            for message in self._reader.feed(data):
                yield message

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stream.aclose()
