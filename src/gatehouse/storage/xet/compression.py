"""How the bytes of one chunk are stored: plainly, as an LZ4 frame, or regrouped in an LZ4 frame.

Output is bounded before anything is allocated, so a small record cannot inflate.
"""

from enum import IntEnum

import lz4.frame


class Scheme(IntEnum):
    """The scheme byte of a chunk record."""

    NONE = 0
    LZ4 = 1
    BG4_LZ4 = 2


class UndecodableChunk(Exception):
    """The stored bytes are not what their record says; the text completes "chunk 3 ..."."""


def decode(scheme: Scheme, data: bytes, length: int) -> bytes:
    """The `length` uncompressed bytes of a chunk.

    Raises:
        UndecodableChunk: Not a whole frame, or it holds more or fewer bytes.
    """
    if scheme is Scheme.NONE:
        if len(data) != length:
            raise UndecodableChunk(f"is stored plainly in {len(data)} bytes but claims {length}")
        return data
    raw = _decode_frame(data, length)
    return _ungroup(raw) if scheme is Scheme.BG4_LZ4 else raw


def _decode_frame(data: bytes, length: int) -> bytes:
    try:
        frame = lz4.frame.get_frame_info(data)
        if frame["skippable"] or frame["content_size"] not in (0, length):
            raise UndecodableChunk(f"claims {length} bytes, which its LZ4 frame denies")
        decompressor = lz4.frame.LZ4FrameDecompressor()
        # One byte more than claimed shows that there is more, and bounds the memory.
        raw: bytes = decompressor.decompress(data, max_length=length + 1)
    except RuntimeError as error:  # the binding has no narrower type
        raise UndecodableChunk("is not an LZ4 frame") from error
    if len(raw) > length:
        raise UndecodableChunk(f"claims {length} bytes but inflates to more")
    if not decompressor.eof or len(raw) < length:
        raise UndecodableChunk(f"claims {length} bytes but its LZ4 frame ends after {len(raw)}")
    if decompressor.unused_data:
        raise UndecodableChunk("has bytes after its LZ4 frame")
    return raw


def _ungroup(grouped: bytes) -> bytes:
    """Undo the grouping of bytes by their position modulo 4, which makes floats compressible."""
    length = len(grouped)
    raw = bytearray(length)
    start = 0
    for position in range(4):
        end = start + (length - position + 3) // 4
        # Strided assignment: a numpy transpose was three times slower.
        raw[position::4] = grouped[start:end]
        start = end
    return bytes(raw)
