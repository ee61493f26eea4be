"""Counts in memory and in a database: the same promises."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gatehouse.db.engine import Database
from gatehouse.identity.counters import (
    Change,
    Count,
    Counters,
    CountersBusy,
    MemoryCounters,
    Want,
    WindowFull,
)
from gatehouse.identity.database_counters import DatabaseCounters

_NOW = 1_000_000


@pytest.fixture(params=["memory", "database"])
def counters(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Counters]:
    if request.param == "memory":
        yield MemoryCounters()
        return
    database = open_database(tmp_path)
    yield DatabaseCounters(database)
    database.dispose()


def open_database(folder: Path) -> Database:
    return Database(f"sqlite:///{folder / 'counters.db'}", is_durable=False)


def want(key: str = "a", amount: int = 1, limit: int = 10, window_seconds: int = 60) -> Want:
    return Want(key, amount, limit, window_seconds)


def test_amounts_add_up_in_a_window_that_the_first_one_opens(counters: Counters) -> None:
    assert counters.take([want(amount=3)], _NOW) == (Count(3, _NOW + 60),)
    assert counters.take([want(amount=4)], _NOW + 59) == (Count(7, _NOW + 60),)
    assert counters.take([want(amount=4)], _NOW + 60) == (Count(4, _NOW + 120),)


def test_what_does_not_fit_is_not_taken(counters: Counters) -> None:
    counters.take([want(amount=8)], _NOW)
    with pytest.raises(WindowFull) as caught:
        counters.take([want(amount=3)], _NOW + 10)
    assert caught.value.count == Count(8, _NOW + 60)
    assert counters.take([want(amount=2)], _NOW + 10) == (Count(10, _NOW + 60),)


def test_more_than_the_limit_never_fits(counters: Counters) -> None:
    with pytest.raises(WindowFull) as caught:
        counters.take([want(amount=11)], _NOW)
    assert caught.value.count == Count(0, _NOW + 60)


def test_all_or_nothing_is_taken(counters: Counters) -> None:
    counters.take([want("b", amount=9)], _NOW)
    with pytest.raises(WindowFull) as caught:
        counters.take([want("a"), want("b", amount=2)], _NOW)
    assert caught.value.want.key == "b"
    assert counters.read("a", 60, _NOW).used == 0
    assert counters.read("b", 60, _NOW).used == 9


def test_a_lower_limit_holds_for_what_was_taken_before(counters: Counters) -> None:
    counters.take([want(amount=8)], _NOW)
    with pytest.raises(WindowFull):
        counters.take([want(limit=5)], _NOW)


def test_corrections_hold_for_their_window_only(counters: Counters) -> None:
    (first,) = counters.take([want(amount=8)], _NOW)
    counters.change([Change("a", first.ends_at, -3)])
    assert counters.read("a", 60, _NOW).used == 5
    counters.change([Change("a", first.ends_at, -100)])
    assert counters.read("a", 60, _NOW).used == 0
    (second,) = counters.take([want(amount=7)], _NOW + 60)
    counters.change([Change("a", first.ends_at, -3), Change("nobody", 1, 5)])
    assert counters.read("a", 60, _NOW + 60) == second


def test_a_forgotten_key_starts_anew(counters: Counters) -> None:
    counters.take([want("a", amount=9), want("b", amount=9)], _NOW)
    counters.clear("a")
    assert counters.read("a", 60, _NOW).used == 0
    assert counters.read("b", 60, _NOW).used == 9


def test_windows_that_ended_are_swept_away(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    counters = DatabaseCounters(database)
    for number in range(20):
        counters.take([want(f"stranger {number}")], _NOW)
    counters.take([want("last")], _NOW + 700)
    with database.read() as session:
        left = session.connection().exec_driver_sql("SELECT key FROM counters_1").scalars().all()
    assert left == ["last"]
    database.dispose()


def test_what_may_not_wait_counts_like_what_may(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    counters = DatabaseCounters(database)
    (first,) = counters.take([want(amount=3)], _NOW)
    assert counters.take([want(amount=4)], _NOW, may_wait=False) == (Count(7, first.ends_at),)
    with pytest.raises(WindowFull):
        counters.take([want("b"), want(amount=4)], _NOW, may_wait=False)
    counters.change([Change("a", first.ends_at, -5)], may_wait=False)
    assert counters.read("a", 60, _NOW).used == 2
    assert counters.read("b", 60, _NOW).used == 0
    database.dispose()


def test_what_may_not_wait_changes_nothing_while_another_writes(tmp_path: Path) -> None:
    database, other = open_database(tmp_path), open_database(tmp_path)
    counters = DatabaseCounters(database)
    (count,) = counters.take([want()], _NOW)
    with other.write() as session:
        session.connection()  # which begins the transaction
        with pytest.raises(CountersBusy):
            counters.take([want()], _NOW, may_wait=False)
        with pytest.raises(CountersBusy):
            counters.change([Change("a", count.ends_at, 5)], may_wait=False)
    assert counters.read("a", 60, _NOW).used == 1
    database.dispose()
    other.dispose()


def test_counts_that_do_not_wait_leave_no_endless_log(tmp_path: Path) -> None:
    database = open_database(tmp_path)
    counters = DatabaseCounters(database)
    num_waited = 0
    for _ in range(3000):
        try:
            counters.take([want(limit=5000)], _NOW, may_wait=False)
        except CountersBusy:
            counters.take([want(limit=5000)], _NOW)
            num_waited += 1
    assert counters.read("a", 60, _NOW).used == 3000
    assert 0 < num_waited < 30
    assert (tmp_path / "counters.db-wal").stat().st_size < 8 * 2**20
    database.dispose()


def test_a_burst_over_two_workers_takes_the_limit_and_no_more(tmp_path: Path) -> None:
    databases = [open_database(tmp_path) for _ in range(2)]
    workers = [DatabaseCounters(database) for database in databases]

    def take(number: int) -> bool:
        try:
            workers[number % 2].take([want(limit=37), want("b", 3, limit=1000)], _NOW)
        except WindowFull:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(take, range(200))) == 37
    assert workers[0].read("b", 60, _NOW).used == 111
    for database in databases:
        database.dispose()


def test_a_burst_over_two_processes_takes_the_limit_and_no_more(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from gatehouse.db.engine import Database\n"
        "from gatehouse.identity.counters import Want, WindowFull\n"
        "from gatehouse.identity.database_counters import DatabaseCounters\n"
        f"database = Database('sqlite:///{tmp_path / 'counters.db'}', is_durable=False)\n"
        "counters = DatabaseCounters(database)\n"
        "print('ready', flush=True); sys.stdin.readline(); num_taken = 0\n"
        "for _ in range(400):\n"
        "    try:\n"
        f"        counters.take([Want('a', 1, 300, 60)], {_NOW})\n"
        "        num_taken += 1\n"
        "    except WindowFull: pass\n"
        "print(num_taken)\n"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    taken = [int(worker.communicate()[0]) for worker in workers]
    assert sum(taken) == 300
    assert all(worker.returncode == 0 for worker in workers)
