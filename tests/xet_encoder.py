"""The writing half of the Xet formats, which only tests need: what clients send."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import lz4.frame

from gatehouse.storage.xet.compression import Scheme
from gatehouse.storage.xet.hashes import HashTree, chunk_hash, from_text, range_hash, to_text

SHARD_TAG = b"HFRepoMetaData\x00" + bytes.fromhex(
    "55 69 67 45 6a 7b 81 57 83 a5 bd d9 5c cd d1 4a a9"
)
BOOKEND = b"\xff" * 32 + bytes(16)


def encode_record(raw: bytes, scheme: Scheme = Scheme.NONE, *, claimed: int | None = None) -> bytes:
    """One chunk record; `claimed` overrides the uncompressed length that it names."""
    data = raw
    if scheme is Scheme.BG4_LZ4:
        data = b"".join(raw[position::4] for position in range(4))
    if scheme is not Scheme.NONE:
        data = lz4.frame.compress(data)
    return record_of(data, scheme, len(raw) if claimed is None else claimed)


def record_of(data: bytes, scheme: int, claimed: int, version: int = 0) -> bytes:
    """A record with any header around any data."""
    header = struct.pack("<II", version | len(data) << 8, scheme | claimed << 8)
    return header + data


def encode_xorb(chunks: Sequence[bytes], schemes: Sequence[Scheme] = (Scheme.NONE,)) -> bytes:
    """A xorb without a footer; schemes are used in turn."""
    return b"".join(
        encode_record(chunk, schemes[index % len(schemes)]) for index, chunk in enumerate(chunks)
    )


def tree_of(chunks: Sequence[bytes]) -> HashTree:
    tree = HashTree()
    for chunk in chunks:
        tree.add(chunk_hash(chunk), len(chunk))
    return tree


def xorb_hash(chunks: Sequence[bytes]) -> str:
    return to_text(tree_of(chunks).root())


@dataclass
class FileDraft:
    """A file of a shard being made; tests change fields to make it wrong."""

    file_hash: str
    sha256: str | None
    segments: list[tuple[str, int, int, int]] = field(default_factory=list)
    range_hashes: list[bytes] | None = field(default_factory=list)


def draft_file(xorbs: Sequence[Sequence[bytes]], cuts: Sequence[tuple[int, int, int]]) -> FileDraft:
    """A right file made of `(xorb index, start chunk, end chunk)` cuts."""
    chunks: list[bytes] = []
    draft = FileDraft(file_hash="", sha256=None)
    for index, start, end in cuts:
        part = xorbs[index][start:end]
        chunks += part
        draft.segments.append((xorb_hash(xorbs[index]), sum(map(len, part)), start, end))
        assert draft.range_hashes is not None
        draft.range_hashes.append(range_hash(b"".join(map(chunk_hash, part))))
    draft.file_hash = to_text(tree_of(chunks).file_hash())
    draft.sha256 = hashlib.sha256(b"".join(chunks)).hexdigest()
    return draft


def encode_shard(files: Sequence[FileDraft], tail: bytes = BOOKEND) -> bytes:
    """A shard as hf_xet sends it: no footer; `tail` is the xorb section."""
    body = SHARD_TAG + struct.pack("<QQ", 2, 0)
    for draft in files:
        flags = (draft.range_hashes is not None) << 31 | (draft.sha256 is not None) << 30
        body += from_text(draft.file_hash) + struct.pack("<IIQ", flags, len(draft.segments), 0)
        for name, length, start, end in draft.segments:
            body += from_text(name) + struct.pack("<IIII", 0, length, start, end)
        for digest in draft.range_hashes or ():
            body += digest + bytes(16)
        if draft.sha256 is not None:
            body += from_text(draft.sha256) + bytes(16)
    return body + BOOKEND + tail
