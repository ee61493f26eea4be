from itertools import pairwise

import pytest
from xet_encoder import encode_xorb, xorb_hash
from xet_reader import reassemble

from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.reconstruction import Reconstruction, StoredRange, reconstruct
from gatehouse.storage.xet.shard import Segment
from gatehouse.storage.xet.xorb import parse_xorb

# Ten chunks of 100 bytes; a record is 8 bytes longer.
CHUNKS = [[bytes([xorb * 10 + value]) * 100 for value in range(10)] for xorb in range(2)]
BODIES = {xorb_hash(chunks): encode_xorb(chunks) for chunks in CHUNKS}
FIRST, SECOND = BODIES


def chunks_of(name: str) -> ChunkTable:
    return parse_xorb(BODIES[name])[1]


def fetch(stored: StoredRange) -> bytes:
    return BODIES[stored.xorb_hash][stored.start : stored.end]


def segment(name: str, start: int, end: int) -> Segment:
    return Segment(name, (end - start) * 100, start, end)


def plan(segments: list[Segment], start: int, end: int) -> Reconstruction:
    return reconstruct(segments, start, end, chunks_of)


def test_a_whole_file_is_its_segments() -> None:
    segments = [segment(FIRST, 0, 10), segment(SECOND, 2, 5)]
    assert plan(segments, 0, 1300) == Reconstruction(
        offset=0,
        terms=tuple(segments),
        stored=(StoredRange(FIRST, 0, 10, 0, 1080), StoredRange(SECOND, 2, 5, 216, 540)),
    )


def test_a_range_is_cut_at_the_borders_of_chunks() -> None:
    segments = [segment(FIRST, 2, 8), segment(SECOND, 0, 10)]
    found = plan(segments, 250, 801)
    assert found.offset == 50
    assert found.terms == (segment(FIRST, 4, 8), segment(SECOND, 0, 3))
    expected = bytes([4]) * 50 + b"".join(CHUNKS[0][5:8]) + b"".join(CHUNKS[1][:2]) + bytes([12])
    assert reassemble(found, 551, fetch) == expected


@pytest.mark.parametrize(
    ("start", "end", "offset", "chunks"),
    [(0, 1, 0, (0, 1)), (99, 100, 99, (0, 1)), (100, 101, 0, (1, 2)), (99, 101, 99, (0, 2))],
)
def test_one_byte_costs_one_chunk(
    start: int, end: int, offset: int, chunks: tuple[int, int]
) -> None:
    found = plan([segment(FIRST, 0, 10)], start, end)
    assert (found.offset, found.terms) == (offset, (segment(FIRST, *chunks),))


def test_chunks_that_a_file_repeats_are_fetched_once() -> None:
    segments = [segment(FIRST, 0, 3), segment(FIRST, 2, 5), segment(FIRST, 0, 3)]
    found = plan(segments, 0, 900)
    assert found.terms == tuple(segments)
    assert found.stored == (StoredRange(FIRST, 0, 5, 0, 540),)


def test_chunks_between_ranges_are_left_out() -> None:
    """They are of another file, perhaps one that the reader must not have."""
    segments = [segment(FIRST, 6, 8), segment(FIRST, 0, 2)]
    assert plan(segments, 0, 400).stored == (
        StoredRange(FIRST, 0, 2, 0, 216),
        StoredRange(FIRST, 6, 8, 648, 864),
    )


@pytest.mark.parametrize(("size", "borders"), [(250, [1, 3, 5, 6]), (300, [1, 4, 6]), (1, [1, 2])])
def test_long_terms_are_divided_at_chunks(size: int, borders: list[int]) -> None:
    end = borders[-1]
    file = [segment(FIRST, 1, end)]
    found = reconstruct(file, 0, (end - 1) * 100, chunks_of, max_term_size=size)
    assert found.terms == tuple(segment(FIRST, *pair) for pair in pairwise(borders))
    assert [(part.start, part.end) for part in found.stored] == [
        (start * 108, end * 108) for start, end in pairwise(borders)
    ]


def test_a_range_asks_for_no_xorb_outside_of_it() -> None:
    def only_second(name: str) -> ChunkTable:
        assert name == SECOND
        return chunks_of(name)

    segments = [segment(FIRST, 0, 10), segment(SECOND, 0, 10), segment(FIRST, 0, 10)]
    assert reconstruct(segments, 1000, 2000, only_second).terms == (segments[1],)
