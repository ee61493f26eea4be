"""The response cache: what is shared, what is not, and how it stays small."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.cache.answer_store import AnswerStore
from gatehouse.inference.cache.flight_locks import FlightLocks
from gatehouse.inference.cache.response_cache import (
    CacheOutcome,
    CacheScope,
    CacheUse,
    ResponseCache,
    cache_key,
    cache_use,
    open_response_cache,
)

pytestmark = pytest.mark.anyio


KEY = "ab" * 32


def answer(text: str = "x", size: int = 1) -> CachedAnswer:
    return CachedAnswer(text.encode() * size, 1, 1, 1)


@dataclass
class Shelf:
    """A cache over a file of its own, with a clock to be turned."""

    folder: Path
    max_bytes: int = 10**6
    max_entries: int = 1000
    now: float = 1000.0
    opened: list[ResponseCache] = field(default_factory=list)

    def store(self) -> AnswerStore:
        path = self.folder / "answers.db"
        return AnswerStore(path, self.max_bytes, 10.0, self.max_entries, lambda: self.now)

    def open(self) -> ResponseCache:
        cache = ResponseCache(self.store(), FlightLocks(self.folder / "locks"))
        self.opened.append(cache)
        return cache


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    for cache in shelf.opened:
        cache.close()


class Runs:
    """Gives a new answer at each run."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> CachedAnswer:
        self.count += 1
        await anyio.lowlevel.checkpoint()
        return answer(f"answer {self.count}")


async def get(
    cache: ResponseCache, runs: Runs, use: CacheUse = CacheUse.READ, key: str = KEY
) -> tuple[bytes, CacheOutcome]:
    found, outcome = await cache.get_or_run(key, "someone", use, runs)
    return found.body, outcome


async def test_second_reading_is_a_hit_and_refresh_replaces_it(shelf: Shelf) -> None:
    cache, runs = shelf.open(), Runs()
    assert await get(cache, runs) == (b"answer 1", CacheOutcome.MISS)
    assert await get(cache, runs) == (b"answer 1", CacheOutcome.HIT)
    assert await get(cache, runs, CacheUse.REFRESH) == (b"answer 2", CacheOutcome.BYPASS)
    assert await get(cache, runs) == (b"answer 2", CacheOutcome.HIT)
    assert await get(cache, runs, CacheUse.AVOID) == (b"answer 3", CacheOutcome.BYPASS)
    assert await get(cache, runs) == (b"answer 2", CacheOutcome.HIT)


async def test_equal_requests_at_once_are_one_run(shelf: Shelf) -> None:
    cache, runs = shelf.open(), Runs()
    found = []

    async def read() -> None:
        found.append(await get(cache, runs))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(read)
    assert runs.count == 1
    assert {body for body, _ in found} == {b"answer 1"}


async def test_one_that_waits_runs_itself_when_the_first_leaves(shelf: Shelf) -> None:
    cache, runs = shelf.open(), Runs()
    found = []

    async def hang() -> CachedAnswer:
        await anyio.sleep_forever()
        raise AssertionError

    async def read() -> None:
        found.append(await get(cache, runs))

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.05):
            tasks.start_soon(read)
            await cache.get_or_run(KEY, "someone", CacheUse.READ, hang)
    assert found == [(b"answer 1", CacheOutcome.MISS)]


async def test_error_is_raised_and_not_kept(shelf: Shelf) -> None:
    cache, runs = shelf.open(), Runs()

    async def fail() -> CachedAnswer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cache.get_or_run(KEY, "someone", CacheUse.READ, fail)
    assert await get(cache, runs) == (b"answer 1", CacheOutcome.MISS)


async def test_answers_grow_old(shelf: Shelf) -> None:
    cache, runs = shelf.open(), Runs()
    await get(cache, runs)
    shelf.now += 10.0
    assert (await get(cache, runs))[1] is CacheOutcome.HIT
    shelf.now += 0.5
    assert (await get(cache, runs))[1] is CacheOutcome.MISS
    assert shelf.store().count()[0] == 1


async def test_answers_do_not_outlive_a_clock_that_was_set_back(shelf: Shelf) -> None:
    cache, runs = shelf.open(), Runs()
    await get(cache, runs)
    shelf.now -= 3600.0
    assert (await get(cache, runs))[1] is CacheOutcome.MISS


async def test_answers_survive_a_restart_and_are_shared_with_other_workers(shelf: Shelf) -> None:
    runs = Runs()
    await get(shelf.open(), runs)
    other = shelf.open()
    assert await get(other, runs) == (b"answer 1", CacheOutcome.HIT)
    assert await get(other, runs, CacheUse.REFRESH) == (b"answer 2", CacheOutcome.BYPASS)
    assert await get(shelf.opened[0], runs) == (b"answer 2", CacheOutcome.HIT)


