"""What calls used, on its way to the database."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date

import pytest
from factories import Hub

from gatehouse.identity.counters import Change
from gatehouse.inference.plans.ledger import Ledger
from gatehouse.inference.plans.usage import Figures, Usage, UsageKey

KEY = UsageKey(date(2026, 1, 2), user_id=1, token_id=2, organization_id=0, repository_id=3)
ONE = Figures(num_requests=1, num_generated_tokens=10, seconds=0.5)


class Settled(list[Change]):
    """Keeps what it is asked to settle; fails while it is broken."""

    is_broken = False

    def __call__(self, changes: Sequence[Change]) -> None:
        if self.is_broken:
            raise OSError("the disk is gone")
        self.extend(changes)


@pytest.fixture
def settled() -> Settled:
    return Settled()


@pytest.fixture
def ledger(hub: Hub, settled: Settled) -> Iterator[Ledger]:
    ledger = Ledger(Usage(hub.database), settled, flush_seconds=0.05)
    yield ledger
    ledger.close()


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def figures(hub: Hub) -> list[Figures]:
    return [line.figures for line in Usage(hub.database).lines()]


def test_entries_are_written_soon_without_anybody_waiting(
    hub: Hub, ledger: Ledger, settled: Settled
) -> None:
    ledger.enter([Change("a", 1, -5)], KEY, ONE)
    assert eventually(lambda: settled == [Change("a", 1, -5)])
    assert eventually(lambda: figures(hub) == [ONE])


def test_rows_add_up(hub: Hub, ledger: Ledger) -> None:
    for _ in range(3):
        ledger.enter([], KEY, ONE)
        ledger.flush()
    ledger.enter([], KEY, ONE)
    ledger.enter([], KEY, None)
    ledger.close()
    assert figures(hub) == [Figures(num_requests=4, num_generated_tokens=40, seconds=2.0)]


def test_what_could_not_be_written_is_tried_again(
    hub: Hub, ledger: Ledger, settled: Settled
) -> None:
    settled.is_broken = True
    ledger.enter([Change("a", 1, -5)], KEY, ONE)
    with pytest.raises(OSError, match="the disk is gone"):
        ledger.flush()
    ledger.enter([Change("a", 1, -2), Change("b", 1, -1)], KEY, ONE)
    settled.is_broken = False
    assert eventually(lambda: sorted(settled, key=str) == [Change("a", 1, -7), Change("b", 1, -1)])
    assert eventually(lambda: figures(hub) == [ONE + ONE])


def test_nothing_is_lost_or_counted_twice_under_many_threads(
    hub: Hub, ledger: Ledger, settled: Settled
) -> None:
    def enter() -> None:
        for _ in range(200):
            ledger.enter([Change("a", 1, -1)], KEY, ONE)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    assert sum(change.amount for change in settled) == -800
    assert figures(hub)[0].num_requests == 800
