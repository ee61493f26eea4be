"""Frames on a byte stream: four bytes of length, big-endian, then one MessagePack message.

Pure: turns bytes into messages and back; the callers own the sockets.
"""

import struct
import threading
from typing import Any, Generic, TypeVar

import msgspec

MAX_FRAME_BYTES = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()
# msgspec looks at a type when it first decodes it, and lets other threads run meanwhile: one that
# asks for the same type then gets what is only half prepared, and crashes.
_preparing = threading.Lock()

Message = TypeVar("Message")


class FrameInvalid(Exception):
    """The other side sent bytes that are no message of this protocol."""


def encode_frame(message: msgspec.Struct) -> bytes:
    """One message as it goes over the socket.

    Raises:
        FrameInvalid: The message is larger than a reader accepts.
    """
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameInvalid(f"a message of {len(body)} bytes is over {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


class FrameReader(Generic[Message]):
    """Collects bytes and gives back whole messages of one type (or union of types)."""

    def __init__(self, message_type: Any) -> None:
        with _preparing:
            self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(message_type)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Add what was received and return the messages that are now complete, in order.

        Raises:
            FrameInvalid: A length over the bound, or a body that is not of the type.
        """
        self._buffer += data
        messages = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > MAX_FRAME_BYTES:
                raise FrameInvalid(f"a frame of {length} bytes is over {MAX_FRAME_BYTES}")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(self._decode(bytes(self._buffer[start + _LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return messages

    def _decode(self, body: bytes) -> Message:
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError as error:
            raise FrameInvalid(f"not a message of this protocol: {error}") from error
