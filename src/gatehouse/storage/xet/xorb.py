"""Reading a serialized xorb, and proving that it is the one its name says.

A xorb is chunk records back to back. A footer, which some clients add, is not read: everything
follows from the records. It knows no store and no file. Source: IETF `draft-denis-xet`.
"""

import io
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from gatehouse.core.errors import Invalid
from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.compression import Scheme, UndecodableChunk, decode
from gatehouse.storage.xet.hashes import HashTree, chunk_hash, to_text

MAX_CHUNK_SIZE = 128 * 1024
MAX_CHUNKS = 8192
MAX_RAW_SIZE = 64 * 1024 * 1024
# More than the raw size: 8 bytes of header per chunk, and perhaps a footer.
MAX_BODY_SIZE = 72 * 1024 * 1024

RECORD_HEADER_SIZE = 8
# Stock clients refuse to read larger ones.
_MAX_STORED_CHUNK_SIZE = 2 * MAX_CHUNK_SIZE
_FOOTER_IDENT = b"XETBLOB"
_RECORD_VERSION = 0
_SCHEMES = frozenset(Scheme)
_TWO_WORDS = struct.Struct("<II")


class XorbInvalid(Invalid):
    """A xorb breaks its format, or is not the one that its name says."""


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """One chunk as stored: `header` and `data` as received, `raw` uncompressed."""

    header: bytes
    data: bytes
    raw: bytes


def parse_xorb(body: bytes) -> tuple[str, ChunkTable]:
    """The hash and the chunks of a serialized xorb.

    Raises:
        XorbInvalid: It breaks the format or a limit.
    """
    return scan_xorb(io.BytesIO(body), lambda _: None)


def scan_xorb(
    stream: BinaryIO, on_record: Callable[[ChunkRecord], object]
) -> tuple[str, ChunkTable]:
    """Read a xorb record by record; one record is in memory at a time.

    Args:
        stream: The serialized xorb from its start.
        on_record: Is handed each record once it is decoded, before the whole is known to be right.

    Returns:
        The xorb's hash as text, and its chunks.

    Raises:
        XorbInvalid: It breaks the format or a limit.
    """
    tree = HashTree()
    hashes = bytearray()
    raw_ends, record_ends = array("I"), array("I")
    raw_end = record_end = 0
    for record in read_records(stream):
        digest = chunk_hash(record.raw)
        tree.add(digest, len(record.raw))
        raw_end += len(record.raw)
        record_end += RECORD_HEADER_SIZE + len(record.data)
        _check_totals(len(raw_ends) + 1, raw_end, record_end)
        hashes += digest
        raw_ends.append(raw_end)
        record_ends.append(record_end)
        on_record(record)
    if not raw_ends:
        raise XorbInvalid("The xorb holds no chunk.")
    return to_text(tree.root()), ChunkTable(bytes(hashes), raw_ends, record_ends)


def read_records(stream: BinaryIO) -> Iterator[ChunkRecord]:
    """Decode records until the stream or the chunk section ends.

    Raises:
        XorbInvalid: A record breaks the format; the message says which.
    """
    index = 0
    while header := stream.read(RECORD_HEADER_SIZE):
        if header.startswith(_FOOTER_IDENT):
            return
        try:
            yield _read_record(stream, header)
        except UndecodableChunk as error:
            raise XorbInvalid(f"The xorb is not valid: chunk {index} {error}.") from error
        index += 1


def _read_record(stream: BinaryIO, header: bytes) -> ChunkRecord:
    if len(header) < RECORD_HEADER_SIZE:
        raise UndecodableChunk(f"ends after {len(header)} bytes of its header")
    version_and_stored, scheme_and_raw = _TWO_WORDS.unpack(header)
    version, stored_size = version_and_stored & 0xFF, version_and_stored >> 8
    scheme, raw_size = scheme_and_raw & 0xFF, scheme_and_raw >> 8
    if version != _RECORD_VERSION:
        raise UndecodableChunk(f"has version {version}, and only {_RECORD_VERSION} is known")
    if scheme not in _SCHEMES:
        raise UndecodableChunk(f"has compression scheme {scheme}, and only 0, 1 and 2 are known")
    if not 0 < raw_size <= MAX_CHUNK_SIZE:
        raise UndecodableChunk(f"claims {raw_size} bytes, and 1 to {MAX_CHUNK_SIZE} are allowed")
    if not 0 < stored_size <= _MAX_STORED_CHUNK_SIZE:
        raise UndecodableChunk(
            f"is stored in {stored_size} bytes, and 1 to {_MAX_STORED_CHUNK_SIZE} are allowed"
        )
    data = stream.read(stored_size)
    if len(data) < stored_size:
        raise UndecodableChunk(f"ends after {len(data)} of its {stored_size} stored bytes")
    return ChunkRecord(header, data, decode(Scheme(scheme), data, raw_size))


def _check_totals(num_chunks: int, raw_size: int, stored_size: int) -> None:
    if num_chunks > MAX_CHUNKS:
        raise XorbInvalid(f"The xorb holds more than {MAX_CHUNKS} chunks.")
    if raw_size > MAX_RAW_SIZE:
        raise XorbInvalid(f"The xorb holds more than {MAX_RAW_SIZE} uncompressed bytes.")
    if stored_size > MAX_BODY_SIZE:
        raise XorbInvalid(f"The xorb is larger than {MAX_BODY_SIZE} bytes.")