async def test_bytes_entries_and_owners_are_bounded(shelf: Shelf) -> None:
    shelf.max_bytes, shelf.max_entries = 20_000, 24
    cache = shelf.open()

    async def fill(key: str, owner: str, size: int = 2000) -> None:
        async def run() -> CachedAnswer:
            return answer(size=size)

        await cache.get_or_run(key.encode().hex().ljust(32, "0"), owner, CacheUse.READ, run)

    def is_kept(key: str) -> bool:
        return shelf.store().find(key.encode().hex().ljust(32, "0")) is not None

    await fill("theirs", "other")
    for number in range(20):
        await fill(f"{number}", "greedy")
    assert shelf.store().count()[1] <= 20_000 // 4 + 2600
    assert is_kept("theirs")
    assert is_kept("19")
    assert not is_kept("1")
    await fill("huge", "greedy", 10_000)
    assert not is_kept("huge")
    for number in range(60):
        await fill(f"tiny {number}", "greedy", 1)
    assert shelf.store().count()[0] <= 1 + 24 // 4
    assert is_kept("theirs")
    for number in range(60):
        await fill(f"small {number}", f"owner {number}", 10)
    assert shelf.store().count()[0] == 24


async def test_least_recently_used_goes_first(shelf: Shelf) -> None:
    shelf.max_entries, shelf.max_bytes = 100, 4 * 3 * 700
    store = shelf.store()
    for number in range(2):
        shelf.now += 1
        store.keep(f"{number}" * 32, "somebody", answer(size=100))
    shelf.now += 0.5
    store._clock = lambda: shelf.now + 61
    store._max_age_seconds = 1000.0
    assert store.find("0" * 32) is not None
    store.keep("2" * 32, "somebody", answer(size=800))
    assert store.find("0" * 32) is not None
    assert store.find("1" * 32) is None
    store.close()


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 100, None])
async def test_damaged_file_is_begun_anew(shelf: Shelf, damage: bytes | None) -> None:
    cache, runs = shelf.open(), Runs()
    await get(cache, runs)
    path = shelf.folder / "answers.db"
    cache.close()
    if damage is None:
        content = bytearray(path.read_bytes())
        content[200:] = os.urandom(len(content) - 200)
        damage = bytes(content)
    path.write_bytes(damage)
    assert (await get(cache, runs))[1] is CacheOutcome.MISS
    await get(cache, runs)
    assert (await get(cache, runs))[1] is CacheOutcome.HIT


async def test_file_of_another_version_or_shape_is_begun_anew(shelf: Shelf) -> None:
    connection = sqlite3.connect(shelf.folder / "answers.db")
    connection.execute("CREATE TABLE answers (something TEXT)")
    connection.commit()
    connection.close()
    cache, runs = shelf.open(), Runs()
    await get(cache, runs)
    assert (await get(cache, runs))[1] is CacheOutcome.HIT


async def test_file_that_is_deleted_is_made_again_by_all_who_use_it(shelf: Shelf) -> None:
    runs = Runs()
    first, second = shelf.open(), shelf.open()
    await get(first, runs)
    await get(second, runs)
    for path in shelf.folder.glob("answers.db*"):
        path.unlink()
    assert (await get(first, runs))[1] is CacheOutcome.MISS
    assert (await get(second, runs))[1] is CacheOutcome.HIT


