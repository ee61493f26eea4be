"""Takes in the body of a git request, packed or not, with a bound on what it becomes."""

import tempfile
import zlib
from collections.abc import AsyncIterable, Iterator
from pathlib import Path
from typing import IO

import anyio.to_thread

from gatehouse.core.errors import Invalid
from gatehouse.storage.git.errors import InvalidWire, RequestTooLarge

# Lists of object ids halve at best; only a bomb shrinks a hundredfold.
_MAX_EXPANSION = 100
_EXPANSION_FREE_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024


class BodyDecoder:
    """Undoes the `Content-Encoding` of a body, piece by piece.

    Args:
        encoding: None, `identity`, `gzip` or `x-gzip`.
        limit: Bytes that may come out.

    Raises:
        Invalid: Another encoding.
    """

    def __init__(self, encoding: str | None, limit: int) -> None:
        name = (encoding or "identity").strip().lower()
        if name not in ("identity", "gzip", "x-gzip"):
            raise Invalid(f"`Content-Encoding: {name[:50]}` is not supported; use gzip or none.")
        self._inflater = None if name == "identity" else zlib.decompressobj(wbits=31)
        self._limit = limit
        self._num_taken = 0
        self._num_given = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what `chunk` holds, in pieces of bounded size.

        Raises:
            RequestTooLarge: More than the limit came out, or far more than went in.
            InvalidWire: It is not gzip, or bytes follow the end of it.
        """
        self._num_taken += len(chunk)
        if self._inflater is None:
            yield self._count(chunk)
            return
        while chunk:
            if self._inflater.eof:
                raise InvalidWire("Bytes follow the end of the gzip body.")
            try:
                piece = self._inflater.decompress(chunk, _PIECE_BYTES)
            except zlib.error:
                raise InvalidWire("The body is not valid gzip.") from None
            yield self._count(piece)
            chunk = self._inflater.unconsumed_tail or self._inflater.unused_data

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            InvalidWire: The gzip stream has not.
        """
        if self._inflater is not None and not self._inflater.eof:
            raise InvalidWire("The gzip body is cut short.")

    def _count(self, piece: bytes) -> bytes:
        self._num_given += len(piece)
        allowed = max(_EXPANSION_FREE_BYTES, self._num_taken * _MAX_EXPANSION)
        if self._num_given > self._limit or self._num_given > allowed:
            raise RequestTooLarge(min(self._limit, allowed))
        return piece


async def spool(
    body: AsyncIterable[bytes], folder: Path, encoding: str | None, limit: int
) -> IO[bytes]:
    """Write the decoded `body` to a nameless file in `folder`; return it, at its start.

    No git process is started, and no memory is used, for a client that sends slowly. The file has
    no name, so nothing is left of it after a crash.

    Raises:
        Invalid, InvalidWire, RequestTooLarge: See `BodyDecoder`.
    """
    decoder = BodyDecoder(encoding, limit)
    file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - returned open
    try:
        async for chunk in body:
            await anyio.to_thread.run_sync(_write, file, decoder, chunk)
        decoder.finish()
        await anyio.to_thread.run_sync(file.seek, 0)
    except BaseException:
        file.close()
        raise
    return file


def _write(file: IO[bytes], decoder: BodyDecoder, chunk: bytes) -> None:
    for piece in decoder.feed(chunk):
        file.write(piece)
