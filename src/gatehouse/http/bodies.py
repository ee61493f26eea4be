"""Take a request's body in, bounded, without holding it in memory."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from anyio.to_thread import run_sync
from starlette.requests import Request

from gatehouse.core.errors import Invalid, TooLarge

_IN_MEMORY = 1024 * 1024
_WRITE_SIZE = 1024 * 1024
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
    """A small body, whole."""
    declared_length(request, limit)
    parts = bytearray()
    async for chunk in request.stream():
        parts += chunk
        if len(parts) > limit:
            raise too_large(limit)
    return bytes(parts)


async def copy_body(request: Request, write: Callable[[bytes], object], limit: int) -> int:
    """Feed the body to `write`, in a worker thread, about 1 MiB at a time.

    Returns the bytes copied.
    """
    declared_length(request, limit)
    total = 0
    buffer = bytearray()
    async for chunk in request.stream():
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
