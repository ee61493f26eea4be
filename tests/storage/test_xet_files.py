import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from xet_encoder import FileDraft, draft_file, encode_shard, encode_xorb, xorb_hash

from gatehouse.storage.xet.compression import Scheme
from gatehouse.storage.xet.disk import DiskXorbStore
from gatehouse.storage.xet.files import XetFile, iter_file, verify_file
from gatehouse.storage.xet.hashes import EMPTY_FILE_HASH
from gatehouse.storage.xet.shard import ShardInvalid, parse_shard
from gatehouse.storage.xet.store import MemoryXorbStore, XorbNotFound

RANDOM = random.Random(11)
XORBS = [[RANDOM.randbytes(RANDOM.randrange(1, 3000)) for _ in range(20)] for _ in range(3)]
CUTS = [(0, 0, 20), (2, 5, 9), (1, 19, 20), (0, 3, 4), (2, 0, 20)]
DATA = b"".join(b"".join(XORBS[xorb][start:end]) for xorb, start, end in CUTS)


@pytest.fixture
def store() -> MemoryXorbStore:
    store = MemoryXorbStore()
    for chunks in XORBS:
        store.put(xorb_hash(chunks), encode_xorb(chunks, list(Scheme)))
    return store


def verify(store: MemoryXorbStore, draft: FileDraft) -> XetFile:
    [file] = parse_shard(encode_shard([draft])).files()
    return verify_file(file, store.chunks)


def test_a_right_file_is_proven(store: MemoryXorbStore) -> None:
    draft = draft_file(XORBS, CUTS)
    file = verify(store, draft)
    assert file.file_hash == draft.file_hash
    assert file.size == len(DATA)
    assert b"".join(iter_file(store, file.segments)) == DATA


def test_an_empty_file_is_proven(store: MemoryXorbStore) -> None:
    file = verify(store, FileDraft(EMPTY_FILE_HASH, None))
    assert file == XetFile(EMPTY_FILE_HASH, 0, ())
    assert list(iter_file(store, file.segments)) == []


def range_of(start: int, end: int) -> Callable[[FileDraft], None]:
    def change(draft: FileDraft) -> None:
        name, length, _, _ = draft.segments[1]
        draft.segments[1] = (name, length, start, end)

    return change


def set_length(draft: FileDraft) -> None:
    name, length, start, end = draft.segments[1]
    draft.segments[1] = (name, length + 1, start, end)


def drop_range_hashes(draft: FileDraft) -> None:
    draft.range_hashes = None


def swap_range_hashes(draft: FileDraft) -> None:
    assert draft.range_hashes is not None
    draft.range_hashes[1], draft.range_hashes[3] = draft.range_hashes[3], draft.range_hashes[1]


def change_file_hash(draft: FileDraft) -> None:
    draft.file_hash = "ab" * 32


def swap_segments(draft: FileDraft) -> None:
    assert draft.range_hashes is not None
    draft.segments.reverse()
    draft.range_hashes.reverse()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (range_of(5, 5), r"segment 1 of file .* names chunks 5 to 5 of xorb .*, which has 20"),
        (range_of(9, 5), "names chunks 9 to 5"),
        (range_of(17, 21), "names chunks 17 to 21"),
        (range_of(2**32 - 1, 2**32 - 1), "names chunks 4294967295 to 4294967295"),
        (set_length, "segment 1 of file .* claims .* bytes, but its chunks hold"),
        (drop_range_hashes, "comes without the hashes of its segments"),
        (swap_range_hashes, "segment 1 of file .* has the wrong hash for its chunks"),
        (change_file_hash, "chunks of file `(ab){32}` make `"),
        (swap_segments, "chunks of file .* make `"),
    ],
)
def test_a_false_statement_is_refused_with_a_sentence(
    store: MemoryXorbStore, spoil: Callable[[FileDraft], None], sentence: str
) -> None:
    draft = draft_file(XORBS, CUTS)
    spoil(draft)
    with pytest.raises(ShardInvalid, match=sentence):
        verify(store, draft)


def test_a_xorb_that_is_unknown_or_not_usable_is_named(store: MemoryXorbStore) -> None:
    store.delete(xorb_hash(XORBS[1]))
    with pytest.raises(XorbNotFound, match=xorb_hash(XORBS[1])):
        verify(store, draft_file(XORBS, CUTS))


def borders() -> Iterator[int]:
    position = 0
    for xorb, start, end in CUTS:
        for chunk in XORBS[xorb][start:end]:
            yield from (position, position + 1, position + len(chunk) - 1)
            position += len(chunk)
    yield position


def test_any_byte_range_is_read(store: MemoryXorbStore) -> None:
    segments = verify(store, draft_file(XORBS, CUTS)).segments
    ends = sorted(set(borders()))
    for start in ends[::3]:
        for end in [*ends[::7], ends[-1]]:
            if start <= end:
                assert b"".join(iter_file(store, segments, start, end)) == DATA[start:end]
        assert b"".join(iter_file(store, segments, start)) == DATA[start:]


def test_only_chunks_of_the_range_are_read(store: MemoryXorbStore) -> None:
    segments = verify(store, draft_file(XORBS, CUTS)).segments
    start = segments[0].raw_length
    for chunks in (XORBS[0], XORBS[1]):
        store.delete(xorb_hash(chunks))
    end = start + segments[1].raw_length
    assert b"".join(iter_file(store, segments, start, end)) == DATA[start:end]
    with pytest.raises(XorbNotFound):
        list(iter_file(store, segments, start - 1, end))
    with pytest.raises(XorbNotFound):
        list(iter_file(store, segments, start, end + 1))


def test_disk_gives_the_same_bytes(tmp_path: Path) -> None:
    store = DiskXorbStore(tmp_path)
    for chunks in XORBS:
        store.put(xorb_hash(chunks), encode_xorb(chunks, list(Scheme)))
    [file] = parse_shard(encode_shard([draft_file(XORBS, CUTS)])).files()
    segments = verify_file(file, store.chunks).segments
    assert b"".join(iter_file(store, segments, 100, 70_000)) == DATA[100:70_000]