async def test_without_room_the_answer_is_given_all_the_same(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, runs = shelf.open(), Runs()
    monkeypatch.setattr(shelf, "folder", shelf.folder / "nowhere")
    cache = shelf.open()
    assert await get(cache, runs) == (b"answer 1", CacheOutcome.MISS)
    assert await get(cache, runs) == (b"answer 2", CacheOutcome.MISS)


def test_file_is_for_its_owner_alone_and_names_nobody(shelf: Shelf) -> None:
    store = shelf.store()
    store.keep(KEY, "address 192.0.2.77", answer("text"))
    store.close()
    path = shelf.folder / "answers.db"
    assert path.stat().st_mode & 0o077 == 0
    assert b"192.0.2.77" not in path.read_bytes()


OTHER_WORKER = """
import sys, time
from pathlib import Path
import anyio
from gatehouse.inference.cache.answer_file import CachedAnswer
from gatehouse.inference.cache.response_cache import CacheUse, open_response_cache

async def run():
    print("running", flush=True)
    await anyio.sleep(float(sys.argv[2]))
    return CachedAnswer(b"theirs", 1, 1, 1)

async def main():
    cache = open_response_cache(Path(sys.argv[1]), 10**6)
    await cache.get_or_run("ab" * 32, "someone", CacheUse.READ, run)
    print("done", flush=True)
    await anyio.sleep(60)

anyio.run(main)
"""


@pytest.fixture
def other_worker(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the request now, for a second."""
    command = [sys.executable, "-c", OTHER_WORKER, str(tmp_path), "1.0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.usefixtures("other_worker")
async def test_equal_requests_in_two_workers_are_one_run(tmp_path: Path) -> None:
    cache, runs = open_response_cache(tmp_path, 10**6), Runs()
    assert await get(cache, runs) == (b"theirs", CacheOutcome.HIT)
    assert runs.count == 0
    cache.close()


async def test_run_of_a_worker_that_is_killed_is_taken_over(
    tmp_path: Path, other_worker: subprocess.Popen[str]
) -> None:
    cache, runs = open_response_cache(tmp_path, 10**6), Runs()
    other_worker.kill()
    other_worker.wait()
    start = time.monotonic()
    assert await get(cache, runs) == (b"answer 1", CacheOutcome.MISS)
    assert time.monotonic() - start < 0.9
    cache.close()


@pytest.mark.usefixtures("other_worker")
async def test_other_requests_do_not_wait_for_the_other_worker(tmp_path: Path) -> None:
    cache, runs = open_response_cache(tmp_path, 10**6), Runs()
    with anyio.fail_after(0.9):
        assert (await get(cache, runs, key="cd" * 32))[1] is CacheOutcome.MISS
    cache.close()


async def test_new_answer_is_given_out_and_again_before_it_is_kept(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_keep = threading.Event()
    keep_all = AnswerStore.keep_all

    def keep_slowly(store: AnswerStore, *what: Any) -> None:
        may_keep.wait(10)
        keep_all(store, *what)

    monkeypatch.setattr(AnswerStore, "keep_all", keep_slowly)
    async with shelf.open() as cache:
        runs = Runs()
        with anyio.fail_after(5):
            assert await get(cache, runs) == (b"answer 1", CacheOutcome.MISS)
            assert await get(cache, runs) == (b"answer 1", CacheOutcome.HIT)
            await anyio.sleep(0.05)  # it is being written by now
            assert await get(cache, runs) == (b"answer 1", CacheOutcome.HIT)
        assert cache.count()[0] == 0
        may_keep.set()
    assert runs.count == 1
    assert cache.count()[0] == 1


async def test_newest_answer_is_the_one_that_stays(shelf: Shelf) -> None:
    async with shelf.open() as cache:
        runs = Runs()
        await get(cache, runs)
        for _ in range(3):
            await get(cache, runs, use=CacheUse.REFRESH)
        assert await get(cache, runs) == (b"answer 4", CacheOutcome.HIT)
    async with shelf.open() as cache:
        assert await get(cache, runs) == (b"answer 4", CacheOutcome.HIT)


async def test_what_is_being_kept_is_kept_though_the_worker_stops(shelf: Shelf) -> None:
    async with shelf.open() as cache:
        await get(cache, Runs())
    assert (await get(shelf.open(), Runs()))[1] is CacheOutcome.HIT


def test_key_tells_apart_what_must_not_be_shared() -> None:
    scope = CacheScope(1, "aa", 0, "text-generation", "list")
    keys = {
        cache_key(changed, job)
        for changed, job in [
            (scope, {"inputs": "a"}),
            (scope, {"inputs": "b"}),
            (CacheScope(2, "aa", 0, "text-generation", "list"), {"inputs": "a"}),
            (CacheScope(1, "bb", 0, "text-generation", "list"), {"inputs": "a"}),
            (CacheScope(1, "aa", 1, "text-generation", "list"), {"inputs": "a"}),
            (CacheScope(1, "aa", 0, "text-generation", "object"), {"inputs": "a"}),
            (CacheScope(1, "aa", 0, "text-generation", "list", "2"), {"inputs": "a"}),
        ]
    }
    assert len(keys) == 7
    assert cache_key(scope, {"a": 1, "b": 2}) == cache_key(scope, {"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("header", "option", "cache_control", "expected"),
    [
        (None, None, None, CacheUse.READ),
        ("0", None, None, CacheUse.REFRESH),
        ("False", True, None, CacheUse.REFRESH),
        ("no", None, None, CacheUse.REFRESH),
        ("OFF", None, None, CacheUse.REFRESH),
        ("1", False, None, CacheUse.READ),
        (None, False, None, CacheUse.REFRESH),
        (None, True, None, CacheUse.READ),
        (None, None, "no-cache", CacheUse.REFRESH),
        (None, None, "max-age=0, No-Store", CacheUse.AVOID),
    ],
)
def test_header_beats_body(
    header: str | None, option: bool | None, cache_control: str | None, expected: CacheUse
) -> None:
    assert cache_use(header, option, cache_control) is expected
