"""Take a request's body in, bounded, without holding it in memory."""

import re
import tempfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import IO

from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from gatehouse.core.errors import Invalid, TooLarge
from gatehouse.http.context import services_of

_IN_MEMORY = 1024 * 1024
_WRITE_SIZE = 1024 * 1024
# How long a client may send nothing: of a small body, and of one that it may still be making, as
# git does with a pack.
_STALLED_SECONDS = 30.0
_STALLED_UPLOAD_SECONDS = 300.0
_LENGTH = re.compile(r"[0-9]{1,18}")


def declared_length(request: Request, limit: int) -> int | None:
    """The Content-Length, refused at once when it is over `limit` bytes."""
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not _LENGTH.fullmatch(text):
        raise Invalid("`Content-Length` must be a whole number.")
    if int(text) > limit:
        raise too_large(limit)
    return int(text)


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"Payload too large: the body may have at most {limit} bytes.")


async def read_body(request: Request, limit: int) -> bytes:
    """A small body, whole.

    Raises:
        TooLarge: It is over `limit` bytes.
        BodyStalled: The client sends no more of it.
    """
    declared_length(request, limit)
    waits, receive = services_of(request).body_waits, request.receive
    parts = bytearray()
    while True:
        message = await waits.next_message(receive, _STALLED_SECONDS)
        parts += _piece(message)
        if len(parts) > limit:
            raise too_large(limit)
        if not message.get("more_body"):
            return bytes(parts)


async def uploaded_pieces(request: Request) -> AsyncGenerator[bytes]:
    """A body of any size, as it comes.

    Raises:
        BodyStalled: The client sends no more of it.
    """
    waits, receive = services_of(request).body_waits, request.receive
    is_open = True
    while is_open:
        message = await waits.next_message(receive, _STALLED_UPLOAD_SECONDS)
        yield _piece(message)
        is_open = message.get("more_body", False)


async def copy_body(request: Request, write: Callable[[bytes], object], limit: int) -> int:
    """Feed the body to `write`, in a worker thread, about 1 MiB at a time.

    Returns the bytes copied.

    Raises:
        TooLarge: It is over `limit` bytes.
        BodyStalled: The client sends no more of it.
    """
    declared_length(request, limit)
    total = 0
    buffer = bytearray()
    async for chunk in uploaded_pieces(request):
        buffer += chunk
        total += len(chunk)
        if total > limit:
            raise too_large(limit)
        if len(buffer) >= _WRITE_SIZE:
            await run_sync(write, bytes(buffer))
            buffer.clear()
    if buffer:
        await run_sync(write, bytes(buffer))
    return total


async def spool_body(request: Request, folder: Path, limit: int) -> IO[bytes]:
    """The body as a temporary file at its start, on disk once it is large. The caller closes it."""
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder))  # noqa: SIM115
    try:
        await copy_body(request, spool.write, limit)
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return spool


def _piece(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    piece: bytes = message.get("body", b"")
    return piece
