"""What a stored xorb holds, chunk by chunk: hash, uncompressed length, and where its record lies.

Columns, not objects: a xorb has up to 8192 chunks, and a large file touches thousands of xorbs.
"""

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from gatehouse.storage.xet.hashes import HASH_SIZE

_MAGIC = b"GHchunks"
_VERSION = 1
_HEADER = struct.Struct("<8sII")


@dataclass(frozen=True, slots=True)
class ChunkTable:
    """The chunks of one xorb, in order. Ranges of chunks include `start` and exclude `end`.

    Attributes:
        hashes: The chunk hashes in a row, 32 bytes each.
        raw_ends: For each chunk, where its bytes end in the uncompressed xorb.
        record_ends: For each chunk, where its record (8 bytes of header and the data) ends in the
            stored xorb.
    """

    hashes: bytes
    raw_ends: "array[int]"
    record_ends: "array[int]"

    def __len__(self) -> int:
        return len(self.raw_ends)

    @property
    def raw_size(self) -> int:
        """Uncompressed bytes in all chunks."""
        return self.raw_start(len(self))

    @property
    def stored_size(self) -> int:
        """Bytes of the stored xorb."""
        return self.record_start(len(self))

    def raw_start(self, chunk: int) -> int:
        """Where a chunk begins in the uncompressed xorb."""
        return self.raw_ends[chunk - 1] if chunk else 0

    def raw_length(self, start: int, end: int) -> int:
        """Uncompressed bytes in a range of chunks."""
        return self.raw_start(end) - self.raw_start(start)

    def record_start(self, chunk: int) -> int:
        """Where a chunk's record begins in the stored xorb."""
        return self.record_ends[chunk - 1] if chunk else 0

    def chunk_at(self, raw_offset: int) -> int:
        """The chunk that holds the byte at this offset of the uncompressed xorb."""
        return bisect_right(self.raw_ends, raw_offset)

    def hashes_of(self, start: int, end: int) -> bytes:
        """The chunk hashes of a range in a row."""
        return self.hashes[start * HASH_SIZE : end * HASH_SIZE]

    def leaves(self, start: int, end: int) -> Iterator[tuple[bytes, int]]:
        """The hash and uncompressed length of each chunk in a range."""
        previous = self.raw_start(start)
        for chunk in range(start, end):
            raw_end = self.raw_ends[chunk]
            yield self.hashes[chunk * HASH_SIZE : (chunk + 1) * HASH_SIZE], raw_end - previous
            previous = raw_end

    def to_bytes(self) -> bytes:
        """The form kept beside the xorb, 40 bytes per chunk; all integers little-endian.

        `GHchunks`, u32 version, u32 number of chunks, then the three columns: hashes, raw ends as
        u32, record ends as u32. Any change of meaning takes a new version. A reader that meets
        another version derives the table from the xorb's own records, so no version has to be read
        for ever.
        """
        header = _HEADER.pack(_MAGIC, _VERSION, len(self))
        return header + self.hashes + _packed(self.raw_ends) + _packed(self.record_ends)

    @classmethod
    def from_bytes(cls, data: bytes) -> "ChunkTable | None":
        """Read what `to_bytes` wrote; None if it is of another version or damaged."""
        if len(data) < _HEADER.size:
            return None
        magic, version, num_chunks = _HEADER.unpack_from(data)
        body_size = num_chunks * (HASH_SIZE + 4 + 4)
        if (magic, version) != (_MAGIC, _VERSION) or len(data) != _HEADER.size + body_size:
            return None
        raw_ends_at = _HEADER.size + num_chunks * HASH_SIZE
        record_ends_at = raw_ends_at + num_chunks * 4
        return cls(
            hashes=data[_HEADER.size : raw_ends_at],
            raw_ends=_unpacked(data[raw_ends_at:record_ends_at]),
            record_ends=_unpacked(data[record_ends_at:]),
        )


def _packed(column: "array[int]") -> bytes:
    return _little_endian(array("I", column)).tobytes()


def _unpacked(data: bytes) -> "array[int]":
    column = array("I")
    column.frombytes(data)
    return _little_endian(column)


def _little_endian(column: "array[int]") -> "array[int]":
    assert column.itemsize == 4
    if sys.byteorder == "big":
        column.byteswap()
    return column
