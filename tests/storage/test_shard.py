import random
import struct
import tracemalloc

import pytest
from xet_encoder import BOOKEND, SHARD_TAG, draft_file, encode_shard, xorb_hash

from gatehouse.storage.xet.hashes import from_text
from gatehouse.storage.xet.shard import (
    MAX_CHUNKS_PER_SHARD,
    MAX_SEGMENTS_PER_FILE,
    MAX_SHARD_SIZE,
    Segment,
    ShardInvalid,
    parse_shard,
)

RANDOM = random.Random(5)
XORBS = [[RANDOM.randbytes(1000) for _ in range(4)] for _ in range(2)]
FIRST = draft_file(XORBS, [(0, 0, 4), (1, 1, 3)])
SECOND = draft_file(XORBS, [(1, 0, 4)])
SHARD = encode_shard([FIRST, SECOND])


def test_files_are_read_in_order() -> None:
    shard = parse_shard(SHARD)
    first, second = shard.files()
    assert shard.num_files == 2
    assert first.file_hash == FIRST.file_hash
    assert first.segments == (
        Segment(xorb_hash(XORBS[0]), 4000, 0, 4),
        Segment(xorb_hash(XORBS[1]), 2000, 1, 3),
    )
    assert list(first.range_hashes or ()) == FIRST.range_hashes
    assert first.sha256 == FIRST.sha256
    assert second.file_hash == SECOND.file_hash
    assert list(shard.files()) == [first, second]


def test_verification_and_sha256_may_be_absent() -> None:
    bare = draft_file(XORBS, [(0, 0, 4)])
    bare.range_hashes = bare.sha256 = None
    first, second = parse_shard(encode_shard([bare, SECOND])).files()
    assert first.range_hashes is None
    assert first.sha256 is None
    assert second.sha256 == SECOND.sha256


def test_a_shard_of_no_files_is_read() -> None:
    assert list(parse_shard(encode_shard([])).files()) == []


@pytest.mark.parametrize("tail", [b"", BOOKEND, b"\x07" * 1000, BOOKEND + bytes(200)])
def test_what_follows_the_files_is_ignored(tail: bytes) -> None:
    assert parse_shard(encode_shard([FIRST], tail)).num_files == 1


def test_a_footer_size_is_ignored() -> None:
    assert parse_shard(SHARD_TAG + struct.pack("<QQ", 2, 200) + SHARD[48:]).num_files == 2


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "ends inside its header"),
        (SHARD[:47], "ends inside its header"),
        (b"x" + SHARD[1:], "This is not a shard"),
        (SHARD_TAG + struct.pack("<QQ", 3, 0) + SHARD[48:], "has version 3"),
        (SHARD[:48], "ends before its list of files does"),
        (SHARD[:95], "ends before its list of files does"),
        (SHARD[: 48 + 48 * 6], f"ends before its list|ends inside file `{FIRST.file_hash}`"),
        (encode_shard([FIRST], b"")[:-48], "ends before its list of files does"),
        (bytes(MAX_SHARD_SIZE + 1), "larger than 67108864 bytes"),
    ],
)
def test_a_broken_shard_is_refused_with_a_sentence(body: bytes, sentence: str) -> None:
    with pytest.raises(ShardInvalid, match=sentence):
        parse_shard(body)


def file_header(num_segments: int) -> bytes:
    return from_text("ab" * 32) + struct.pack("<IIQ", 3 << 30, num_segments, 0)


@pytest.mark.parametrize("num_segments", [3, 1000, MAX_SEGMENTS_PER_FILE, 2**32 - 1])
def test_a_count_beyond_the_body_is_refused_without_memory(num_segments: int) -> None:
    body = SHARD_TAG + struct.pack("<QQ", 2, 0) + file_header(num_segments) + bytes(48 * 3)
    tracemalloc.start()
    with pytest.raises(ShardInvalid, match=r"ends inside file|at most 131072 are allowed"):
        parse_shard(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_too_many_segments_are_refused_even_if_they_are_there() -> None:
    num_segments = MAX_SEGMENTS_PER_FILE + 1
    body = SHARD_TAG + struct.pack("<QQ", 2, 0) + file_header(num_segments)
    with pytest.raises(ShardInvalid, match=f"has {num_segments} segments"):
        parse_shard(body + bytes(48 * 2 * (num_segments + 1)) + BOOKEND)


def test_naming_the_same_chunks_over_and_over_is_bounded() -> None:
    greedy = draft_file(XORBS, [(0, 0, 4)])
    name, length, _, _ = greedy.segments[0]
    greedy.segments = [(name, length, 0, 8192)] * (MAX_CHUNKS_PER_SHARD // 8192)
    assert greedy.range_hashes is not None
    greedy.range_hashes *= len(greedy.segments)
    assert parse_shard(encode_shard([greedy])).num_files == 1
    with pytest.raises(ShardInvalid, match="names more than 16777216 chunks"):
        parse_shard(encode_shard([greedy, SECOND]))
