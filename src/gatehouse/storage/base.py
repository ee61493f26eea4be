"""Blobs by the SHA-256 of their bytes: the seam that disk, memory and S3 stores stand behind.

It does not know who may read or link a blob, nor which repository names it.
"""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from gatehouse.core.errors import Invalid, NotFound


class DigestMismatch(Invalid):
    """The bytes are not those that the caller named."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"The uploaded bytes have SHA-256 `{actual}`, not `{expected[:100]}`.")
        self.expected = expected
        self.actual = actual


class SizeMismatch(Invalid):
    """There are more or fewer bytes than the caller named."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"The upload has {actual} bytes, not {expected}.")
        self.expected = expected
        self.actual = actual


class BlobNotFound(NotFound):
    """No blob with this SHA-256 is stored."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"No object with SHA-256 `{sha256[:100]}` is stored.")
        self.sha256 = sha256


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that is durable. `sha256` is lower-case hex, `size` is in bytes."""

    sha256: str
    size: int


class BlobUpload(ABC):
    """Bytes on their way into a store; nothing counts before `finish`.

    As a context manager it aborts on leaving unless it was finished. Not for two threads at once.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._is_open = True
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        assert self._is_open, "the upload is over"
        self._append(data)
        self._digest.update(data)
        self.size += len(data)

    def finish(self, sha256: str | None = None, size: int | None = None) -> StoredBlob:
        """Check the bytes and keep them; durable when this returns.

        Args:
            sha256: What the caller says the digest is, in lower-case hex; None to accept any.
            size: How many bytes the caller says there are; None to accept any number.

        Raises:
            DigestMismatch: The bytes have another digest; nothing was stored.
            SizeMismatch: There are more or fewer bytes; nothing was stored.
        """
        assert self._is_open, "the upload is over"
        stored = StoredBlob(self._digest.hexdigest(), self.size)
        try:
            _check(stored, sha256, size)
            self._keep(stored)
        except BaseException:
            self.abort()
            raise
        self._is_open = False
        return stored

    def abort(self) -> None:
        """Forget the bytes. Does nothing once the upload is over."""
        if self._is_open:
            self._is_open = False
            self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()

    @abstractmethod
    def _append(self, data: bytes | memoryview) -> None: ...

    @abstractmethod
    def _keep(self, stored: StoredBlob) -> None: ...

    @abstractmethod
    def _discard(self) -> None: ...


def _check(stored: StoredBlob, sha256: str | None, size: int | None) -> None:
    if size is not None and size != stored.size:
        raise SizeMismatch(size, stored.size)
    if sha256 is not None and sha256 != stored.sha256:
        raise DigestMismatch(sha256, stored.sha256)


class BlobStore(Protocol):
    """Blobs by SHA-256, in lower-case hex. Anything else as a name is a blob that is not stored."""

    def begin(self) -> BlobUpload:
        """Start an upload."""
        ...

    def size(self, sha256: str) -> int | None:
        """The length in bytes, or None if it is not stored."""
        ...

    def open(self, sha256: str) -> BinaryIO:
        """A seekable reader, which the caller closes.

        Raises:
            BlobNotFound: It is not stored.
        """
        ...

    def path(self, sha256: str) -> Path | None:
        """A local file for sendfile and mmap, never to be written; None if there is none."""
        ...

    def delete(self, sha256: str) -> None:
        """Remove a blob, if it is stored. Open readers may keep reading."""
        ...
