"""Code that takes too much processor time is ended; code that waits, or is quick, is not."""

import threading
import time
from collections.abc import Callable

import pytest

from gatehouse.engines import processor_limit
from gatehouse.engines.processor_limit import ProcessorLimit, ProcessorTimeExceeded


def loop() -> None:
    while True:
        sum(range(100))


def swallow() -> None:
    while True:
        try:
            loop()
        except Exception:  # noqa: BLE001 - as foreign code may
            continue


@pytest.mark.parametrize("function", [loop, swallow])
def test_a_loop_is_ended(function: Callable[[], None]) -> None:
    started = time.thread_time()
    with pytest.raises(ProcessorTimeExceeded):
        ProcessorLimit(0.2).run(function)
    assert time.thread_time() - started < 5


def test_what_is_quick_goes_on() -> None:
    limit = ProcessorLimit(0.2)
    assert [limit.run(lambda: "done") for _ in range(1000)] == ["done"] * 1000


def test_waiting_takes_no_processor_time() -> None:
    assert ProcessorLimit(0.1).run(lambda: time.sleep(0.5)) is None


def test_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError):
        ProcessorLimit(0.2).run(lambda: 1 / 0)


def test_only_the_guilty_thread_is_ended() -> None:
    limit = ProcessorLimit(0.5)
    ended = threading.Event()

    def guilty() -> None:
        with pytest.raises(ProcessorTimeExceeded):
            limit.run(loop)
        ended.set()

    thread = threading.Thread(target=guilty)
    thread.start()
    while not ended.is_set():
        limit.run(lambda: sum(range(1000)))
    thread.join()


def test_interruptions_that_come_late_hit_nothing_else() -> None:
    # Over its time in one call of C, so that the interruption is still to be raised at its end.
    limit = ProcessorLimit(0.01)
    for _ in range(3):
        try:
            limit.run(lambda: sum(range(20_000_000)))
        except ProcessorTimeExceeded:
            continue
    end = time.thread_time() + 0.5
    while time.thread_time() < end:
        sum(range(100))


def test_nothing_is_watched_when_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor_limit, "_IDLE_LOOKS", 1)
    limit = ProcessorLimit(0.1)
    for _ in range(2):
        limit.run(lambda: None)
        assert limit._is_watched
        deadline = time.monotonic() + 10
        while limit._is_watched:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with pytest.raises(ProcessorTimeExceeded):
        limit.run(loop)
