"""Xet downloads: which files clients may rebuild from chunks, and out of what.

A repository's readers may rebuild the files that it holds. Knowing a Xet hash is not access, and
neither is knowing a xorb: a plan names no chunk that is not in the file.
"""

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import func, select

from gatehouse.core.errors import NotFound
from gatehouse.db.engine import Database
from gatehouse.repos.large_files import LargeFiles
from gatehouse.repos.repository import Repository
from gatehouse.repos.tables import XetFileRow
from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.files import XetFile
from gatehouse.storage.xet.reconstruction import Reconstruction, reconstruct
from gatehouse.storage.xet.shard import Segment
from gatehouse.storage.xet.store import XorbDamaged, XorbStore

_BIND_LIMIT = 500


class XetFileNotFound(NotFound):
    """No file with this Xet hash is in the repository, whether or not it is anywhere else."""

    def __init__(self, file_hash: str) -> None:
        super().__init__(f"This repository has no file with the Xet hash `{file_hash[:100]}`.")


class XetDownloads:
    def __init__(
        self, database: Database, xorbs: XorbStore, large_files: LargeFiles, *, is_offered: bool
    ) -> None:
        self._database = database
        self._xorbs = xorbs
        self._large_files = large_files
        self._is_offered = is_offered

    def offered(self, sha256s: Iterable[str]) -> dict[str, str]:
        """The Xet hash to name to clients, by SHA-256, of those files that arrived by Xet.

        Empty files have none, and no file has one where downloads by Xet are not offered.
        """
        wanted = sorted(set(sha256s)) if self._is_offered else []
        found: dict[str, str] = {}
        with self._database.read() as session:
            for start in range(0, len(wanted), _BIND_LIMIT):
                # Clients that cut chunks differently make several Xet files of the same bytes.
                query = (
                    select(XetFileRow.sha256, func.min(XetFileRow.file_hash))
                    .where(XetFileRow.sha256.in_(wanted[start : start + _BIND_LIMIT]))
                    .where(XetFileRow.size > 0)
                    .group_by(XetFileRow.sha256)
                )
                found.update((sha256, file_hash) for sha256, file_hash in session.execute(query))
        return found

    def file(self, repository: Repository, file_hash: str) -> XetFile:
        """A file that the repository holds.

        Raises:
            XetFileNotFound: It holds none with this Xet hash.
        """
        with self._database.read() as session:
            row = session.get(XetFileRow, file_hash)
        if row is None or self._large_files.size(repository, row.sha256) is None:
            raise XetFileNotFound(file_hash)
        segments = tuple(Segment(*segment) for segment in row.segments)
        return XetFile(row.file_hash, row.size, segments)

    def plan(self, file: XetFile, start: int, end: int) -> Reconstruction:
        """What to fetch for the bytes `start` to `end` (exclusive) of a file.

        Raises:
            XorbDamaged: A xorb of the file is gone.
        """
        return reconstruct(file.segments, start, end, self._chunks)

    def xorb_path(self, xorb_hash: str) -> Path:
        """Where the stored xorb lies on this machine.

        Raises:
            XorbDamaged: It is gone.
        """
        path = self._xorbs.path(xorb_hash)
        if path is None:
            raise XorbDamaged(xorb_hash)
        return path

    def _chunks(self, xorb_hash: str) -> ChunkTable:
        table = self._xorbs.chunks(xorb_hash)
        if table is None:
            raise XorbDamaged(xorb_hash)
        return table
