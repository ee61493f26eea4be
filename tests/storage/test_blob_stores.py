"""What every blob store promises, and what the one on disk promises besides."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatehouse.storage.base import BlobNotFound, BlobStore, DigestMismatch, SizeMismatch
from gatehouse.storage.disk import DiskBlobStore
from gatehouse.storage.durable import STALE_AFTER_SECONDS
from gatehouse.storage.memory import MemoryBlobStore

DATA = b"some weights" * 1000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return DiskBlobStore(tmp_path) if request.param == "disk" else MemoryBlobStore()


def put(store: BlobStore, data: bytes = DATA) -> str:
    with store.begin() as upload:
        upload.write(data)
        return upload.finish().sha256


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_finished_upload_is_read_back(store: BlobStore) -> None:
    with store.begin() as upload:
        upload.write(DATA[:100])
        upload.write(memoryview(DATA)[100:])
        stored = upload.finish(SHA256, len(DATA))
    assert (stored.sha256, stored.size) == (SHA256, len(DATA))
    assert store.size(SHA256) == len(DATA)
    with store.open(SHA256) as reader:
        reader.seek(7)
        assert reader.read() == DATA[7:]


def test_an_empty_blob_can_be_stored(store: BlobStore) -> None:
    assert store.size(put(store, b"")) == 0


def test_the_same_bytes_can_be_stored_twice(store: BlobStore) -> None:
    assert put(store) == put(store) == SHA256
    with store.open(SHA256) as reader:
        assert reader.read() == DATA


def test_wrong_digest_is_refused_and_nothing_is_stored(store: BlobStore) -> None:
    other = hashlib.sha256(b"other").hexdigest()
    with store.begin() as upload:
        upload.write(DATA)
        with pytest.raises(DigestMismatch, match=other):
            upload.finish(other)
    assert store.size(other) is None
    assert store.size(SHA256) is None


def test_wrong_size_is_refused_and_nothing_is_stored(store: BlobStore) -> None:
    with store.begin() as upload:
        upload.write(DATA)
        with pytest.raises(SizeMismatch, match=f"{len(DATA)} bytes, not 3"):
            upload.finish(SHA256, 3)
    assert store.size(SHA256) is None


def test_an_upload_that_is_left_early_is_forgotten(store: BlobStore) -> None:
    def leave() -> None:
        with store.begin() as upload:
            upload.write(DATA)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        leave()
    assert store.size(SHA256) is None


@pytest.mark.parametrize("name", ["0" * 64, "", "../../etc/passwd", SHA256.upper(), SHA256[:-1]])
def test_unknown_names_and_names_that_are_no_digest_are_not_found(
    store: BlobStore, name: str
) -> None:
    put(store)
    assert store.size(name) is None
    assert store.path(name) is None
    store.delete(name)
    with pytest.raises(BlobNotFound):
        store.open(name)


def test_a_deleted_blob_is_gone_but_open_readers_go_on(store: BlobStore) -> None:
    put(store)
    with store.open(SHA256) as reader:
        store.delete(SHA256)
        assert reader.read() == DATA
    assert store.size(SHA256) is None


def test_disk_gives_a_read_only_file_in_its_layout(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)
    put(store)
    path = store.path(SHA256)
    assert path == tmp_path / "objects" / SHA256[:2] / SHA256[2:4] / SHA256
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o222 == 0


def test_memory_has_no_local_file() -> None:
    store = MemoryBlobStore()
    put(store)
    assert store.path(SHA256) is None


@pytest.mark.parametrize("spoil", ["digest", "size", "abort"])
def test_disk_keeps_no_temporary_file_of_a_failed_upload(tmp_path: Path, spoil: str) -> None:
    with DiskBlobStore(tmp_path).begin() as upload:
        upload.write(DATA)
        assert len(files_below(tmp_path)) == 1
        if spoil == "digest":
            with pytest.raises(DigestMismatch):
                upload.finish("0" * 64)
        elif spoil == "size":
            with pytest.raises(SizeMismatch):
                upload.finish(size=1)
    assert files_below(tmp_path) == []


def test_storing_again_keeps_the_file_and_marks_it_as_used(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)
    put(store)
    path = store.path(SHA256)
    assert path is not None
    os.utime(path, (0, 0))
    inode = path.stat().st_ino
    put(store)
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 0
    assert files_below(tmp_path) == [path]


def test_only_stale_temporary_files_are_removed_at_start(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    with DiskBlobStore(tmp_path).begin() as living:
        stale = incoming / "stale"
        stale.write_bytes(b"left by a crash")
        long_ago = time.time() - STALE_AFTER_SECONDS - 60
        os.utime(stale, (long_ago, long_ago))
        store = DiskBlobStore(tmp_path)
        assert not stale.exists()
        living.write(DATA)
        living.finish(SHA256)
    assert store.size(SHA256) == len(DATA)


SYSTEM_CALLS = ["fsync", "fchmod", "utime"]


@pytest.mark.parametrize("call", SYSTEM_CALLS)
def test_a_crash_while_finishing_leaves_a_whole_blob_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Stops at every system call in turn, as a kill would, and looks at what is there then."""
    original: Callable[..., object] = getattr(os, call)
    for survivors in range(20):
        root = tmp_path / str(survivors)
        store = DiskBlobStore(root)
        left = survivors

        def crash(*arguments: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return original(*arguments, **options)

        finished = False
        with monkeypatch.context() as patch, store.begin() as upload:
            upload.write(DATA)
            patch.setattr(os, call, crash)
            try:
                upload.finish(SHA256)
                finished = True
            except KeyboardInterrupt:
                pass
        path = store.path(SHA256)
        assert path is None or path.read_bytes() == DATA
        assert put(store) == SHA256
        if finished:
            assert path is not None
            return
    pytest.fail("the upload never finished")


def test_bytes_and_every_new_name_are_synced_before_finish_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DiskBlobStore(tmp_path)
    synced: list[tuple[Path, bool]] = []
    original = os.fsync

    def record(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((name, (tmp_path / "objects" / SHA256[:2] / SHA256[2:4] / SHA256).exists()))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    put(store)
    objects = tmp_path / "objects"
    first, *rest = synced
    assert first[0].parent == tmp_path / "incoming"
    assert not first[1], "the bytes must be durable before the name exists"
    assert rest == [
        (objects / SHA256[:2] / SHA256[2:4], True),
        (objects / SHA256[:2], True),
        (objects, True),
    ]
