"""Xet uploads: xorbs and shards in, large files out.

A writer may refer to a xorb that was uploaded for a repository they can read, and to no other:
knowing its hash is not access. A file counts once its bytes were rebuilt and have the SHA-256 that
the shard claims.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gatehouse.core.clock import Clock
from gatehouse.core.errors import TooLarge
from gatehouse.core.ids import is_sha256
from gatehouse.db.engine import Database
from gatehouse.identity.actors import Actor
from gatehouse.repos.access import Access
from gatehouse.repos.holders import Holders
from gatehouse.repos.large_files import LargeFiles
from gatehouse.repos.repositories import Repositories
from gatehouse.repos.repository import Repository
from gatehouse.repos.tables import RepoXorbRow, XetFileRow
from gatehouse.storage.base import BlobStore
from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.files import XetFile, iter_file, verify_file
from gatehouse.storage.xet.shard import ShardFile, ShardInvalid, parse_shard
from gatehouse.storage.xet.store import XorbStore

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Writer:
    """Who uploads, and for which repository."""

    actor: Actor
    repository: Repository


class XetUploads:
    def __init__(
        self,
        database: Database,
        xorbs: XorbStore,
        blobs: BlobStore,
        repositories: Repositories,
        large_files: LargeFiles,
        access: Access,
        clock: Clock,
        max_file_bytes: int,
    ) -> None:
        self._database = database
        self._xorbs = xorbs
        self._blobs = blobs
        self._holders = Holders(database, repositories, access)
        self._large_files = large_files
        self._clock = clock
        self._max_file_bytes = max_file_bytes

    def put_xorb(self, writer: Writer, xorb_hash: str, body: Path) -> bool:
        """Prove and keep a xorb; returns whether it is new, as far as this writer may know.

        Raises:
            XorbInvalid: The body breaks the format, or has another hash.
        """
        was_usable = self._is_usable(writer, xorb_hash)
        self._xorbs.put(xorb_hash, body)
        self._link(writer.repository, xorb_hash)
        return not was_usable

    def holds_xorb(self, writer: Writer, xorb_hash: str) -> bool:
        """Whether this writer may skip the upload of a xorb.

        If so it is linked to the repository.
        """
        if self._xorbs.chunks(xorb_hash) is None or not self._is_usable(writer, xorb_hash):
            return False
        self._link(writer.repository, xorb_hash)
        return True

    def put_shard(self, writer: Writer, body: bytes, progress: Progress) -> bool:
        """Prove every file of a shard and link it; returns whether any of them is new.

        Nothing of a shard is linked before all of it is proven. `progress(done, total)` is called
        in bytes.

        Raises:
            ShardInvalid: Something the shard says is not so.
            XorbNotFound: It names a xorb that this writer may not use.
            TooLarge: A file is larger than files may be.
        """
        shard = parse_shard(body)
        claims = [(file, self._verified(writer, file)) for file in shard.files()]
        total = sum(proven.size for _, proven in claims)
        done = 0
        for file, proven in claims:
            assert file.sha256 is not None
            self._prove_sha256(proven, file.sha256)
            done += proven.size
            progress(done, total)
        is_new = False
        for file, proven in claims:
            assert file.sha256 is not None
            is_new |= self._large_files.size(writer.repository, file.sha256) is None
            self._large_files.link(writer.repository, file.sha256, proven.size)
        return is_new

    def _verified(self, writer: Writer, file: ShardFile) -> XetFile:
        if file.sha256 is None or not is_sha256(file.sha256):
            raise ShardInvalid(f"file `{file.file_hash}` comes without its SHA-256.")
        # Before any hashing: a shard can repeat one small xorb a million times.
        if sum(segment.raw_length for segment in file.segments) > self._max_file_bytes:
            raise TooLarge(
                f"File `{file.file_hash}` is larger than {self._max_file_bytes} bytes, the most "
                "that a file may have here."
            )
        return verify_file(file, self._usable_chunks(writer))

    def _usable_chunks(self, writer: Writer) -> Callable[[str], ChunkTable | None]:
        known: dict[str, bool] = {}

        def chunks_of(xorb_hash: str) -> ChunkTable | None:
            if xorb_hash not in known:
                known[xorb_hash] = self._is_usable(writer, xorb_hash)
            return self._xorbs.chunks(xorb_hash) if known[xorb_hash] else None

        return chunks_of

    def _prove_sha256(self, proven: XetFile, sha256: str) -> None:
        """Rebuild the file and keep it as a flat blob, unless this very file was before."""
        with self._database.read() as session:
            row = session.get(XetFileRow, proven.file_hash)
        if row is not None and row.sha256 == sha256 and self._blobs.size(sha256) == proven.size:
            return
        with self._blobs.begin() as upload:
            _write_all(upload.write, iter_file(self._xorbs, proven.segments))
            upload.finish(sha256, proven.size)
        if row is None:
            self._remember(proven, sha256)

    def _remember(self, proven: XetFile, sha256: str) -> None:
        segments = [
            [part.xorb_hash, part.raw_length, part.start_chunk, part.end_chunk]
            for part in proven.segments
        ]
        with self._database.write() as session:
            if session.get(XetFileRow, proven.file_hash) is None:
                session.add(
                    XetFileRow(
                        file_hash=proven.file_hash,
                        sha256=sha256,
                        size=proven.size,
                        segments=segments,
                    )
                )

    def _is_usable(self, writer: Writer, xorb_hash: str) -> bool:
        with self._database.read() as session:
            if session.get(RepoXorbRow, (writer.repository.id, xorb_hash)) is not None:
                return True
        column, is_it = RepoXorbRow.repository_id, RepoXorbRow.xorb_hash == xorb_hash
        return self._holders.is_readable(writer.actor, column, is_it)

    def _link(self, repository: Repository, xorb_hash: str) -> None:
        with self._database.write() as session:
            if session.get(RepoXorbRow, (repository.id, xorb_hash)) is None:
                now = self._clock.now()
                session.add(
                    RepoXorbRow(repository_id=repository.id, xorb_hash=xorb_hash, created_at=now)
                )


def _write_all(write: Callable[[bytes], object], pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        write(piece)
