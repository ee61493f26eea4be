"""What one task is left by another."""

import anyio
import pytest

from gatehouse.inference.lifecycle.mailbox import Mailbox

pytestmark = pytest.mark.anyio


async def test_everything_is_taken_at_once_and_in_order() -> None:
    mailbox = Mailbox[int]()
    for number in range(3):
        mailbox.put(number)
    assert await mailbox.take() == [0, 1, 2]
    mailbox.put(3)
    assert await mailbox.take() == [3]


async def test_reader_waits_for_the_next_item() -> None:
    mailbox = Mailbox[str]()
    taken: list[list[str]] = []

    async def read() -> None:
        while items := await mailbox.take():
            taken.append(items)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            mailbox.put("a")
            await anyio.wait_all_tasks_blocked()
            mailbox.put("b")
            mailbox.put("c")
            await anyio.wait_all_tasks_blocked()
            mailbox.close()
    assert taken == [["a"], ["b", "c"]]


async def test_what_came_before_the_end_is_still_taken() -> None:
    mailbox = Mailbox[int]()
    mailbox.put(1)
    mailbox.close()
    assert await mailbox.take() == [1]
    assert await mailbox.take() == []


async def test_reader_that_gives_up_loses_nothing() -> None:
    mailbox = Mailbox[int]()
    with anyio.move_on_after(0.01):
        await mailbox.take()
    mailbox.put(1)
    assert await mailbox.take() == [1]
