import os
import random
from pathlib import Path

import pytest
from xet_encoder import encode_xorb, xorb_hash

from gatehouse.storage.xet.compression import Scheme
from gatehouse.storage.xet.disk import DiskXorbStore
from gatehouse.storage.xet.hashes import HashInvalid
from gatehouse.storage.xet.store import MemoryXorbStore, XorbDamaged, XorbNotFound, XorbStore
from gatehouse.storage.xet.xorb import XorbInvalid, parse_xorb

RANDOM = random.Random(3)
CHUNKS = [RANDOM.randbytes(RANDOM.randrange(100, 20000)) for _ in range(6)] + [bytes(8000)]
BODY = encode_xorb(CHUNKS, list(Scheme))
NAME = xorb_hash(CHUNKS)
OTHER = xorb_hash([b"other"])


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> XorbStore:
    return DiskXorbStore(tmp_path / "store") if request.param == "disk" else MemoryXorbStore()


@pytest.fixture
def disk(tmp_path: Path) -> DiskXorbStore:
    return DiskXorbStore(tmp_path / "store")


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("as_file", [False, True])
def test_a_xorb_is_kept_and_read_back(store: XorbStore, tmp_path: Path, as_file: bool) -> None:
    spool = tmp_path / "spool"
    spool.write_bytes(BODY)
    xorb, was_inserted = store.put(NAME, spool if as_file else BODY)
    assert was_inserted
    assert xorb.hash == NAME
    assert xorb.chunks == store.chunks(NAME) == parse_xorb(BODY)[1]
    assert list(store.read(NAME, 0, 7)) == CHUNKS
    assert list(store.read(NAME, 2, 4)) == CHUNKS[2:4]
    assert spool.read_bytes() == BODY


def test_a_second_put_inserts_nothing(store: XorbStore) -> None:
    store.put(NAME, BODY)
    xorb, was_inserted = store.put(NAME, BODY)
    assert not was_inserted
    assert xorb.chunks == store.chunks(NAME)


def test_a_known_name_does_not_excuse_wrong_bytes(store: XorbStore) -> None:
    """Else whoever knows a hash could claim to have uploaded its bytes."""
    store.put(NAME, BODY)
    with pytest.raises(XorbInvalid, match=f"not `{NAME}`"):
        store.put(NAME, encode_xorb([b"other"]))
    assert list(store.read(NAME, 0, 7)) == CHUNKS


def test_a_wrong_name_is_refused_and_nothing_is_kept(store: XorbStore) -> None:
    with pytest.raises(XorbInvalid, match=f"has hash `{NAME}`, not `{OTHER}`"):
        store.put(OTHER, BODY)
    assert store.chunks(OTHER) is None
    assert store.chunks(NAME) is None


def test_a_name_that_is_no_hash_is_refused(store: XorbStore) -> None:
    with pytest.raises(HashInvalid):
        store.put("../" * 20 + "etc", BODY)
    assert store.chunks("../" * 20 + "etc") is None
    assert store.path("../" * 20 + "etc") is None
    store.delete("../" * 20 + "etc")


def test_an_unknown_xorb_is_not_read(store: XorbStore) -> None:
    assert store.chunks(OTHER) is None
    with pytest.raises(XorbNotFound, match=OTHER):
        next(store.read(OTHER, 0, 1))


def test_a_deleted_xorb_is_unknown(store: XorbStore) -> None:
    store.put(NAME, BODY)
    assert store.chunks(NAME) is not None
    store.delete(NAME)
    assert store.chunks(NAME) is None
    with pytest.raises(XorbNotFound):
        next(store.read(NAME, 0, 1))


