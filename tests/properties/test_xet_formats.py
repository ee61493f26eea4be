"""Arbitrary bytes are a xorb, a shard or a table, or are refused; never with much memory."""

import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from xet_encoder import (
    SHARD_TAG,
    draft_file,
    encode_record,
    encode_shard,
    encode_xorb,
    record_of,
    tree_of,
    xorb_hash,
)

from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.compression import Scheme
from gatehouse.storage.xet.files import iter_file, verify_file
from gatehouse.storage.xet.hashes import from_text, to_text
from gatehouse.storage.xet.shard import ShardInvalid, parse_shard
from gatehouse.storage.xet.store import MemoryXorbStore, XorbNotFound
from gatehouse.storage.xet.xorb import XorbInvalid, parse_xorb

# Bodies here are a few KiB; a parser that believes a count or a length would need megabytes.
PEAK_LIMIT = 1 << 20

chunks = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=20)
schemes = st.lists(st.sampled_from(Scheme), min_size=1, max_size=5)
records = st.builds(
    record_of,
    data=st.binary(max_size=200),
    scheme=st.sampled_from([0, 1, 2, 3, 99]),
    claimed=st.integers(0, 2**24 - 1) | st.integers(0, 200),
    version=st.sampled_from([0, 0, 0, 1]),
)
right_records = st.builds(
    encode_record, st.binary(min_size=1, max_size=200), st.sampled_from(Scheme)
)


def peak_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def damaged(data: st.DataObject, body: bytes) -> bytes:
    """A few bytes overwritten, and perhaps the end cut off or something added."""
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(changed)) | st.just(len(changed)))
    return bytes(changed[:end]) + data.draw(st.binary(max_size=20))


@given(chunks, schemes)
def test_what_is_written_as_xorb_is_read(parts: list[bytes], how: list[Scheme]) -> None:
    name, table = parse_xorb(encode_xorb(parts, how))
    assert name == xorb_hash(parts)
    assert [length for _, length in table.leaves(0, len(table))] == list(map(len, parts))
    assert ChunkTable.from_bytes(table.to_bytes()) == table


@given(st.binary(max_size=500) | st.lists(records | right_records, max_size=8).map(b"".join))
@settings(max_examples=300)
def test_arbitrary_bytes_are_a_xorb_or_are_refused(body: bytes) -> None:
    def parse() -> None:
        with suppress(XorbInvalid):
            _, table = parse_xorb(body)
            assert table.stored_size <= len(body)

    assert peak_of(parse) < PEAK_LIMIT


@given(chunks, schemes, st.data())
@settings(max_examples=200)
def test_a_damaged_xorb_is_another_one_or_is_refused(
    parts: list[bytes], how: list[Scheme], data: st.DataObject
) -> None:
    store = MemoryXorbStore()
    name = xorb_hash(parts)
    with suppress(XorbInvalid):
        store.put(name, damaged(data, encode_xorb(parts, how)))
        assert list(store.read(name, 0, len(parts))) == parts


XORB = [bytes([value]) * 100 for value in range(10)]
cuts = st.lists(
    st.tuples(st.just(0), st.integers(0, 8), st.integers(1, 9)).map(
        lambda cut: (cut[0], cut[1], max(cut[1] + 1, cut[2]))
    ),
    max_size=6,
)
entries = st.binary(min_size=48, max_size=48) | st.builds(
    lambda digest, words: digest + struct.pack("<4I", *words),
    st.sampled_from([b"\xff" * 32, bytes(32), from_text(xorb_hash(XORB))]),
    st.tuples(*[st.integers(0, 2**32 - 1) | st.integers(0, 12)] * 4),
)


@given(st.lists(cuts, max_size=4))
def test_what_is_written_as_shard_is_read_and_proven(
    files: list[list[tuple[int, int, int]]],
) -> None:
    store = MemoryXorbStore()
    store.put(xorb_hash(XORB), encode_xorb(XORB))
    drafts = [draft_file([XORB], file) for file in files]
    shard = parse_shard(encode_shard(drafts))
    for file, parts in zip(shard.files(), files, strict=True):
        proven = verify_file(file, store.chunks)
        expected = b"".join(b"".join(XORB[start:end]) for _, start, end in parts)
        assert proven.size == len(expected)
        assert b"".join(iter_file(store, proven.segments)) == expected


@given(
    st.binary(max_size=300)
    | st.lists(entries, max_size=30).map(
        lambda body: SHARD_TAG + struct.pack("<QQ", 2, 0) + b"".join(body)
    )
)
@settings(max_examples=300)
def test_arbitrary_bytes_are_a_shard_or_are_refused(body: bytes) -> None:
    def parse() -> None:
        with suppress(ShardInvalid):
            shard = parse_shard(body)
            assert len(list(shard.files())) == shard.num_files

    assert peak_of(parse) < PEAK_LIMIT


@given(st.lists(cuts, min_size=1, max_size=3), st.data())
@settings(max_examples=200)
def test_a_damaged_shard_proves_only_what_is_true(
    files: list[list[tuple[int, int, int]]], data: st.DataObject
) -> None:
    store = MemoryXorbStore()
    store.put(xorb_hash(XORB), encode_xorb(XORB))
    body = damaged(data, encode_shard([draft_file([XORB], file) for file in files]))
    with suppress(ShardInvalid, XorbNotFound):
        for file in parse_shard(body).files():
            proven = verify_file(file, store.chunks)
            pieces = list(iter_file(store, proven.segments))
            assert proven.size == sum(map(len, pieces))
            assert proven.file_hash == to_text(tree_of(pieces).file_hash())


@given(chunks, st.data())
def test_any_range_of_a_file_is_the_slice_of_its_bytes(
    parts: list[bytes], data: st.DataObject
) -> None:
    store = MemoryXorbStore()
    store.put(xorb_hash(parts), encode_xorb(parts))
    [file] = parse_shard(encode_shard([draft_file([parts], [(0, 0, len(parts))] * 2)])).files()
    whole = b"".join(parts) * 2
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    assert b"".join(iter_file(store, file.segments, start, end)) == whole[start:end]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_table_or_none(data: bytes) -> None:
    table = ChunkTable.from_bytes(data)
    assert table is None or table.to_bytes() == data
