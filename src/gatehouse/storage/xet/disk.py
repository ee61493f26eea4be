"""Xorbs as files, with the table of their chunks beside them."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from gatehouse.core.ids import is_sha256
from gatehouse.storage.durable import IncomingFolder, discard, publish, remove
from gatehouse.storage.xet.chunk_table import ChunkTable
from gatehouse.storage.xet.store import (
    READ_BUFFER_SIZE,
    Xorb,
    XorbDamaged,
    XorbNotFound,
    prove_xorb,
    read_chunks,
)
from gatehouse.storage.xet.xorb import XorbInvalid, scan_xorb

# About 40 KB each for usual xorbs, 330 KB at most; a large file returns to its xorbs many times.
_NUM_CACHED_TABLES = 128


class DiskXorbStore:
    """A `XorbStore` in one folder, which several processes may use at once.

    `xorbs/ab/cd/<hash>.xorb` holds the chunk records without a footer, and its presence is what
    makes a xorb known. `<hash>.chunks` beside it is `ChunkTable.to_bytes`, derived from the records
    and made again when it is missing. `incoming/` holds what is not proven yet.
    """

    def __init__(self, root: Path) -> None:
        self._xorbs = root / "xorbs"
        self._xorbs.mkdir(parents=True, exist_ok=True)
        self._incoming = IncomingFolder(root / "incoming")
        self._cached_table = lru_cache(_NUM_CACHED_TABLES)(self._load_table)

    def put(self, xorb_hash: str, body: bytes | Path) -> tuple[Xorb, bool]:
        stored = self._incoming.create()
        try:
            table = prove_xorb(xorb_hash, body, stored)
            # The table first: a xorb that is seen should not have to be read again for its table.
            self._write_table(xorb_hash, table)
            is_new = publish(stored, self._path(xorb_hash, "xorb"), self._xorbs)
        except BaseException:
            discard(stored)
            raise
        return Xorb(xorb_hash, table), is_new

    def chunks(self, xorb_hash: str) -> ChunkTable | None:
        # The file is asked each time, since another process may have deleted the xorb.
        return self._cached_table(xorb_hash) if self.path(xorb_hash) else None

    def read(self, xorb_hash: str, start_chunk: int, end_chunk: int) -> Iterator[bytes]:
        table = self.chunks(xorb_hash)
        if table is None:
            raise XorbNotFound(xorb_hash)
        try:
            stored = self._path(xorb_hash, "xorb").open("rb", buffering=READ_BUFFER_SIZE)
        except FileNotFoundError:
            raise XorbNotFound(xorb_hash) from None
        with stored:
            yield from read_chunks(stored, Xorb(xorb_hash, table), start_chunk, end_chunk)

    def path(self, xorb_hash: str) -> Path | None:
        if not is_sha256(xorb_hash):
            return None
        path = self._path(xorb_hash, "xorb")
        return path if path.is_file() else None

    def delete(self, xorb_hash: str) -> None:
        if is_sha256(xorb_hash):
            remove(self._path(xorb_hash, "xorb"))
            remove(self._path(xorb_hash, "chunks"))

    def _load_table(self, xorb_hash: str) -> ChunkTable:
        path = self._path(xorb_hash, "chunks")
        try:
            table = ChunkTable.from_bytes(path.read_bytes())
        except FileNotFoundError:
            table = None
        return table or self._derive_table(xorb_hash)

    def _derive_table(self, xorb_hash: str) -> ChunkTable:
        with self._path(xorb_hash, "xorb").open("rb", buffering=READ_BUFFER_SIZE) as stored:
            try:
                actual, table = scan_xorb(stored, lambda _: None)
            except XorbInvalid as error:
                raise XorbDamaged(xorb_hash) from error
        if actual != xorb_hash:
            raise XorbDamaged(xorb_hash)
        remove(self._path(xorb_hash, "chunks"))
        self._write_table(xorb_hash, table)
        return table

    def _write_table(self, xorb_hash: str, table: ChunkTable) -> None:
        file = self._incoming.create()
        try:
            file.write(table.to_bytes())
            publish(file, self._path(xorb_hash, "chunks"), self._xorbs)
        except BaseException:
            discard(file)
            raise

    def _path(self, xorb_hash: str, suffix: str) -> Path:
        return self._xorbs / xorb_hash[:2] / xorb_hash[2:4] / f"{xorb_hash}.{suffix}"
