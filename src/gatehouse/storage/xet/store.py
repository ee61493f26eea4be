"""Where xorbs are kept: the seam, and what disk and memory have in common.

A stored xorb was proven to be the one its name says. Who may use it is decided by the rooms above.
"""

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Protocol

from gatehouse.core.errors import Invalid, Unavailable
from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.hashes import from_text
from gatehouse.storage.xet.xorb import (
    MAX_BODY_SIZE,
    ChunkRecord,
    XorbInvalid,
    read_records,
    scan_xorb,
)

# Large enough that reading a 64 KiB chunk rarely takes two system calls.
READ_BUFFER_SIZE = 256 * 1024


class XorbNotFound(Invalid):
    """A xorb is not stored, or not usable by whoever named it; both look the same."""

    def __init__(self, xorb_hash: str) -> None:
        super().__init__(
            f"The xorb `{xorb_hash[:100]}` is not known here. If uploads keep failing with this, "
            "the client remembers uploads that are gone: delete its Xet cache and try again."
        )
        self.xorb_hash = xorb_hash


class XorbDamaged(Unavailable):
    """A stored xorb is no longer what it was when it was proven."""

    def __init__(self, xorb_hash: str) -> None:
        super().__init__(f"The stored xorb `{xorb_hash}` is damaged. Tell an administrator.")
        self.xorb_hash = xorb_hash


@dataclass(frozen=True, slots=True)
class Xorb:
    """A stored xorb: its hash as text, and its chunks."""

    hash: str
    chunks: ChunkTable


class XorbStore(Protocol):
    """Proven xorbs by hash, in the text form of the Xet protocol."""

    def put(self, xorb_hash: str, body: bytes | Path) -> tuple[Xorb, bool]:
        """Prove a serialized xorb and keep it; durable when this returns.

        The body is always proven in full, also when the xorb is stored already, so that whoever
        uploads has shown that they hold its bytes.

        Args:
            xorb_hash: What the uploader says it is.
            body: The bytes, or a file of them, which is left as it is. A footer is not kept.

        Returns:
            The xorb, and whether it was not stored before.

        Raises:
            HashInvalid: `xorb_hash` is not a hash.
            XorbInvalid: The body breaks the format or a limit, or has another hash.
        """
        ...

    def chunks(self, xorb_hash: str) -> ChunkTable | None:
        """The chunks of a stored xorb, or None if it is not stored."""
        ...

    def read(self, xorb_hash: str, start_chunk: int, end_chunk: int) -> Iterator[bytes]:
        """The uncompressed chunks `start_chunk` to `end_chunk` (exclusive), one by one.

        Raises:
            XorbNotFound: It is not stored; raised when the first chunk is asked for.
            XorbDamaged: The stored bytes do not decode to what was proven.
        """
        ...

    def path(self, xorb_hash: str) -> Path | None:
        """A local file of the stored records for ranged sendfile; None if there is none."""
        ...

    def delete(self, xorb_hash: str) -> None:
        """Remove a xorb, if it is stored."""
        ...


class MemoryXorbStore:
    """A `XorbStore` that forgets everything with the process."""

    def __init__(self) -> None:
        self._xorbs: dict[str, tuple[bytes, ChunkTable]] = {}

    def put(self, xorb_hash: str, body: bytes | Path) -> tuple[Xorb, bool]:
        stored = io.BytesIO()
        table = prove_xorb(xorb_hash, body, stored)
        is_new = xorb_hash not in self._xorbs
        self._xorbs[xorb_hash] = (stored.getvalue(), table)
        return Xorb(xorb_hash, table), is_new

    def chunks(self, xorb_hash: str) -> ChunkTable | None:
        entry = self._xorbs.get(xorb_hash)
        return entry[1] if entry else None

    def read(self, xorb_hash: str, start_chunk: int, end_chunk: int) -> Iterator[bytes]:
        if xorb_hash not in self._xorbs:
            raise XorbNotFound(xorb_hash)
        stored, table = self._xorbs[xorb_hash]
        yield from read_chunks(io.BytesIO(stored), Xorb(xorb_hash, table), start_chunk, end_chunk)

    def path(self, xorb_hash: str) -> Path | None:
        return None

    def delete(self, xorb_hash: str) -> None:
        self._xorbs.pop(xorb_hash, None)


def prove_xorb(xorb_hash: str, body: bytes | Path, stored: BinaryIO) -> ChunkTable:
    """Copy the records of a body to `stored` while proving that they are the named xorb.

    What was written counts only if this returns.

    Raises:
        HashInvalid: `xorb_hash` is not a hash.
        XorbInvalid: The body breaks the format or a limit, or has another hash.
    """
    from_text(xorb_hash)
    if _size(body) > MAX_BODY_SIZE:
        raise XorbInvalid(f"The xorb is larger than {MAX_BODY_SIZE} bytes.")

    def copy(record: ChunkRecord) -> None:
        stored.write(record.header)
        stored.write(record.data)

    with _reader(body) as stream:
        actual, table = scan_xorb(stream, copy)
    if actual != xorb_hash:
        raise XorbInvalid(f"The uploaded xorb has hash `{actual}`, not `{xorb_hash}`.")
    return table


def read_chunks(stream: BinaryIO, xorb: Xorb, start_chunk: int, end_chunk: int) -> Iterator[bytes]:
    """Decode a range of chunks from the records of a stored xorb.

    Raises:
        XorbDamaged: The records do not decode to what was proven.
    """
    assert 0 <= start_chunk <= end_chunk <= len(xorb.chunks)
    stream.seek(xorb.chunks.record_start(start_chunk))
    raw_end = xorb.chunks.raw_start(start_chunk)
    chunk = start_chunk
    try:
        for record in islice(read_records(stream), end_chunk - start_chunk):
            raw_end += len(record.raw)
            if raw_end != xorb.chunks.raw_start(chunk + 1):
                raise XorbDamaged(xorb.hash)
            yield record.raw
            chunk += 1
    except XorbInvalid as error:
        raise XorbDamaged(xorb.hash) from error
    if chunk != end_chunk:
        raise XorbDamaged(xorb.hash)


def _size(body: bytes | Path) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def _reader(body: bytes | Path) -> AbstractContextManager[BinaryIO]:
    if isinstance(body, bytes):
        return io.BytesIO(body)
    return body.open("rb", buffering=READ_BUFFER_SIZE)
