"""Files made of chunks: proving what a shard says about one, and reading its bytes back.

Tables and bytes are handed in, so this knows neither who may use a xorb nor where it lies.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.hashes import HashTree, range_hash, to_text
from gatehouse.storage.xet.shard import Segment, ShardFile, ShardInvalid
from gatehouse.storage.xet.store import XorbNotFound, XorbStore


@dataclass(frozen=True, slots=True)
class XetFile:
    """A file whose chunks, lengths and Xet hash are proven; its SHA-256 is not.

    Attributes:
        file_hash: The Xet hash, as text.
        size: Uncompressed bytes.
        segments: Its bytes in order; none for an empty file.
    """

    file_hash: str
    size: int
    segments: tuple[Segment, ...]


def verify_file(file: ShardFile, chunks_of: Callable[[str], ChunkTable | None]) -> XetFile:
    """Prove one file of a shard against the chunks of its xorbs.

    Args:
        file: What the shard says.
        chunks_of: The chunks of a xorb by its hash, or None unless the uploader may use it.

    Raises:
        ShardInvalid: A range, a length or a hash is missing or wrong.
        XorbNotFound: `chunks_of` gave None.
    """
    if file.range_hashes is None:
        raise ShardInvalid(f"file `{file.file_hash}` comes without the hashes of its segments.")
    tree = HashTree()
    pairs = zip(file.segments, file.range_hashes, strict=True)
    for index, (segment, claimed_range_hash) in enumerate(pairs):
        table = chunks_of(segment.xorb_hash)
        if table is None:
            raise XorbNotFound(segment.xorb_hash)
        fault = _fault(segment, claimed_range_hash, table)
        if fault:
            raise ShardInvalid(f"segment {index} of file `{file.file_hash}` {fault}.")
        for digest, length in table.leaves(segment.start_chunk, segment.end_chunk):
            tree.add(digest, length)
    actual = to_text(tree.file_hash())
    if actual != file.file_hash:
        raise ShardInvalid(f"The chunks of file `{file.file_hash}` make `{actual}`.")
    size = sum(segment.raw_length for segment in file.segments)
    return XetFile(file.file_hash, size, file.segments)


def iter_file(
    store: XorbStore, segments: Sequence[Segment], start: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """The bytes `start` to `end` (exclusive) of a file, in pieces of at most one chunk.

    Only chunks that hold some of these bytes are read and decoded.

    Args:
        store: Where its xorbs are.
        segments: A proven file's segments.
        start: The first byte.
        end: One past the last byte, within the file; None for the end of the file.

    Raises:
        XorbNotFound: A xorb is gone.
        XorbDamaged: A stored xorb does not decode to what was proven.
    """
    position = 0
    for segment in segments:
        segment_end = position + segment.raw_length
        if end is not None and max(position, start) >= end:
            return
        if segment_end > start:
            last = segment_end if end is None else min(end, segment_end)
            yield from _iter_segment(store, segment, max(start - position, 0), last - position)
        position = segment_end


def _iter_segment(store: XorbStore, segment: Segment, start: int, end: int) -> Iterator[bytes]:
    """Bytes `start` to `end` of a segment, neither empty nor beyond it."""
    table = store.chunks(segment.xorb_hash)
    if table is None:
        raise XorbNotFound(segment.xorb_hash)
    base = table.raw_start(segment.start_chunk)
    first_chunk = table.chunk_at(base + start)
    end_chunk = table.chunk_at(base + end - 1) + 1
    position = table.raw_start(first_chunk) - base
    for raw in store.read(segment.xorb_hash, first_chunk, end_chunk):
        cut_start, cut_end = max(start - position, 0), min(end - position, len(raw))
        yield raw[cut_start:cut_end]
        position += len(raw)


def _fault(segment: Segment, claimed_range_hash: bytes, table: ChunkTable) -> str | None:
    """What is wrong with a segment, to follow "segment 3 of file ...", or None."""
    start, end = segment.start_chunk, segment.end_chunk
    if not start < end <= len(table):
        return (
            f"names chunks {start} to {end} of xorb `{segment.xorb_hash}`, which has {len(table)}"
        )
    if table.raw_length(start, end) != segment.raw_length:
        return (
            f"claims {segment.raw_length} bytes, but its chunks hold {table.raw_length(start, end)}"
        )
    if range_hash(table.hashes_of(start, end)) != claimed_range_hash:
        return f"has the wrong hash for its chunks of xorb `{segment.xorb_hash}`"
    return None
