"""Typed messages over a local socket, in the frames that hosts speak."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import msgspec

from gatehouse.engines.framing import FrameReader, encode_frame
from gatehouse.inference.lifecycle.local_socket import LocalSocket

Sent = TypeVar("Sent", bound=msgspec.Struct)
Received = TypeVar("Received", bound=msgspec.Struct)


class Channel(Generic[Sent, Received]):
    """A stream of messages each way. Any task may send; one task receives."""

    def __init__(self, stream: LocalSocket, received_type: Any) -> None:
        self._stream = stream
        self._reader: FrameReader[Received] = FrameReader(received_type)

    async def send(self, message: Sent) -> None:
        """Send one message.

        Raises:
            anyio.BrokenResourceError: The other side has gone.
        """
        await self._stream.send(encode_frame(message))

    def post(self, message: Sent) -> None:
        """Send one message without waiting; nothing comes of it if the other side has gone."""
        self._stream.post(encode_frame(message))

    async def receive_all(self) -> AsyncIterator[Received]:
        """Messages until the other side goes.

        Raises:
            FrameInvalid: It sent something else.
        """
        while True:
            try:
                data = await self._stream.receive()
            except anyio.EndOfStream:
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
        self._stream.close()