@pytest.mark.parametrize("as_file", [False, True])
def test_a_body_over_the_limit_is_refused_unread(
    store: XorbStore, tmp_path: Path, as_file: bool
) -> None:
    spool = tmp_path / "spool"
    with spool.open("wb") as file:
        file.write(BODY + b"XETBLOB\x01")
        file.truncate(72 * 1024 * 1024 + 1)
    with pytest.raises(XorbInvalid, match="larger than 75497472 bytes"):
        store.put(NAME, spool if as_file else spool.read_bytes())


def test_disk_stores_the_records_without_the_footer(disk: DiskXorbStore) -> None:
    disk.put(NAME, BODY + b"XETBLOB\x01 and more")
    path = disk.path(NAME)
    assert path is not None
    assert path.read_bytes() == BODY


def test_disk_keeps_nothing_of_a_refused_body(disk: DiskXorbStore, tmp_path: Path) -> None:
    for body in (BODY[:-1], b"", encode_xorb([b"other"])):
        with pytest.raises(XorbInvalid):
            disk.put(NAME, body)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("spoil", [None, b"", b"GHchunks of a later version"])
def test_a_missing_or_foreign_table_is_derived_anew(
    disk: DiskXorbStore, tmp_path: Path, spoil: bytes | None
) -> None:
    disk.put(NAME, BODY)
    [table] = tmp_path.rglob("*.chunks")
    right = table.read_bytes()
    table.unlink()
    if spoil is not None:
        table.write_bytes(spoil)
    fresh = DiskXorbStore(tmp_path / "store")
    assert fresh.chunks(NAME) == parse_xorb(BODY)[1]
    assert list(fresh.read(NAME, 1, 3)) == CHUNKS[1:3]
    assert table.read_bytes() == right


def test_damage_on_disk_is_the_servers_fault(disk: DiskXorbStore) -> None:
    disk.put(NAME, BODY)
    path = disk.path(NAME)
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(BODY[: len(BODY) // 2])
    with pytest.raises(XorbDamaged, match="damaged"):
        list(disk.read(NAME, 0, 7))
    path.write_bytes(BODY[len(BODY) // 2 :])
    with pytest.raises(XorbDamaged):
        list(disk.read(NAME, 0, 7))
    path.write_bytes(encode_xorb(CHUNKS[::-1]))
    with pytest.raises(XorbDamaged):
        list(disk.read(NAME, 0, 7))


def test_a_damaged_xorb_yields_no_table(disk: DiskXorbStore, tmp_path: Path) -> None:
    disk.put(NAME, BODY)
    path = disk.path(NAME)
    assert path is not None
    [table] = tmp_path.rglob("*.chunks")
    table.unlink()
    path.chmod(0o600)
    path.write_bytes(encode_xorb([b"other"]))
    with pytest.raises(XorbDamaged):
        DiskXorbStore(tmp_path / "store").chunks(NAME)


def test_a_xorb_put_by_another_process_is_seen(tmp_path: Path) -> None:
    here, there = DiskXorbStore(tmp_path), DiskXorbStore(tmp_path)
    assert here.chunks(NAME) is None
    there.put(NAME, BODY)
    assert here.chunks(NAME) is not None
    there.delete(NAME)
    assert here.chunks(NAME) is None


def test_a_crash_at_any_sync_leaves_a_whole_xorb_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync
    outcomes: list[bool] = []
    for survivors in range(20):
        left = survivors

        def crash(descriptor: int) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            original(descriptor)

        root = tmp_path / str(survivors)
        store = DiskXorbStore(root)
        finished = True
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", crash)
            try:
                store.put(NAME, BODY)
            except KeyboardInterrupt:
                finished = False
        known = DiskXorbStore(root)
        outcomes.append(known.chunks(NAME) is not None)
        if outcomes[-1]:
            assert list(known.read(NAME, 0, 7)) == CHUNKS
        assert known.put(NAME, BODY)[1] is not outcomes[-1]
        if finished:
            break
    else:
        pytest.fail("the put never finished")
    assert outcomes[0] is False
    assert outcomes[-1] is True
    assert outcomes == sorted(outcomes)
