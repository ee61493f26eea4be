"""The hashes of the Xet protocol: over chunks, trees of chunks, and segments of files.

It knows nothing of how chunks are stored. Source: IETF `draft-denis-xet`, which gives the keys too.
"""

import struct

from blake3 import blake3

from gatehouse.core.errors import Invalid
from gatehouse.core.ids import is_sha256

HASH_SIZE = 32
# The hash of a file without bytes.
EMPTY_FILE_HASH = "0" * 64

_DATA_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_VERIFICATION_KEY = bytes.fromhex(
    "7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3"
)
_FILE_KEY = bytes(HASH_SIZE)

_WORDS = struct.Struct("<4Q")
_Node = tuple[bytes, int]

_MIN_BRANCH = 3
_MAX_BRANCH = 9


class HashInvalid(Invalid):
    """The text is not a Xet hash."""

    def __init__(self, text: str) -> None:
        super().__init__(f"`{text[:100]}` is not a hash: write 64 lower-case hex digits.")


def to_text(digest: bytes) -> str:
    """The text form of 32 bytes: four little-endian 64-bit words, each as 16 hex digits."""
    assert len(digest) == HASH_SIZE
    first, second, third, fourth = _WORDS.unpack(digest)
    return f"{first:016x}{second:016x}{third:016x}{fourth:016x}"


def from_text(text: str) -> bytes:
    """The 32 bytes of a text form.

    Raises:
        HashInvalid: Not 64 lower-case hex digits.
    """
    if not is_sha256(text):
        raise HashInvalid(text)
    return _WORDS.pack(*(int(text[i : i + 16], 16) for i in (0, 16, 32, 48)))


def chunk_hash(data: bytes) -> bytes:
    """The hash of one chunk's uncompressed bytes."""
    return blake3(data, key=_DATA_KEY).digest()


def range_hash(chunk_hashes: bytes) -> bytes:
    """The hash that shows knowledge of a segment, over its chunk hashes in a row."""
    return blake3(chunk_hashes, key=_VERIFICATION_KEY).digest()


class HashTree:
    """The aggregated hash over a list of chunks, built chunk by chunk.

    Memory stays at a few nodes per level, because a group of siblings ends by a rule that looks
    only at its own members: after the first one at position 3 to 9 whose hash is divisible by 4,
    after 9, or at the end of its level.
    """

    def __init__(self) -> None:
        self._levels = [_Level()]

    def add(self, digest: bytes, length: int) -> None:
        """Append a leaf: a chunk's hash and its uncompressed length in bytes."""
        self._add(0, (digest, length))

    def root(self) -> bytes:
        """The hash of a xorb with these chunks; ends the tree. No chunks give 32 zero bytes."""
        index = 0
        while self._levels[index].num_nodes > 1:
            rest = self._levels[index].close_group()
            if rest is not None:
                self._add(index + 1, rest)
            index += 1
        return self._levels[index].first_digest

    def file_hash(self) -> bytes:
        """The hash of a file with these chunks; ends the tree."""
        root = self.root()
        return blake3(root, key=_FILE_KEY).digest() if self._levels[0].num_nodes else root

    def _add(self, index: int, node: _Node | None) -> None:
        while node is not None:
            if index == len(self._levels):
                self._levels.append(_Level())
            node = self._levels[index].add(node)
            index += 1


class _Level:
    """One level of a tree: its open group of siblings."""

    def __init__(self) -> None:
        self.num_nodes = 0
        self.first_digest = bytes(HASH_SIZE)
        self._group: list[_Node] = []

    def add(self, node: _Node) -> _Node | None:
        """Take a node; returns the parent if this node ends its group."""
        group = self._group
        group.append(node)
        self.num_nodes += 1
        if self.num_nodes == 1:
            self.first_digest = node[0]
        # "Divisible by 4" looks at the last of the four little-endian words.
        if len(group) >= _MIN_BRANCH and (node[0][24] & 3 == 0 or len(group) == _MAX_BRANCH):
            return self.close_group()
        return None

    def close_group(self) -> _Node | None:
        """The parent of the open group, or None if no group is open."""
        if not self._group:
            return None
        lines = "".join(f"{to_text(digest)} : {length}\n" for digest, length in self._group)
        parent = blake3(lines.encode(), key=_NODE_KEY).digest()
        total = sum(length for _, length in self._group)
        self._group = []
        return parent, total
