"""Reading a shard: the list of files that an uploader has put together from chunks of xorbs.

Only the file section is read; what follows it (xorbs, look-ups, footer) repeats what the store
already knows better. Nothing here is proven yet: `files.py` does that. Source: IETF
`draft-denis-xet`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from gatehouse.core.errors import Invalid
from gatehouse.storage.xet.hashes import HASH_SIZE, to_text

MAX_SHARD_SIZE = 64 * 1024 * 1024
# 64 GiB even if every segment were as short as stock clients ever make them (8 chunks of 64 KiB).
MAX_SEGMENTS_PER_FILE = 131_072
# 1 TiB at 64 KiB a chunk: bounds the work a small shard can ask for by repeating its ranges.
MAX_CHUNKS_PER_SHARD = 2**24

_TAG = b"HFRepoMetaData\x00" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_VERSION = 2
_HEADER = struct.Struct("<32sQQ")
_ENTRY_SIZE = 48
_FILE_HEADER = struct.Struct("<32sIIQ")
_SEGMENT = struct.Struct("<32sIIII")
_BOOKEND = b"\xff" * HASH_SIZE
_HAS_VERIFICATION = 1 << 31
_HAS_SHA256 = 1 << 30


class ShardInvalid(Invalid):
    """A shard breaks its format, or says something untrue about its files."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Chunks `start_chunk` to `end_chunk` (exclusive) of a xorb, as the next bytes of a file.

    Attributes:
        xorb_hash: The xorb, as text.
        raw_length: Uncompressed bytes in these chunks.
    """

    xorb_hash: str
    raw_length: int
    start_chunk: int
    end_chunk: int


@dataclass(frozen=True, slots=True)
class ShardFile:
    """What an uploader says about one file.

    Attributes:
        file_hash: The Xet hash of the file, as text.
        segments: Its bytes in order; none for an empty file.
        range_hashes: One hash (32 bytes) per segment; None if the shard brings none.
        sha256: In lower-case hex; None if the shard brings none.
    """

    file_hash: str
    segments: tuple[Segment, ...]
    range_hashes: tuple[bytes, ...] | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard whose structure was checked; files are decoded while they are iterated."""

    body: bytes
    num_files: int

    def files(self) -> Iterator[ShardFile]:
        """The files in order; one is in memory at a time."""
        offset = _HEADER.size
        for _ in range(self.num_files):
            block = _FileBlock.at(self.body, offset)
            yield block.decode(self.body)
            offset = block.end


def parse_shard(body: bytes) -> Shard:
    """Check the header and the structure of the file section.

    Raises:
        ShardInvalid: It breaks the format or a limit.
    """
    _check_header(body)
    offset = _HEADER.size
    num_files = num_chunks = 0
    while not _is_bookend(body, offset):
        block = _FileBlock.at(body, offset)
        num_chunks += block.count_chunks(body)
        if num_chunks > MAX_CHUNKS_PER_SHARD:
            raise ShardInvalid(f"The shard names more than {MAX_CHUNKS_PER_SHARD} chunks.")
        num_files += 1
        offset = block.end
    return Shard(body, num_files)


def _check_header(body: bytes) -> None:
    if len(body) > MAX_SHARD_SIZE:
        raise ShardInvalid(f"The shard is larger than {MAX_SHARD_SIZE} bytes.")
    if len(body) < _HEADER.size:
        raise ShardInvalid("The shard ends inside its header.")
    tag, version, _footer_size = _HEADER.unpack_from(body)
    if tag != _TAG:
        raise ShardInvalid("This is not a shard: it does not begin with the tag of one.")
    if version != _VERSION:
        raise ShardInvalid(f"The shard has version {version}, and only {_VERSION} is known.")


def _is_bookend(body: bytes, offset: int) -> bool:
    if offset + _ENTRY_SIZE > len(body):
        raise ShardInvalid("The shard ends before its list of files does.")
    return body.startswith(_BOOKEND, offset)


@dataclass(frozen=True, slots=True)
class _FileBlock:
    """Where the entries of one file lie: header, segments, verification, SHA-256; 48 bytes each."""

    offset: int
    flags: int
    num_segments: int

    @classmethod
    def at(cls, body: bytes, offset: int) -> "_FileBlock":
        _file_hash, flags, num_segments, _unused = _FILE_HEADER.unpack_from(body, offset)
        block = cls(offset, flags, num_segments)
        # Before anything is decoded: the counts are the uploader's.
        if num_segments > MAX_SEGMENTS_PER_FILE:
            raise ShardInvalid(
                f"{block.name(body)} has {num_segments} segments, "
                f"and at most {MAX_SEGMENTS_PER_FILE} are allowed."
            )
        if block.end > len(body):
            raise ShardInvalid(f"The shard ends inside {block.name(body)}.")
        return block

    @property
    def segments_at(self) -> int:
        return self.offset + _ENTRY_SIZE

    @property
    def segments_end(self) -> int:
        return self.segments_at + self.num_segments * _ENTRY_SIZE

    @property
    def verification_end(self) -> int:
        num_entries = self.num_segments if self.flags & _HAS_VERIFICATION else 0
        return self.segments_end + num_entries * _ENTRY_SIZE

    @property
    def end(self) -> int:
        return self.verification_end + (_ENTRY_SIZE if self.flags & _HAS_SHA256 else 0)

    def name(self, body: bytes) -> str:
        return f"file `{_hash_text(body, self.offset)}`"

    def count_chunks(self, body: bytes) -> int:
        segments = _SEGMENT.iter_unpack(body[self.segments_at : self.segments_end])
        return sum(max(0, end - start) for *_, start, end in segments)

    def decode(self, body: bytes) -> ShardFile:
        has_verification = self.flags & _HAS_VERIFICATION
        has_sha256 = self.flags & _HAS_SHA256
        return ShardFile(
            file_hash=_hash_text(body, self.offset),
            segments=tuple(self._segments(body)),
            range_hashes=tuple(self._range_hashes(body)) if has_verification else None,
            sha256=_hash_text(body, self.verification_end) if has_sha256 else None,
        )

    def _segments(self, body: bytes) -> Iterator[Segment]:
        entries = body[self.segments_at : self.segments_end]
        for xorb_hash, _flags, raw_length, start, end in _SEGMENT.iter_unpack(entries):
            yield Segment(to_text(xorb_hash), raw_length, start, end)

    def _range_hashes(self, body: bytes) -> Iterator[bytes]:
        for offset in range(self.segments_end, self.verification_end, _ENTRY_SIZE):
            yield body[offset : offset + HASH_SIZE]


def _hash_text(body: bytes, offset: int) -> str:
    return to_text(body[offset : offset + HASH_SIZE])
