import random
import struct
import tracemalloc

import lz4.frame
import pytest
from xet_encoder import encode_record, encode_xorb, record_of, xorb_hash

from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.compression import Scheme
from gatehouse.storage.xet.hashes import chunk_hash
from gatehouse.storage.xet.xorb import (
    MAX_CHUNK_SIZE,
    MAX_CHUNKS,
    MAX_RAW_SIZE,
    XorbInvalid,
    parse_xorb,
)

RANDOM = random.Random(7)
FLOATS = struct.pack("<20000f", *(RANDOM.gauss(0, 0.02) for _ in range(20000)))
CHUNKS = [RANDOM.randbytes(9000), b"text " * 4000, FLOATS, b"x", FLOATS[:-1], FLOATS[:-2], b"abc"]


@pytest.mark.parametrize("schemes", [[scheme] for scheme in Scheme] + [list(Scheme)])
def test_every_scheme_decodes_to_the_same_xorb(schemes: list[Scheme]) -> None:
    name, table = parse_xorb(encode_xorb(CHUNKS, schemes))
    assert name == xorb_hash(CHUNKS)
    assert list(table.leaves(0, len(table))) == [(chunk_hash(c), len(c)) for c in CHUNKS]
    assert table.stored_size == len(encode_xorb(CHUNKS, schemes))


def test_a_footer_is_ignored() -> None:
    body = encode_xorb(CHUNKS)
    name, table = parse_xorb(body + b"XETBLOB\x01" + bytes(32) + b"whatever a client adds")
    assert name == xorb_hash(CHUNKS)
    assert table.stored_size == len(body)


def test_table_answers_where_chunks_lie() -> None:
    body = encode_xorb(CHUNKS, list(Scheme))
    _, table = parse_xorb(body)
    assert table.raw_size == sum(map(len, CHUNKS))
    assert table.raw_length(1, 3) == len(CHUNKS[1]) + len(CHUNKS[2])
    assert table.hashes_of(1, 3) == chunk_hash(CHUNKS[1]) + chunk_hash(CHUNKS[2])
    assert [table.chunk_at(at) for at in (0, 8999, 9000, 28999, 29000)] == [0, 0, 1, 1, 2]
    second = body[table.record_start(1) : table.record_start(2)]
    assert second == encode_record(CHUNKS[1], Scheme.LZ4)


def test_table_survives_its_own_form() -> None:
    _, table = parse_xorb(encode_xorb(CHUNKS))
    data = table.to_bytes()
    assert len(data) == 16 + 40 * len(CHUNKS)
    assert ChunkTable.from_bytes(data) == table


def test_table_of_another_version_or_length_is_not_read() -> None:
    data = parse_xorb(encode_xorb(CHUNKS))[1].to_bytes()
    assert ChunkTable.from_bytes(data[:8] + struct.pack("<I", 2) + data[12:]) is None
    assert ChunkTable.from_bytes(b"other!!!" + data[8:]) is None
    assert ChunkTable.from_bytes(data[:-1]) is None
    assert ChunkTable.from_bytes(data + b"\0") is None
    assert ChunkTable.from_bytes(b"") is None


FRAME = lz4.frame.compress(b"a" * 100)
HONEST_FRAME = lz4.frame.compress(b"a" * 100, store_size=False)
LZ4, NONE = Scheme.LZ4, Scheme.NONE


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "holds no chunk"),
        (b"XETBLOB\x01 only a footer", "holds no chunk"),
        (encode_record(b"a") + b"\0\0\0", "chunk 1 ends after 3 bytes of its header"),
        (encode_record(b"abcdef")[:-1], "chunk 0 ends after 5 of its 6 stored bytes"),
        (record_of(b"a", NONE, 1, version=1), "chunk 0 has version 1"),
        (record_of(b"a", 3, 1), "chunk 0 has compression scheme 3"),
        (record_of(b"a", 99, 1), "chunk 0 has compression scheme 99"),
        (record_of(b"a", NONE, 0), "chunk 0 claims 0 bytes"),
        (record_of(b"", NONE, 1), "chunk 0 is stored in 0 bytes"),
        (record_of(FRAME, LZ4, MAX_CHUNK_SIZE + 1), "chunk 0 claims 131073 bytes, and 1 to"),
        (record_of(bytes(262145), NONE, 9), "chunk 0 is stored in 262145 bytes"),
        (record_of(b"abc", NONE, 2), "stored plainly in 3 bytes but claims 2"),
        (record_of(b"not a frame", LZ4, 9), "chunk 0 is not an LZ4 frame"),
        (record_of(FRAME, LZ4, 99), "claims 99 bytes, which its LZ4 frame denies"),
        (record_of(FRAME, Scheme.BG4_LZ4, 101), "which its LZ4 frame denies"),
        (record_of(HONEST_FRAME, LZ4, 99), "claims 99 bytes but inflates to more"),
        (record_of(HONEST_FRAME, LZ4, 101), "but its LZ4 frame ends after 100"),
        (record_of(FRAME[:-5], LZ4, 100), "but its LZ4 frame ends after"),
        (record_of(FRAME + b"z", LZ4, 100), "has bytes after its LZ4 frame"),
        (record_of(FRAME + FRAME, LZ4, 100), "has bytes after its LZ4 frame"),
        (record_of(b"\x50\x2a\x4d\x18\4\0\0\0abcd", LZ4, 4), "which its LZ4 frame denies"),
    ],
)
def test_a_broken_xorb_is_refused_with_a_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(XorbInvalid, match=sentence):
        parse_xorb(body)


