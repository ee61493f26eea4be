import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import hf_xet
import pytest
from blake3 import blake3
from xet_encoder import tree_of

from gatehouse.storage.xet.hashes import (
    EMPTY_FILE_HASH,
    HashInvalid,
    HashTree,
    chunk_hash,
    from_text,
    range_hash,
    to_text,
)

# Where stock clients cut when nothing in the data says otherwise.
LARGEST_CHUNK = 131072

# Content, hash of chunk 0, hash of the xorb, hash of the file; checked with hf_xet 1.8.
VECTORS = [
    (
        b"a",
        "a4d4ed80fcb2fe5177fc59321d3e6f90faf23e35a48d58303114bf073f34178a",
        "a4d4ed80fcb2fe5177fc59321d3e6f90faf23e35a48d58303114bf073f34178a",
        "49a7fffaf5f34109d4a191757f3e541e26437dcd1e0e83153454a503757856be",
    ),
    (
        b"Hello World!\n",
        "e11d004e9968f3c8a9179dca907aafe0fc1cbb73f429fe142514db413b6552f6",
        "e11d004e9968f3c8a9179dca907aafe0fc1cbb73f429fe142514db413b6552f6",
        "26bcb87aa2953ba3b5c282d9581ac5572a4c7481399a64c03cdff89242a9b3f2",
    ),
    (
        bytes([59]) * 1_000_000,
        "d3b528b30528f3ad802a015cdf93c531d4da754a1f8c0d341a8f111fd8b6f04e",
        "a6b5a7f0bb38b6fd5fb39031eb7564e18ea0e7a0b7bea87de54ed1db8bc85884",
        "53f845640fcd1c7440befff65bd93434c83a30c6559a705597d61f2ef64e2f88",
    ),
]


def cut(data: bytes) -> list[bytes]:
    return [data[at : at + LARGEST_CHUNK] for at in range(0, len(data), LARGEST_CHUNK)]


@pytest.mark.parametrize(("data", "first", "xorb", "file"), VECTORS)
def test_known_vectors(data: bytes, first: str, xorb: str, file: str) -> None:
    chunks = cut(data)
    assert to_text(chunk_hash(chunks[0])) == first
    assert to_text(tree_of(chunks).root()) == xorb
    assert to_text(tree_of(chunks).file_hash()) == file


@pytest.mark.parametrize("num_chunks", [1, 2, 3, 4, 9, 10, 11, 28, 93, 250])
def test_file_hash_is_that_of_the_stock_client(tmp_path: Path, num_chunks: int) -> None:
    """Each run of one byte value is one chunk, so the client's cuts are known without a chunker."""
    values = random.Random(num_chunks).choices(range(256), k=num_chunks)
    chunks = [bytes([value]) * LARGEST_CHUNK for value in values]
    chunks[-1] = chunks[-1][:5000]
    path = tmp_path / "data"
    path.write_bytes(b"".join(chunks))
    [theirs] = hf_xet.hash_files([str(path)])
    assert to_text(tree_of(chunks).file_hash()) == theirs.hash


def test_hash_of_the_empty_file() -> None:
    assert to_text(HashTree().file_hash()) == EMPTY_FILE_HASH


def test_text_form_reverses_each_group_of_eight_bytes() -> None:
    digest = bytes(range(32))
    assert to_text(digest).startswith("0706050403020100" + "0f0e0d0c0b0a0908")
    assert from_text(to_text(digest)) == digest


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "../" + "a" * 61])
def test_text_that_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(HashInvalid, match="64 lower-case hex digits"):
        from_text(text)


def test_range_hash_depends_on_order() -> None:
    first, second = chunk_hash(b"first"), chunk_hash(b"second")
    assert range_hash(first + second) != range_hash(second + first)


Node = tuple[bytes, int]


def whole_list_root(nodes: Sequence[Node]) -> bytes:
    """The rule as the specification words it: level by level, over whole lists."""
    if len(nodes) == 1:
        return nodes[0][0]
    return whole_list_root([parent(nodes[a:b]) for a, b in pairwise(borders(nodes))])


def borders(nodes: Sequence[Node]) -> list[int]:
    found = [0]
    while found[-1] < len(nodes):
        start = found[-1]
        rest = nodes[start:]
        candidates = range(3, min(9, len(rest)) + 1) if len(rest) > 2 else ()
        ends = (n for n in candidates if int.from_bytes(rest[n - 1][0][24:], "little") % 4 == 0)
        found.append(start + next(ends, min(9, len(rest))))
    return found


def parent(children: Sequence[Node]) -> Node:
    key = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
    text = "".join(f"{to_text(digest)} : {length}\n" for digest, length in children)
    return blake3(text.encode(), key=key).digest(), sum(length for _, length in children)


def test_building_the_tree_chunk_by_chunk_equals_building_it_level_by_level() -> None:
    randomness = random.Random(1)
    for num_leaves in [*range(1, 60), 500, 3000]:
        leaves = [(randomness.randbytes(32), randomness.randrange(1, 9)) for _ in range(num_leaves)]
        tree = HashTree()
        for leaf in leaves:
            tree.add(*leaf)
        assert tree.root() == whole_list_root(leaves), num_leaves
