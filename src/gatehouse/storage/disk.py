"""Blobs as files, named by their SHA-256 below `objects/`."""

from pathlib import Path
from typing import BinaryIO

from gatehouse.core.ids import is_sha256
from gatehouse.storage.base import BlobNotFound, BlobUpload, StoredBlob
from gatehouse.storage.durable import IncomingFolder, discard, publish, remove


class DiskBlobStore:
    """A `BlobStore` in one folder, which several processes may use at once.

    `objects/ab/cd/<sha256>` holds what counts; `incoming/` holds uploads that are not finished. The
    layout is fixed: a change to it needs a migration of the folder.
    """

    def __init__(self, root: Path) -> None:
        self._objects = root / "objects"
        self._objects.mkdir(parents=True, exist_ok=True)
        self._incoming = IncomingFolder(root / "incoming")

    def begin(self) -> BlobUpload:
        return DiskBlobUpload(self._objects, self._incoming)

    def size(self, sha256: str) -> int | None:
        if not is_sha256(sha256):
            return None
        try:
            return _object_path(self._objects, sha256).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, sha256: str) -> BinaryIO:
        if not is_sha256(sha256):
            raise BlobNotFound(sha256)
        try:
            return _object_path(self._objects, sha256).open("rb")
        except FileNotFoundError:
            raise BlobNotFound(sha256) from None

    def path(self, sha256: str) -> Path | None:
        if self.size(sha256) is None:
            return None
        return _object_path(self._objects, sha256)

    def delete(self, sha256: str) -> None:
        if is_sha256(sha256):
            remove(_object_path(self._objects, sha256))


class DiskBlobUpload(BlobUpload):
    """An upload into a temporary file of the store."""

    def __init__(self, objects: Path, incoming: IncomingFolder) -> None:
        super().__init__()
        self._objects = objects
        self._file = incoming.create()

    def _append(self, data: bytes | memoryview) -> None:
        self._file.write(data)

    def _keep(self, stored: StoredBlob) -> None:
        publish(self._file, _object_path(self._objects, stored.sha256), self._objects)

    def _discard(self) -> None:
        discard(self._file)


def _object_path(objects: Path, sha256: str) -> Path:
    return objects / sha256[:2] / sha256[2:4] / sha256
