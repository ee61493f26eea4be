"""How a client rebuilds a range of a file: which chunks of which xorbs, and where they are stored.

Pure arithmetic over segments and chunk tables; it reads no bytes and knows no address. Source: IETF
`draft-denis-xet`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.shard import Segment

ChunksOf = Callable[[str], ChunkTable]

# Clients fetch each range over a connection of its own, and all of it again when that is cut.
MAX_TERM_SIZE = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredRange:
    """Chunks `start_chunk` to `end_chunk` of a stored xorb, as its bytes `start` to `end`.

    Both ends are exclusive.
    """

    xorb_hash: str
    start_chunk: int
    end_chunk: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What to fetch and decode for a range of a file.

    Attributes:
        offset: How many bytes of the first term come before the range.
        terms: Whole chunks, in the order of the file; the last may reach past the range.
        stored: What the terms are read from. Each term lies in one of these, and none of them
            holds a chunk that is in no term.
    """

    offset: int
    terms: tuple[Segment, ...]
    stored: tuple[StoredRange, ...]


def reconstruct(
    segments: Sequence[Segment],
    start: int,
    end: int,
    chunks_of: ChunksOf,
    *,
    max_term_size: int = MAX_TERM_SIZE,
) -> Reconstruction:
    """Plan the bytes `start` to `end` (exclusive) of a proven file.

    Args:
        segments: The file's segments.
        start: The first byte.
        end: One past the last byte; after `start` and within the file.
        chunks_of: The chunks of a xorb by its hash.
        max_term_size: Uncompressed bytes of a term, unless a single chunk has more.
    """
    assert 0 <= start < end
    offset = 0
    terms: list[Segment] = []
    position = 0
    for segment in segments:
        segment_end = position + segment.raw_length
        if segment_end > start and position < end:
            first, last = max(start - position, 0), min(end, segment_end) - position
            table = chunks_of(segment.xorb_hash)
            skipped, term = _cut(segment, first, last, table)
            if not terms:
                offset = first - skipped
            terms += _divided(term, table, max_term_size)
        position = segment_end
    assert end <= position
    return Reconstruction(offset, tuple(terms), tuple(_stored(terms, chunks_of)))


def _cut(segment: Segment, start: int, end: int, table: ChunkTable) -> tuple[int, Segment]:
    """The chunks that hold bytes `start` to `end` of a segment, and how many bytes lie before."""
    base = table.raw_start(segment.start_chunk)
    first = table.chunk_at(base + start)
    last = table.chunk_at(base + end - 1) + 1
    term = Segment(segment.xorb_hash, table.raw_length(first, last), first, last)
    return table.raw_start(first) - base, term


def _divided(term: Segment, table: ChunkTable, max_size: int) -> Iterator[Segment]:
    start = term.start_chunk
    while start < term.end_chunk:
        fitting = table.chunk_at(table.raw_start(start) + max_size)
        end = min(max(fitting, start + 1), term.end_chunk)
        yield Segment(term.xorb_hash, table.raw_length(start, end), start, end)
        start = end


def _stored(terms: Iterable[Segment], chunks_of: ChunksOf) -> Iterator[StoredRange]:
    """Terms that overlap share a range, so that no byte is fetched twice."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for term in terms:
        spans.setdefault(term.xorb_hash, []).append((term.start_chunk, term.end_chunk))
    for xorb_hash, chunks in spans.items():
        table = chunks_of(xorb_hash)
        for start, end in _merged(chunks):
            yield StoredRange(
                xorb_hash, start, end, table.record_start(start), table.record_start(end)
            )


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
