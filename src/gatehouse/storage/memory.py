"""Blobs in memory, for tests and for trying things out."""

import io
from pathlib import Path
from typing import BinaryIO

from gatehouse.storage.base import BlobNotFound, BlobUpload, StoredBlob


class MemoryBlobStore:
    """A `BlobStore` that forgets everything with the process and has no local files."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def begin(self) -> BlobUpload:
        return MemoryBlobUpload(self._blobs)

    def size(self, sha256: str) -> int | None:
        blob = self._blobs.get(sha256)
        return None if blob is None else len(blob)

    def open(self, sha256: str) -> BinaryIO:
        try:
            return io.BytesIO(self._blobs[sha256])
        except KeyError:
            raise BlobNotFound(sha256) from None

    def path(self, sha256: str) -> Path | None:
        return None

    def delete(self, sha256: str) -> None:
        self._blobs.pop(sha256, None)


class MemoryBlobUpload(BlobUpload):
    """An upload into a growing buffer."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        super().__init__()
        self._blobs = blobs
        self._buffer = bytearray()

    def _append(self, data: bytes | memoryview) -> None:
        self._buffer += data

    def _keep(self, stored: StoredBlob) -> None:
        self._blobs.setdefault(stored.sha256, bytes(self._buffer))

    def _discard(self) -> None:
        self._buffer.clear()
