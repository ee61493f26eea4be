"""Blocking calls in a thread of their own."""

import threading
import time
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest

from gatehouse.core import own_thread
from gatehouse.core.own_thread import OwnThread

pytestmark = pytest.mark.anyio

NAME = ContextVar("NAME", default="")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_calls_run_in_one_thread_with_the_callers_context() -> None:
    thread = OwnThread("mine")
    NAME.set("somebody")

    def call(number: int, *, factor: int) -> tuple[int, str, str]:
        return number * factor, threading.current_thread().name, NAME.get()

    assert await thread.run(call, 2, factor=3) == (6, "mine", "somebody")


async def test_errors_are_raised_where_they_are_waited_for_and_the_thread_goes_on() -> None:
    thread = OwnThread("mine")
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(lambda: 5) == 5


async def test_the_loop_goes_on_and_calls_keep_their_order() -> None:
    thread, done = OwnThread("mine"), list[int]()

    def call(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(thread.run, call, number)
            await anyio.lowlevel.checkpoint()
        assert len(done) < 5
    assert done == list(range(5))


async def test_call_that_was_begun_is_waited_for_though_cancelled() -> None:
    thread, done = OwnThread("mine"), list[str]()

    def call() -> None:
        time.sleep(0.05)
        done.append("call")

    with anyio.move_on_after(0.01) as scope:
        await thread.run(call)
        done.append("after")
        await anyio.sleep(1)
        done.append("never")
    assert scope.cancelled_caught
    assert done == ["call", "after"]


async def test_idle_thread_ends_and_another_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_thread, "_IDLE_SECONDS", 0.01)
    thread = OwnThread("short-lived")
    for _ in range(3):
        assert await thread.run(threading.get_ident) != threading.get_ident()
        with anyio.fail_after(5):
            while any(  # noqa: ASYNC110 - a thread's end wakes nobody
                other.name == "short-lived" for other in threading.enumerate()
            ):
                await anyio.sleep(0.01)