def test_the_largest_chunk_is_read() -> None:
    chunk = RANDOM.randbytes(MAX_CHUNK_SIZE)
    assert parse_xorb(encode_xorb([chunk]))[0] == xorb_hash([chunk])


def test_too_many_chunks_are_refused() -> None:
    record = encode_record(b"a")
    name, table = parse_xorb(record * MAX_CHUNKS)
    assert len(table) == MAX_CHUNKS
    assert name == xorb_hash([b"a"] * MAX_CHUNKS)
    with pytest.raises(XorbInvalid, match="more than 8192 chunks"):
        parse_xorb(record * (MAX_CHUNKS + 1))


def test_too_many_uncompressed_bytes_are_refused() -> None:
    record = encode_record(bytes(MAX_CHUNK_SIZE), LZ4)
    num_chunks = MAX_RAW_SIZE // MAX_CHUNK_SIZE
    assert len(parse_xorb(record * num_chunks)[1]) == num_chunks
    with pytest.raises(XorbInvalid, match="more than 67108864 uncompressed bytes"):
        parse_xorb(record * num_chunks + encode_record(b"a"))


def test_too_many_stored_bytes_are_refused() -> None:
    """LZ4 blocks may be stored larger than what they decode to, by adding empty blocks' headers."""
    padded = lz4_frame_padded_to(200_000)
    record = record_of(padded, LZ4, 1)
    assert len(parse_xorb(record)[1]) == 1
    with pytest.raises(XorbInvalid, match="larger than 75497472 bytes"):
        parse_xorb(record * 400)


def lz4_frame_padded_to(size: int) -> bytes:
    """A frame of one byte, made of blocks that hold nothing and one that holds `a`."""
    header: bytes = lz4.frame.compress(b"a", store_size=False)[:7]
    empty_block = struct.pack("<I", 1) + b"\0"
    stored_block = struct.pack("<I", 1 | 1 << 31) + b"a"
    num_empty = (size - len(header) - len(stored_block) - 4) // len(empty_block)
    return header + empty_block * num_empty + stored_block + bytes(4)


@pytest.mark.parametrize("claimed", [1, MAX_CHUNK_SIZE])
@pytest.mark.parametrize(("store_size", "why"), [(True, "denies"), (False, "inflates to more")])
def test_a_bomb_is_stopped_before_it_inflates(store_size: bool, why: str, claimed: int) -> None:
    body = record_of(
        lz4.frame.compress(bytes(60 << 20), store_size=store_size)[:262144], LZ4, claimed
    )
    tracemalloc.start()
    with pytest.raises(XorbInvalid, match=why):
        parse_xorb(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_one_flipped_bit_gives_another_hash_or_is_refused() -> None:
    body = bytearray(encode_xorb([RANDOM.randbytes(3000), b"b" * 3000], [NONE, LZ4]))
    expected = xorb_hash([bytes(body[8:3008]), b"b" * 3000])
    assert parse_xorb(bytes(body))[0] == expected
    refused = 0
    for at in range(0, len(body), 11):
        body[at] ^= 4
        try:
            assert parse_xorb(bytes(body))[0] != expected, at
        except XorbInvalid:
            refused += 1
        body[at] ^= 4
    assert refused
